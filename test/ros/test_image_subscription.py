"""A subscription that receives nothing any more."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import rclpy
from live_nodes import image, wait_until
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.ros import image_subscription
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.image_subscription import ImageSubscription
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.throttle import ThrottledLog


def test_it_is_made_again_while_images_are_only_lost(client, monkeypatch, capfd):
    """After SIGSTOP and SIGCONT, 13 of 68 times, every later image of a reliable publisher was lost until a restart.

    What happens within Fast DDS then cannot be provoked at will: the events are those that it sends.
    """
    publisher = client.image_publisher(qos=QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE), matched=False)
    node = rclpy.create_node('subscriber')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    throttled = ThrottledLog(node.get_logger())
    guard = CallbackGuard(throttled)
    sensor = Sensor('left', SensorFrames(Reference()))
    subscription = ImageSubscription(node, sensor, Image, '/image_raw', lambda message: sensor.receive(
        message, 1.0, lambda: 0), print, [], throttled, guard)

    def spin_until(condition, what):
        wait_until(lambda: executor.spin_once(0.01) or condition(), lambda: what)

    def publish_until(received):
        spin_until(lambda: publisher.publish(image()) or sensor.received >= received, f'{received} images')

    def lose(total):
        subscription._on_lost(SimpleNamespace(total_count=total))
        for _ in range(10):
            executor.spin_once(0.01)
        return subscription._subscription

    spin_until(lambda: subscription.is_reliable, 'a reliable subscription')
    publish_until(1)
    first = subscription._subscription
    assert lose(3) is first and lose(5) is first, 'not yet'
    monkeypatch.setattr(image_subscription, 'STUCK', 0.0)
    publish_until(sensor.received + 1)
    assert lose(7) is first, 'an image has arrived since the last loss'
    totals = itertools.count(9)
    spin_until(lambda: lose(next(totals)) is not first, 'another subscription')
    assert 'subscribing again' in capfd.readouterr().err
    lost = sensor.lost
    lose(1)
    assert sensor.lost == lost + 1, 'a new subscription counts from 0'
    publish_until(sensor.received + 1)
    subscription.destroy()
    executor.remove_node(node)
    node.destroy_node()
