#!/usr/bin/env python3
"""Closes a gripper until contact, tightens it while the object slips, and opens it on request.

An example to start from: it commands a force in N on gripper/force. Replace `command` by what your gripper needs.
"""

import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from vit_tactile_ros.msg import TactileClassification, TouchEvent

PERIOD = 0.05  # s between two commands
BLIND = 0.5  # s without a result, after which it no longer tightens: the sensor may be unplugged


class GraspController(Node):
    def __init__(self):
        super().__init__('grasp_controller')
        self.closing_force = self.declare_parameter('closing_force', 2.0).value  # N, until contact
        self.holding_force = self.declare_parameter('holding_force', 4.0).value  # N, from contact on
        self.largest_force = self.declare_parameter('largest_force', 20.0).value  # N
        self.tightening = self.declare_parameter('tightening', 20.0).value  # N/s, while the object slips
        self.force = 0.0  # 0: open
        self.slips = False
        self.last_result = self.get_clock().now()
        self.gripper = self.create_publisher(Float64, 'gripper/force', 1)
        self.create_subscription(TouchEvent, 'slip/touch_event', self.on_event, 10)
        self.create_subscription(TactileClassification, 'slip/tactile', self.on_result, qos_profile_sensor_data)
        self.create_service(Trigger, '~/close', self.close)
        self.create_service(Trigger, '~/open', self.open)
        self.create_timer(PERIOD, self.command)

    def on_event(self, event):
        if event.kind == TouchEvent.ONSET and self.force > 0:
            self.force = max(self.force, self.holding_force)
        elif event.kind == TouchEvent.SLIP_BEGAN:
            self.slips = True
            self.command()  # now, not with the next period
        elif event.kind == TouchEvent.SLIP_ENDED:
            self.slips = False
            self.force = min(1.25 * self.force, self.largest_force)  # a margin: it may still creep
        elif event.kind == TouchEvent.INTERRUPTED:
            self.slips = False  # images were missing: whether it slips is unknown
        elif event.kind == TouchEvent.RELEASE:
            self.slips, self.force = False, 0.0  # opened, or the object is lost
        self.get_logger().info(f'touch {event.touch}: event {event.kind}, force {self.force:.1f} N')

    def on_result(self, _):
        self.last_result = self.get_clock().now()

    def command(self):
        sees = (self.get_clock().now() - self.last_result).nanoseconds < BLIND * 1e9
        if self.slips and sees and self.force > 0:
            self.force = min(self.force + self.tightening * PERIOD, self.largest_force)
        self.gripper.publish(Float64(data=self.force))

    def close(self, _, response):
        self.force = self.force or self.closing_force
        response.success = True
        return response

    def open(self, _, response):
        self.slips, self.force = False, 0.0
        response.success = True
        return response


def main():
    try:
        rclpy.init()
        rclpy.spin(GraspController())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    return 0


if __name__ == '__main__':
    sys.exit(main())
