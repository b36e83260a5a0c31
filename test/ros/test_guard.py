"""Callbacks that raise, in the executors that the node runs in."""

from __future__ import annotations

import subprocess
import sys

import pytest
import rclpy.logging
from live_nodes import TIMEOUT

from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.throttle import ThrottledLog


def test_an_exception_is_counted_and_replaced(capfd):
    guard = CallbackGuard(ThrottledLog(rclpy.logging.get_logger('guard')))
    assert guard('adding', lambda a, b: a + b)(1, 2) == 3
    named = guard('adding', lambda a, b: a + b, lambda error, a, b: f'{type(error).__name__} {a}')
    assert named(1, 'x') == 'TypeError 1'
    assert guard('nothing', lambda: 1 / 0)() is None
    assert guard.errors == 2 and guard.last_error == 'nothing: ZeroDivisionError: division by zero'
    assert 'internal error in adding: Traceback' in capfd.readouterr().err


PROGRAM = """
import sys, rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from std_msgs.msg import Header
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.run import fastest_executor
from vit_tactile_ros.ros.throttle import ThrottledLog

rclpy.init()
node = rclpy.create_node('guarded')
guard = CallbackGuard(ThrottledLog(node.get_logger(), 0.0))
events = SubscriptionEventCallbacks(incompatible_qos=guard('event', lambda info: 1 / 0))
node.create_subscription(Header, 'topic', print, QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
                         event_callbacks=events)
executor = {'events': fastest_executor, 'single': SingleThreadedExecutor}[sys.argv[1]]()
executor.add_node(node)
publisher = node.create_publisher(Header, 'topic', qos_profile_sensor_data)
while not guard.errors:
    executor.spin_once(timeout_sec=0.1)
executor.spin_once(timeout_sec=0.1)
print(guard.last_error)
"""


@pytest.mark.parametrize('executor', ['events', 'single'])
def test_an_event_callback_that_raises(executor):
    """A segmentation fault: the events executor calls it from C++, which has nobody to give the exception to."""
    ended = subprocess.run([sys.executable, '-c', PROGRAM, executor], capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == 'event: ZeroDivisionError: division by zero'
