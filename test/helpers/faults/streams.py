"""Faults of the stream of images: time stamps, rate, interruptions, QoS."""

from __future__ import annotations

import time
from itertools import chain, repeat

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from faults.bench import Bench, set_stamp
from faults.suite import fault


@fault('No image for 1.3 s, then they come again.', 'no image for', 'STALE: no image for', short=True)
def silence(bench: Bench) -> None:
    bench.play(bench.good(5))
    time.sleep(1.3)


@fault('The camera is unplugged for 1.3 s: its publisher is gone, and another comes.', 'no image for',
       'STALE: no image for', short=True)
def unplugged_and_back(bench: Bench) -> None:
    bench.play(bench.good(5))
    bench.unplug()
    time.sleep(1.3)


@fault('The driver repeats its last image for 2.6 s, each time with a new time stamp.', 'frozen', 'frozen', short=True)
def frozen_stream(bench: Bench) -> None:
    message, = bench.good(1)
    bench.play(repeat(message, 156))


@fault('The clock of the camera jumps back by an hour.', 'stamp went back by', 'stamps backwards', short=True)
def clock_jumps_back(bench: Bench) -> None:
    bench.play(bench.good(5))
    bench.play(bench.good(10), shift=-3600.0)


@fault('The clock of the camera jumps ahead by an hour, and back.', 'ahead of the clock', 'unknown ages', short=True)
def clock_jumps_ahead(bench: Bench) -> None:
    bench.play(bench.good(10), shift=3600.0)


@fault('Every image has the time stamp of the first.', 'has the stamp of the previous', 'stamps repeated', short=True)
def duplicate_stamps(bench: Bench) -> None:
    stamp = bench.now_ns()

    def images():
        for image in bench.good(20):
            set_stamp(image, stamp)
            yield image
    bench.play(images(), is_stamped=False)


@fault('Pairs of images arrive in the wrong order.', 'stamp went back by', 'stamps backwards')
def reordered_stamps(bench: Bench) -> None:
    images = list(bench.good(20))
    now = bench.now_ns()
    for number, image in enumerate(images):
        set_stamp(image, now + (number ^ 1) * 16_000_000)
    bench.play(images, is_stamped=False)


@fault('The driver sets no time stamps.', 'without a stamp', 'missing stamps', short=True)
def no_stamps(bench: Bench) -> None:
    bench.play(bench.good(20), is_stamped=False)


@fault('Time stamps of the year 2106, the largest that a message can have.', 'ahead of the clock', 'unknown ages')
def largest_stamps(bench: Bench) -> None:
    def images():
        for image in bench.good(10):
            image.header.stamp.sec, image.header.stamp.nanosec = 2**31 - 1, 999_999_999
            yield image
    bench.play(images(), is_stamped=False)


@fault('Negative time stamps.', '', '')
def negative_stamps(bench: Bench) -> None:
    def images():
        for number, image in enumerate(bench.good(10)):
            image.header.stamp.sec, image.header.stamp.nanosec = -100 + number, 5
            yield image
    bench.play(images(), is_stamped=False)


@fault('1,000 images per second for 1 s.', '', '', short=True)
def flood(bench: Bench) -> None:
    bench.play(bench.good(1000), rate=1000.0)


@fault('Ten bursts of 40 images at once, with pauses between them.', '', '')
def bursts(bench: Bench) -> None:
    for _ in range(10):
        bench.play(bench.good(40), rate=1e6)
        time.sleep(0.1)


@fault('One image every 0.7 s.', None, None)
def slow_camera(bench: Bench) -> None:
    bench.play(bench.good(4), rate=1.4)


@fault('A second driver publishes on the same topic, with a clock that is 5 s behind.', 'stamp went back by',
       'stamps backwards')
def two_publishers(bench: Bench) -> None:
    second = bench.client.create_publisher(Image, '/image_raw', QoSProfile(
        depth=10, reliability=ReliabilityPolicy.RELIABLE))
    try:
        for image, other in zip(bench.good(10), bench.good(10), strict=True):
            bench.play([image])
            set_stamp(other, bench.now_ns() - 5 * 10**9)
            second.publish(other)
    finally:
        bench.client.destroy_publisher(second)


@fault('For 3 s, several drivers of one topic, reliable and best-effort, come and go.', None, None)
def drivers_come_and_go(bench: Bench) -> None:
    bench.unplug()
    profiles = [QoSProfile(depth=5, reliability=r) for r in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)]
    end, number = time.monotonic() + 3.0, 0
    while time.monotonic() < end:
        drivers = []
        try:
            for _ in range(3):
                drivers.append(bench.client.create_publisher(Image, '/image_raw', profiles[number % 3 > 1]))
                number += 1
            for image in bench.good(3):
                set_stamp(image, bench.now_ns())
                drivers[number % 3].publish(image)
                time.sleep(0.01)
        finally:
            for driver in drivers:
                bench.client.destroy_publisher(driver)


@fault('A best-effort driver takes the place of a reliable one.', None, None)
def other_reliability(bench: Bench) -> None:
    bench.unplug()
    publisher = bench._publisher = bench.client.image_publisher(qos=QoSProfile(
        depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    assert publisher.get_subscription_count()
    bench.play(chain(bench.good(20)))
    bench.unplug()
