#!/usr/bin/env python3
"""Prints the results and touch events of the classifier, one per line, until Ctrl+C.

Of the sensor `left`: watch.py --ros-args -r tactile:=/left/tactile -r touch_event:=/left/touch_event
"""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data

from vit_tactile_ros.msg import TactileClassification, TouchEvent

NAMES = ('ONSET', 'CLASS_SETTLED', 'CLASS_CHANGED', 'RELEASE', 'INTERRUPTED', 'SLIP_BEGAN', 'SLIP_ENDED', 'LOST')
EVENTS = {getattr(TouchEvent, name): name for name in NAMES}


def show_result(result):
    where = f'block {result.exit_block}' if result.exit_block else 'gate'
    show(result.sensor, f'{result.class_name} {result.confidence:.2f}, {where}')


def show_event(event):
    show(event.sensor, f'touch {event.touch}: {EVENTS[event.kind]} {event.class_name} {event.confidence:.2f}')


def show(sensor, text):
    print(f'{sensor}: {text}' if sensor else text, flush=True)


try:
    rclpy.init()
    node = rclpy.create_node('watch')
    node.create_subscription(TactileClassification, 'tactile', show_result, qos_profile_sensor_data)
    node.create_subscription(TouchEvent, 'touch_event', show_event, 10)
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
except Exception:  # Ctrl+C ends the context, in which a message may be taken at this moment
    if rclpy.ok():
        raise
