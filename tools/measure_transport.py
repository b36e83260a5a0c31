"""Measures how many images reach the running node, and the time to their results: python tools/measure_transport.py

Starts the node once for each kind of subscription, and a publisher process for each row: size, rate, offered
reliability, and the Fast DDS profile (default or config/fastdds_large_images.xml). Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from array import array
from itertools import product
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import Executor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.live.node_process import NodeProcess, wait_all
from vit_tactile_ros.ros.run import fastest_executor
from vit_tactile_ros.ros.transport import NEW_VARIABLE, OLD_VARIABLE, PUBLISHER_PROFILE, shipped_profile

NAMESPACE = '/measure_transport'
SETTLE = 1.0  # s for discovery before the first image, and for the last result and report


def publish(width: int, height: int, rate: float, count: int, reliability: str, sensors: int) -> None:
    """The publisher's process."""
    rclpy.init()
    node = rclpy.create_node('publisher', namespace=NAMESPACE)
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])
    publishers = [node.create_publisher(Image, topic, qos) for topic in topics(sensors)]
    while not all(publisher.get_subscription_count() for publisher in publishers):
        time.sleep(0.01)
    time.sleep(SETTLE)
    message = Image(height=height, width=width, step=3 * width, encoding='rgb8',
                    data=array('B', bytes(3 * width * height)))
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        for publisher in publishers:
            message.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(message)
    time.sleep(SETTLE)  # a publisher that is destroyed drops unsent messages


def topics(sensors: int, name: str = 'image_raw') -> list[str]:
    return [name] if sensors == 1 else [f's{i}/{name}' for i in range(sensors)]


LEDGER = ('classified', 'superseded', 'rejected', 'paused', 'pending')  # their sum is `received`


def check_sent(publisher: subprocess.Popen) -> None:
    """Raises RunError if the publisher, whose process has ended, failed."""
    if publisher.returncode:
        raise RunError(f'the publisher ended with status {publisher.returncode}, so not all images were sent; must be '
                       'with 0: its message is above')


def spin(executor: Executor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)


def watch(process: subprocess.Popen, executor: Executor) -> None:
    """Spin until the process that publishes has ended; raises RunError if it failed."""
    try:
        while process.poll() is None:
            spin(executor, 0.2)
    finally:
        process.terminate()
        wait_all([process])
    check_sent(process)


class Observer:
    """Collects the node's results and counters."""

    def __init__(self, sensors: int, namespace: str = NAMESPACE) -> None:
        self.ages: list[float] = []  # s, from an image's stamp to the receipt of its result
        self.counts: dict[str, dict[str, int]] = {}  # by sensor
        self._status = f'{namespace.strip("/")}/tactile_classifier: '
        self._node = rclpy.create_node('observer', namespace=namespace)
        self._executor = fastest_executor()
        self._executor.add_node(self._node)
        for topic in topics(sensors, 'tactile'):
            self._node.create_subscription(TactileClassification, topic, self._on_result, 100)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_result(self, result: TactileClassification) -> None:
        stamp = result.header.stamp
        self.ages.append(self._node.get_clock().now().nanoseconds / 1e9 - stamp.sec - stamp.nanosec / 1e9)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            if status.name.startswith(self._status) and 'received' in values:
                self.counts[status.name.removeprefix(self._status)] = {
                    key: int(values.get(key, 0)) for key in ('received', 'lost', 'gated', *LEDGER)}

    def total(self, key: str) -> int:
        return sum(counts[key] for counts in self.counts.values())

    def spin(self, seconds: float) -> None:
        spin(self._executor, seconds)

    def watch(self, process: subprocess.Popen) -> None:
        """Collect until the process that publishes has ended; raises RunError if it failed."""
        watch(process, self._executor)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()


def measure(arguments: argparse.Namespace, subscription: str) -> None:
    """A row for every publisher, with one kind of subscription."""
    names = [topic.rpartition('/')[0] for topic in topics(arguments.sensors)]
    overrides = {} if subscription == 'default' else {
        f'qos_overrides.{NAMESPACE}/{topic}.subscription.reliability': subscription
        for topic in topics(arguments.sensors)}
    parameters = {'sensors': names, 'diagnostics_period': 0.2, 'silence_timeout': 3600.0, **overrides}
    with tempfile.TemporaryDirectory() as folder, NodeProcess('node', NAMESPACE, parameters, Path(folder) / 'node'):
        observer = Observer(arguments.sensors)
        observer.spin(SETTLE)
        for size, rate, offered, profile in product(arguments.sizes, arguments.rates, arguments.offered,
                                                    arguments.profiles):
            if (offered, subscription) == ('best_effort', 'reliable'):
                continue  # incompatible
            before, observer.ages = (observer.total('received'), observer.total('lost')), []
            environment = dict(os.environ)
            if profile == 'shipped':
                environment |= dict.fromkeys((OLD_VARIABLE, NEW_VARIABLE), str(shipped_profile(PUBLISHER_PROFILE)))
            observer.watch(subprocess.Popen(
                [sys.executable, __file__, '--publish', *size.split('x'), str(rate), str(arguments.images), offered,
                 str(arguments.sensors)], env=environment))
            observer.spin(SETTLE)
            received, lost = (observer.total(key) - b for key, b in zip(('received', 'lost'), before, strict=True))
            ages = 1e3 * np.array(observer.ages)
            times = f'{np.median(ages):.1f} / {np.percentile(ages, 99):.1f}' if len(ages) else '-'
            print(f'| {size} | {rate:g} | {offered} | {profile} | {subscription} | '
                  f'{received} of {arguments.images * arguments.sensors} | {lost} | {times} |', flush=True)
        observer.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', nargs='+', default=['320x240', '640x480', '1280x720', '1920x1080'])
    parser.add_argument('--rates', nargs='+', type=float, default=[30.0, 60.0], help='images per second')
    parser.add_argument('--offered', nargs='+', default=['reliable', 'best_effort'], help='by the publisher')
    parser.add_argument('--profiles', nargs='+', default=['default', 'shipped'], help='of the publisher')
    parser.add_argument('--subscriptions', nargs='+', default=['best_effort', 'reliable', 'default'],
                        help='of the node')
    parser.add_argument('--images', type=int, default=300, help='of each publisher and sensor')
    parser.add_argument('--sensors', type=int, default=1, help='published together by one process')
    parser.add_argument('--publish', nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.publish:
        width, height, rate, count, reliability, sensors = arguments.publish
        publish(int(width), int(height), float(rate), int(count), reliability, int(sensors))
        return 0
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rclpy.init()
    print('| image | Hz | publisher offers | its profile | node subscribes | received | lost | image to result, ms, '
          'median / p99 |\n|---|---|---|---|---|---|---|---|', flush=True)
    for subscription in arguments.subscriptions:
        measure(arguments, subscription)
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
