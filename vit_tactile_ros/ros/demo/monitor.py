"""The demo's node: subscribes to the classifier and its sensors, and collects the latest messages and statistics."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from vit_tactile_ros.inference.decode import decode
from vit_tactile_ros.inference.touch_events import EventKind
from vit_tactile_ros.msg import TactileClassification, TactileLabel, TouchEvent
from vit_tactile_ros.ros.status import rate_of

KEPT_STAMPS = 300  # labels or results that wait for their counterpart
KEPT_LATENCIES = 20_000  # more than ten minutes


@dataclass
class Tally:
    """Counts of the results at one tau."""

    results: int = 0
    labelled: int = 0  # results with a label
    right: int = 0
    exits: Counter[int] = field(default_factory=Counter)  # by block
    compute: float = 0.0  # sum of compute shares


@dataclass
class Finger:
    """The latest messages and the statistics of one sensor."""

    name: str
    image: NDArray[np.uint8] | None = None  # (H, W, 3) RGB
    result: TactileClassification | None = None
    label: str = ''  # the true class
    event: str = ''  # the newest event and the number of its touch
    labels: OrderedDict[tuple[int, int], str] = field(default_factory=OrderedDict)  # by stamp
    unlabelled: OrderedDict[tuple[int, int], tuple[Tally, str]] = field(default_factory=OrderedDict)
    # s, from the image's stamp to the receipt of its result; the same minus the time in the network
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    overheads: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=60))  # s, times of receipt
    counters: dict[str, str] = field(default_factory=dict)  # from /diagnostics

    @property
    def rate(self) -> float:
        """Results per second, over the latest results."""
        return rate_of(self.recent)


class Monitor(Node):
    """Subscribes to the images, labels and results of each finger; sets tau."""

    def __init__(self, fingers: list[str], classifier: str = 'tactile_classifier') -> None:
        super().__init__('tactile_demo')
        self.fingers = {name: Finger(name) for name in fingers}
        self.tallies: OrderedDict[tuple[float, ...], Tally] = OrderedDict()
        self.tau: tuple[float, ...] = ()
        self.problem = ''
        self._classifier = classifier
        self._client = self.create_client(SetParameters, f'{classifier}/set_parameters')
        for name, finger in self.fingers.items():
            self.create_subscription(TactileLabel, f'{name}/label', partial(self._on_label, finger), 10)
            self.create_subscription(TactileClassification, f'{name}/tactile', partial(self._on_result, finger), 10)
            self.create_subscription(TouchEvent, f'{name}/touch_event', partial(self._on_event, finger), 10)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def set_tau(self, tau: float) -> None:
        """Set tau of the classifier; if it is refused, `problem` has the reason."""
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=tau)
        request = SetParameters.Request(parameters=[ParameterMessage(name='tau', value=value)])
        self._client.call_async(request).add_done_callback(self._on_tau_set)

    def _on_tau_set(self, future: Any) -> None:
        result = future.result().results[0]
        self.problem = '' if result.successful else result.reason

    def _on_image(self, finger: Finger, message: Image) -> None:
        finger.image = decode(message)

    def _on_event(self, finger: Finger, message: TouchEvent) -> None:
        kind = EventKind(message.kind).name.removeprefix('CLASS_').replace('_', ' ').lower()
        finger.event = f'{kind} #{message.touch}'

    def _on_label(self, finger: Finger, message: TactileLabel) -> None:
        stamp = _stamp(message)
        finger.label = message.class_name
        finger.labels[stamp] = message.class_name
        if stamp in finger.unlabelled:
            tally, prediction = finger.unlabelled.pop(stamp)
            _count(tally, prediction, message.class_name)
        _drop_oldest(finger.labels)

    def _on_result(self, finger: Finger, message: TactileClassification) -> None:
        now = self.get_clock().now().nanoseconds
        stamp = _stamp(message)
        if finger.result is None:
            # Not earlier: the simulator starts touches with its first subscriber, which must be the classifier.
            self.create_subscription(Image, f'{finger.name}/image_raw', partial(self._on_image, finger),
                                     qos_profile_sensor_data)
        finger.result = message
        finger.recent.append(time.monotonic())
        latency = (now - stamp[0] * 1_000_000_000 - stamp[1]) / 1e9
        finger.latencies.append(latency)
        if message.exit_block:  # else the network did not run
            finger.overheads.append(latency - message.inference_time)
        self.tau = tuple(message.tau)
        tally = self.tallies.setdefault(self.tau, Tally())
        tally.results += 1
        tally.exits[message.exit_block] += 1
        tally.compute += message.compute_share
        if stamp in finger.labels:
            _count(tally, message.class_name, finger.labels[stamp])
        else:
            finger.unlabelled[stamp] = (tally, message.class_name)
            _drop_oldest(finger.unlabelled)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node, _, name = status.name.partition(': ')
            if node == self._classifier and name in self.fingers:
                self.fingers[name].counters = {value.key: value.value for value in status.values}


def _stamp(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def _count(tally: Tally, prediction: str, label: str) -> None:
    tally.labelled += 1
    tally.right += prediction == label


def _drop_oldest(waiting: OrderedDict[Any, Any]) -> None:
    while len(waiting) > KEPT_STAMPS:
        waiting.popitem(last=False)
