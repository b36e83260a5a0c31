"""The topics of one sensor: a result per classified image, in two forms, and the events of its touches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from vit_tactile_ros.inference.classifier import Decision
from vit_tactile_ros.inference.touch_events import NO_CONTACT, NOT_HELD, SLIP, EventKind, TouchEvent, TouchTracker
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.msg import TouchEvent as TouchEventMessage
from vit_tactile_ros.ros.messages import classification_message, event_message
from vit_tactile_ros.ros.topics import OVERRIDABLE_QOS, result_qos, topic
from vit_tactile_ros.ros.vision_publishers import ABSENT, VisionPublishers


class SensorPublishers:
    """Publishers `tactile` and `touch_event` of a sensor. Events need a checkpoint with the class `no_contact`."""

    def __init__(self, node: LifecycleNode, sensor: str, class_names: Sequence[str], num_exits: int,
                 slip_threshold: Callable[[], float], lost_threshold: Callable[[], float]) -> None:
        """The thresholds are read for every image."""
        def publisher(message_type: type, name: str):
            return node.create_lifecycle_publisher(message_type, topic(sensor, name), result_qos(),
                                                   qos_overriding_options=OVERRIDABLE_QOS)

        self._node = node
        self._sensor = sensor
        self._slip_threshold = slip_threshold
        self._lost_threshold = lost_threshold
        self._class_names: list[str] = []
        self._num_exits = 0
        self._is_active = False
        self._results = publisher(TactileClassification, 'tactile')
        self._vision = VisionPublishers(node, sensor) if not ABSENT else None
        self._create_events = partial(publisher, TouchEventMessage, 'touch_event')
        self._events: Any = None
        self._tracker: TouchTracker | None = None
        self._frame_id = ''  # of the last image
        self.touch_state = ''  # after the last event: no contact, contact, slip, not held, or the class
        self._set_classes(class_names, num_exits)

    def start(self) -> None:
        """The node was activated: touches are counted from 1 again."""
        self._is_active = True
        self.touch_state = ''
        if self._events is not None:
            self._tracker = TouchTracker(self._class_names, self._num_exits)
        if self._vision is not None:
            self._vision.publish_labels(self._class_names)

    def use(self, class_names: Sequence[str], num_exits: int) -> None:
        """Another checkpoint: a touch in progress is interrupted if its classes or exits are others."""
        if (list(class_names), num_exits) == (self._class_names, self._num_exits):
            return
        self.interrupt()
        self._tracker = None
        self._set_classes(class_names, num_exits)
        if self._is_active:
            if self._events is not None:
                self._events.on_activate(None)  # a new one was not there when the node was activated
            self.start()

    def _set_classes(self, class_names: Sequence[str], num_exits: int) -> None:
        self._class_names = list(class_names)
        self._num_exits = num_exits
        if (NO_CONTACT in class_names) == (self._events is not None):
            return
        if self._events is None:
            self._events = self._create_events()
        else:
            self._node.destroy_lifecycle_publisher(self._events)
            self._events = None

    def publish_result(self, decision: Decision, header: Header, age: float | None) -> None:
        """`age` of the image in s, None if unknown."""
        message = classification_message(decision, header, self._sensor, self._class_names)
        message.image_age = math.nan if age is None else age
        self._results.publish(message)
        if self._vision is not None:
            self._vision.publish_result(decision, header)

    def publish_events(self, decision: Decision, stamp_ns: int, frame_id: str) -> None:
        """The events that this result decides."""
        if self._tracker is not None:
            self._tracker.slip_threshold = self._slip_threshold()
            self._tracker.lost_threshold = self._lost_threshold()
            self._publish_events(self._tracker.update(stamp_ns, decision.probabilities, decision.exit_index,
                                                      decision.slip, decision.is_repeated), frame_id)
            if self.touch_state == NOT_HELD:
                self.touch_state = self._tracker.state

    def interrupt(self) -> None:
        """No image follows for now: a touch that is in progress is interrupted."""
        if self._tracker is not None:
            self._publish_events(self._tracker.reset(), self._frame_id)

    def stop(self) -> None:
        """No image follows."""
        self.interrupt()
        self._tracker = None
        self._is_active = False

    def destroy(self) -> None:
        for publisher in (self._results, self._events):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)
        if self._vision is not None:
            self._vision.destroy()

    def _publish_events(self, events: Sequence[TouchEvent], frame_id: str) -> None:
        """`frame_id` of the newest image; an interruption has the stamp and the frame_id of the image before it."""
        for event in events:
            assert self._events is not None
            of_event = self._frame_id if event.kind is EventKind.INTERRUPTED else frame_id
            self.touch_state = (
                NO_CONTACT if event.kind in (EventKind.RELEASE, EventKind.INTERRUPTED)
                else 'contact' if event.kind in (EventKind.ONSET, EventKind.SLIP_ENDED)
                else SLIP if event.kind is EventKind.SLIP_BEGAN
                else NOT_HELD if event.kind is EventKind.LOST
                else self._class_names[event.class_id])
            self._events.publish(event_message(event, of_event, self._sensor, self._class_names))
        self._frame_id = frame_id
