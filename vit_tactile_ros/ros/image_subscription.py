"""The subscription of one sensor's images: reliable if its publishers are, with a count of lost images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.event_handler import (
    QoSMessageLostInfo,
    QoSRequestedIncompatibleQoSInfo,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.transport import NEW_VARIABLE, OLD_VARIABLE, PUBLISHER_PROFILE, is_fast_dds, shipped_profile

# Images that the middleware keeps until the node takes them, which it does at once; the sensor then keeps the newest.
# Best effort: one, so that a slow node takes the newest; images replaced in the queue are not counted.
# Reliable: more than publishers have (usually 10). With fewer, Fast DDS drops images that have not arrived completely,
# and does not count them as lost: with 1, 11 of 120 of 640x480 at 60 Hz, with 5 all but 5 of 90 of 1920x1080.
BEST_EFFORT_DEPTH, RELIABLE_DEPTH = 1, 12


class ImageSubscription:
    """Reliable while every publisher offers it, else best effort; the user's qos_overrides take precedence.

    A best-effort image is lost if one piece of it is lost, and Fast DDS loses most that are larger than its shared
    memory of 512 kB. A reliable subscription receives nothing from a best-effort publisher, so the choice cannot be
    fixed.
    """

    def __init__(self, node: LifecycleNode, sensor: Sensor, message_type: type, topic: str,
                 callback: Callable[[Any], None], on_incompatible: Callable[[QoSRequestedIncompatibleQoSInfo], None],
                 policies: Iterable[QoSPolicyKind], throttled: ThrottledLog, guard: CallbackGuard) -> None:
        """Raises rclpy's InvalidQosOverridesError."""
        self._node = node
        self._sensor = sensor
        self._create = partial(node.create_subscription, message_type, topic, guard('taking an image', callback))
        self._on_incompatible_override = on_incompatible
        self._throttled = throttled
        self._policies = policies
        self._is_automatic = False
        self._reliability = ReliabilityPolicy.BEST_EFFORT
        self._subscription = self._subscribe()
        self.topic_name = self._subscription.topic_name
        self.adapt()  # publishers that already exist

    def destroy(self) -> None:
        self._node.destroy_subscription(self._subscription)

    @property
    def is_reliable(self) -> bool:
        return self._reliability == ReliabilityPolicy.RELIABLE

    def adapt(self) -> None:
        """Subscribe again if the publishers offer another reliability than before."""
        if not self._is_automatic:
            return
        offered = {publisher.qos_profile.reliability
                   for publisher in self._node.get_publishers_info_by_topic(self.topic_name)}
        if not offered:
            return
        all_reliable = offered == {ReliabilityPolicy.RELIABLE}
        wanted = ReliabilityPolicy.RELIABLE if all_reliable else ReliabilityPolicy.BEST_EFFORT
        if wanted != self._reliability:
            self._reliability = wanted
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._subscribe()

    def _subscribe(self) -> Subscription:
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=RELIABLE_DEPTH,
                         reliability=ReliabilityPolicy.BEST_AVAILABLE)
        options = QoSOverridingOptions(self._policies, callback=self._resolve)
        create = partial(self._create, qos, qos_overriding_options=options)
        try:
            return create(event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, message_lost=self._on_lost,
                matched=lambda _event: self.adapt()))
        except UnsupportedEventTypeError:  # not every middleware has them all
            return create(event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible))

    def _resolve(self, qos: QoSProfile) -> SetParametersResult:
        """Called with the user's overrides applied; `best_available` is the parameter's default.

        The middleware itself would check the publishers only once, when the subscription is created.
        """
        self._is_automatic = qos.reliability == ReliabilityPolicy.BEST_AVAILABLE
        if self._is_automatic:
            qos.reliability = self._reliability
        else:
            self._reliability = qos.reliability
        if not self.is_reliable and qos.depth == RELIABLE_DEPTH:  # no override: it is the parameter's default
            qos.depth = BEST_EFFORT_DEPTH
        return SetParametersResult(successful=True)

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        if self._is_automatic and event.last_policy_kind == QoSPolicyKind.RELIABILITY:
            self.adapt()  # a best-effort publisher next to reliable ones, or instead of them
        else:
            self._on_incompatible_override(event)

    def _on_lost(self, event: QoSMessageLostInfo) -> None:
        with self._sensor.lock:
            self._sensor.lost += event.total_count_change
            total = self._sensor.lost
        self._throttled.warning(f'{self._sensor.name} lost', f'{self._sensor.label}: images of {self.topic_name} are '
                                f'lost in transport, {total} so far: {self._remedies()}')

    def _remedies(self) -> str:
        parameter = f'qos_overrides.{self.topic_name}.subscription.reliability'
        remedies = []
        if not self.is_reliable:
            remedies.append(f'make its publisher reliable and set the parameter {parameter} of this node to reliable')
        if is_fast_dds():
            path = shipped_profile(PUBLISHER_PROFILE) or PUBLISHER_PROFILE
            remedies.append('give the publisher more shared memory than the 512 kB of Fast DDS, by starting it with '
                            f'{OLD_VARIABLE}={path} ({NEW_VARIABLE}=... from Kilted on)')
        return ', or '.join(remedies) or 'the publisher or the network is too slow for them; use compressed images'
