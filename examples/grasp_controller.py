#!/usr/bin/env python3
"""Closes a gripper until contact, tightens it while the object slips, and opens it on request.

An example to start from: it commands a force in N on gripper/force. Replace `command` by what your gripper needs; how
hard it holds is in grip_law.py.
"""

import sys
from pathlib import Path

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from vit_tactile_ros.msg import TactileClassification, TouchEvent

sys.path.insert(0, str(Path(__file__).resolve().parent))
from grip_law import GripLaw

PERIOD = 0.05  # s between two commands
EVENTS = {getattr(TouchEvent, name): name for name in ('ONSET', 'RELEASE', 'INTERRUPTED', 'SLIP_BEGAN', 'SLIP_ENDED',
                                                       'LOST')}


class GraspController(Node):
    def __init__(self):
        super().__init__('grasp_controller')
        names = ('closing_force', 'holding_force', 'largest_force', 'tightening')  # N, N, N, N/s
        self.law = GripLaw(**{name: self.number(name, getattr(GripLaw, name)) for name in names})
        self.commanded = self.get_clock().now()
        self.gripper = self.create_publisher(Float64, 'gripper/force', 1)
        self.create_subscription(TouchEvent, 'slip/touch_event', self.on_event, 10)
        self.create_subscription(TactileClassification, 'slip/tactile', lambda _: self.law.result(),
                                 qos_profile_sensor_data)
        self.create_service(Trigger, '~/close', lambda _, response: self.ask(self.law.close, response))
        self.create_service(Trigger, '~/open', lambda _, response: self.ask(self.law.open, response))
        self.create_timer(PERIOD, self.command)

    def number(self, name, default):
        """The value of a parameter; in a file, 5 is as good as 5.0."""
        value = self.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
        if type(value) not in (int, float):
            raise ValueError(f'{name} is {value!r}; must be a number')
        return float(value)

    def on_event(self, event):
        self.law.event(event.kind)
        self.command()  # now, not with the next period
        text = f'touch {event.touch}: {EVENTS.get(event.kind, event.kind)}, force {self.law.force:.1f} N'
        if event.kind == TouchEvent.LOST and self.law.is_lost:
            self.get_logger().warning(f'{text}: the object is probably lost; {self.get_name()}/open opens the gripper')
        else:
            self.get_logger().info(text)

    def command(self):
        now = self.get_clock().now()
        seconds, self.commanded = (now - self.commanded).nanoseconds / 1e9, now
        self.gripper.publish(Float64(data=self.law.step(max(seconds, 0.0))))

    def ask(self, action, response):
        action()
        response.success, response.message = True, f'force {self.law.force:.1f} N'
        self.get_logger().info(f'asked to {action.__name__}: {response.message}')
        return response


def main():
    try:
        rclpy.init()
        rclpy.spin(GraspController())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ValueError, ParameterException) as error:  # wrong parameters
        print(f'grasp_controller.py: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
