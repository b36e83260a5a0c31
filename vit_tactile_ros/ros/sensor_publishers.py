"""What the node publishes about one sensor: a result per classified image, and the events of its touches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from vit_tactile_ros.inference.classifier import Decision
from vit_tactile_ros.inference.touch_events import NO_CONTACT, EventKind, TouchEvent, TouchTracker
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.msg import TouchEvent as TouchEventMessage
from vit_tactile_ros.ros.messages import classification_message, event_message
from vit_tactile_ros.ros.topics import OVERRIDABLE_QOS, result_qos, topic


class SensorPublishers:
    """Publishers `tactile` and `touch_event` of a sensor. Events need a checkpoint with the class `no_contact`."""

    def __init__(self, node: LifecycleNode, sensor: str, class_names: Sequence[str], num_exits: int) -> None:
        def publisher(message_type: type, name: str):
            return node.create_lifecycle_publisher(message_type, topic(sensor, name), result_qos(),
                                                   qos_overriding_options=OVERRIDABLE_QOS)

        self._node = node
        self._sensor = sensor
        self._class_names = list(class_names)
        self._num_exits = num_exits
        self._results = publisher(TactileClassification, 'tactile')
        self._events = publisher(TouchEventMessage, 'touch_event') if NO_CONTACT in class_names else None
        self._tracker: TouchTracker | None = None
        self._frame_id = ''  # of the last image

    def start(self) -> None:
        """The node was activated: touches are counted from 1 again."""
        if self._events is not None:
            self._tracker = TouchTracker(self._class_names, self._num_exits)

    def publish_result(self, decision: Decision, header: Header, age: float | None) -> None:
        """`age` of the image in s, None if unknown."""
        message = classification_message(decision, header, self._sensor, self._class_names)
        message.image_age = math.nan if age is None else age
        self._results.publish(message)

    def publish_events(self, decision: Decision, stamp_ns: int, frame_id: str) -> None:
        """The events that this result decides."""
        if self._tracker is not None:
            self._publish_events(self._tracker.update(stamp_ns, decision.probabilities, decision.exit_index), frame_id)

    def stop(self) -> None:
        """No image follows: a touch that is in progress is interrupted."""
        if self._tracker is not None:
            self._publish_events(self._tracker.reset(), self._frame_id)
            self._tracker = None

    def destroy(self) -> None:
        for publisher in (self._results, self._events):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def _publish_events(self, events: Sequence[TouchEvent], frame_id: str) -> None:
        """`frame_id` of the newest image; an interruption has the stamp and the frame_id of the image before it."""
        for event in events:
            assert self._events is not None
            of_event = self._frame_id if event.kind is EventKind.INTERRUPTED else frame_id
            self._events.publish(event_message(event, of_event, self._sensor, self._class_names))
        self._frame_id = frame_id
