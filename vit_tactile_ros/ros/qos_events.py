"""QoS events of publishers and subscriptions, taken by a timer instead of the executor."""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.event_handler import EventHandler
from rclpy.exceptions import InvalidHandle

from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.lifecycle import ExplainingLifecycleNode

CHANGES = ('total_count_change', 'current_count_change', 'alive_count_change', 'not_alive_count_change')
PERIOD = 0.1  # s between two looks; at 0.02, 8 sensors take 5 % of a core


class QosEvents:
    """Calls the event callbacks of a node: matched and incompatible endpoints, lost messages.

    rclpy's events executor crashes the process when an event arrives while its publisher or subscription is being
    destroyed (ros2/rclpy issue 1644): it then calls Python without holding the interpreter's lock. So no event is given
    to it (`ExplainingLifecycleNode.waitables`). The middleware counts events until they are taken, so none is lost.
    """

    def __init__(self, node: ExplainingLifecycleNode, guard: CallbackGuard) -> None:
        self._node = node
        self._guard = guard
        self._take = guard('QoS events', _take)
        node.create_timer(PERIOD, guard('QoS events', self.take), clock=Clock(clock_type=ClockType.STEADY_TIME))

    def take(self) -> None:
        """Call the callbacks of what has changed since the last call."""
        # All before the first callback, which may destroy their subscription.
        taken = [(handler.callback, self._take(handler)) for handler in self._node.qos_event_handlers()]
        for callback, status in taken:
            if any(getattr(status, name, 0) for name in CHANGES):
                self._guard('QoS event', callback)(status)


def _take(handler: EventHandler) -> Any:
    handler._ready_to_take_data = True  # what a wait set would set
    try:
        return handler.take_data()
    except InvalidHandle:  # destroyed by another thread
        return None
