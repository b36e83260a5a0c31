"""A node that listens to the classifier and its sensors, for the demo: the latest of each finger, and statistics."""

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
from vit_tactile_ros.msg import TactileClassification, TactileLabel

KEPT_STAMPS = 300  # a truth or a result waits this many frames for its partner

KEPT_LATENCIES = 20_000  # the last ten minutes and more


@dataclass
class Tally:
    """What happened while one tau was in force."""

    results: int = 0
    judged: int = 0  # results whose truth is known
    right: int = 0
    exits: Counter[int] = field(default_factory=Counter)  # by block
    compute: float = 0.0  # sum of compute shares


@dataclass
class Finger:
    """What is known of one sensor, latest first of all."""

    name: str
    picture: NDArray[np.uint8] | None = None  # (H, W, 3) RGB
    result: TactileClassification | None = None
    truth: str = ''
    truths: OrderedDict[tuple[int, int], str] = field(default_factory=OrderedDict)  # by stamp
    unjudged: OrderedDict[tuple[int, int], tuple[Tally, str]] = field(default_factory=OrderedDict)
    # s, from the image's stamp to the receipt of its result; the same less the network's own time
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    overheads: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=60))  # s, receipt of the latest results
    counters: dict[str, str] = field(default_factory=dict)  # from /diagnostics

    @property
    def rate(self) -> float:
        """Results per second lately."""
        return (len(self.recent) - 1) / (self.recent[-1] - self.recent[0]) if len(self.recent) > 1 else 0.0


class Monitor(Node):
    """Subscribes to the images, truths and results of each finger; sets tau on request."""

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
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def set_tau(self, tau: float) -> None:
        """Ask the classifier for another threshold; `problem` says why when it refuses."""
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=tau)
        request = SetParameters.Request(parameters=[ParameterMessage(name='tau', value=value)])
        self._client.call_async(request).add_done_callback(self._on_tau_set)

    def _on_tau_set(self, future: Any) -> None:
        result = future.result().results[0]
        self.problem = '' if result.successful else result.reason

    def _on_image(self, finger: Finger, message: Image) -> None:
        finger.picture = decode(message)

    def _on_label(self, finger: Finger, message: TactileLabel) -> None:
        stamp = _stamp(message)
        finger.truth = message.class_name
        finger.truths[stamp] = message.class_name
        if stamp in finger.unjudged:
            tally, answer = finger.unjudged.pop(stamp)
            _judge(tally, answer, message.class_name)
        _forget(finger.truths)

    def _on_result(self, finger: Finger, message: TactileClassification) -> None:
        now = self.get_clock().now().nanoseconds
        stamp = _stamp(message)
        if finger.result is None:
            # Not earlier: the simulated sensor is touched once somebody looks, and that has to be the classifier.
            self.create_subscription(Image, f'{finger.name}/image_raw', partial(self._on_image, finger),
                                     qos_profile_sensor_data)
        finger.result = message
        finger.recent.append(time.monotonic())
        latency = (now - stamp[0] * 1_000_000_000 - stamp[1]) / 1e9
        finger.latencies.append(latency)
        finger.overheads.append(latency - message.inference_time)
        self.tau = tuple(message.tau)
        tally = self.tallies.setdefault(self.tau, Tally())
        tally.results += 1
        tally.exits[message.exit_block] += 1
        tally.compute += message.compute_share
        if stamp in finger.truths:
            _judge(tally, message.class_name, finger.truths[stamp])
        else:
            finger.unjudged[stamp] = (tally, message.class_name)
            _forget(finger.unjudged)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node, _, name = status.name.partition(': ')
            if node == self._classifier and name in self.fingers:
                self.fingers[name].counters = {value.key: value.value for value in status.values}


def _stamp(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def _judge(tally: Tally, answer: str, truth: str) -> None:
    tally.judged += 1
    tally.right += answer == truth


def _forget(waiting: OrderedDict[Any, Any]) -> None:
    while len(waiting) > KEPT_STAMPS:
        waiting.popitem(last=False)
