"""Plays clips to running nodes at a camera's rate and measures the time from each image's publication to its result."""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.inference.gate import GATE_EXIT_BLOCK
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.camera.profiles import PROFILES
from vit_tactile_ros.ros.camera.sources import Frame, video_frames
from vit_tactile_ros.ros.live.node_process import NodeProcess
from vit_tactile_ros.ros.messages import compressed_message, image_message
from vit_tactile_ros.ros.run import fastest_executor, spin_once
from vit_tactile_ros.ros.sensor import RECENT
from vit_tactile_ros.ros.start import init_ros
from vit_tactile_ros.ros.subscribers import wait_for_subscribers
from vit_tactile_ros.ros.transport import publisher_profile

FOUND_TIMEOUT = 30.0  # s until a node's topics and services are found and respond
RESPONSE_TIMEOUT = 5.0  # s until a service is called again: DDS may lose a response
LAST_RESULTS = 1.0  # s to wait for the results of a clip's last images


@dataclass(frozen=True)
class Variant:
    """A node to measure: its name in the table, its parameters, and the built checkout whose code it runs."""

    name: str
    parameters: Mapping[str, Any]
    checkout: Path | None = None  # None: this one


@dataclass
class Measured:
    """The measurements of one variant; times in s, one per result."""

    engine: str = ''  # that the node used, which it chooses with 'auto'
    sent: int = 0
    latency: list[float] = field(default_factory=list)  # from just before publication to receipt of the result
    image_age: list[float] = field(default_factory=list)  # by the node: stamp to publication of the result
    inference_time: list[float] = field(default_factory=list)
    exit_blocks: list[int] = field(default_factory=list)
    cold_starts: list[float] = field(default_factory=list)  # from the start of the process until the node is active

    def summary(self) -> dict[str, Any]:
        """Medians and 99th percentiles in ms; of `cold_start` in s.

        Times in the network and around it are of the images that the network saw: the inference time of the gate is 0.
        """
        is_seen = np.array(self.exit_blocks) != GATE_EXIT_BLOCK
        latency, inference = np.array(self.latency), np.array(self.inference_time)
        around = latency - inference
        blocks, counts = np.unique(self.exit_blocks, return_counts=True)
        return {
            'engine': self.engine, 'sent': self.sent, 'results': len(latency),
            'latency_ms': _percentiles(1e3 * latency), 'image_age_ms': _percentiles(1e3 * np.array(self.image_age)),
            'inference_ms': _percentiles(1e3 * inference[is_seen]), 'around_ms': _percentiles(1e3 * around[is_seen]),
            'exits': {str(b): int(c) for b, c in zip(blocks, counts, strict=True)},
            'cold_start_s': {'p50': float(np.median(self.cold_starts)), 'max': max(self.cold_starts),
                             'n': len(self.cold_starts)} if self.cold_starts else None}


def measure(variants: Sequence[Variant], clips: Sequence[Path], rate: float, images: int, rounds: int,
            cold_starts: int, transport: str, folder: Path) -> dict[str, Measured]:
    """Play the first `images` images of every clip to every variant, `rounds` times; results by name of the variant.

    All nodes run all the time. Each clip is played to one node after the other, in a new random order, as a camera
    driver does: best effort, `rate` images per second. Its first images are the no-contact reference. Before that,
    `cold_starts` nodes of each variant are started one at a time, in turn. `transport`: 'raw' or 'compressed' (JPEG).
    Logs of the nodes are in `folder`. Raises RunError for an unreadable clip, and for a node that is
    not found, does not respond or ends.
    """
    for clip in clips:  # detect an unreadable clip before the measurement
        next(_messages(clip, transport))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')  # hidden from other machines
    measured = {variant.name: Measured() for variant in variants}
    order = random.Random(0)
    for _ in range(cold_starts):
        for variant in order.sample(variants, len(variants)):
            with _Node(variant, transport, folder) as node:
                measured[variant.name].cold_starts.append(node.start_time)
    init_ros()  # Ctrl-C is a KeyboardInterrupt, also while it spins
    try:
        with contextlib.ExitStack() as stack:
            nodes: list[_Node] = []

            def end_all() -> None:
                for node in nodes:
                    node.ask_to_end()

            for variant in variants:
                nodes.append(stack.enter_context(_Node(variant, transport, folder)))
                stack.callback(end_all)  # before the first is waited for
            for variant, node in zip(variants, nodes, strict=True):
                measured[variant.name].engine = node.engine()
            camera = _Camera([node.namespace for node in nodes], transport)
            stack.callback(camera.close)
            for _ in range(rounds):
                for clip in clips:
                    messages = list(islice(_messages(clip, transport), images))
                    for index in order.sample(range(len(nodes)), len(nodes)):
                        camera.play(index, messages, rate, measured[variants[index].name])
                        nodes[index].check()
    finally:
        rclpy.try_shutdown()
    return measured


class _Node(NodeProcess):
    """The node of a variant, in its own namespace."""

    _number = 0

    def __init__(self, variant: Variant, transport: str, folder: Path) -> None:
        _Node._number += 1
        super().__init__(variant.name, f'/latency_{os.getpid()}_{_Node._number}',
                         {'image_transport': transport, 'silence_timeout': 3600.0, **variant.parameters},
                         folder / f'node_{_Node._number}', variant.checkout)

    def engine(self) -> str:
        """The engine in the node's log, with the precision unless it is float32; '' if the log has none."""
        # Checkouts from before int8 do not log the precision.
        found = re.search(r'engine (\S+)(?: in (\S+))? on ', self.log_text())
        return '' if found is None else found[1] + f' {found[2]}' * (found[2] not in (None, 'float32'))


class _Camera:
    """Publishes images to one node at a time and records when results arrive; all in one thread."""

    def __init__(self, namespaces: Sequence[str], transport: str) -> None:
        with publisher_profile():
            self._node = rclpy.create_node('latency_camera')
        self._executor = fastest_executor()
        self._executor.add_node(self._node)
        self._sent: dict[int, tuple[Measured, float]] = {}  # by stamp in ns, until the result arrives
        kind, topic = (CompressedImage, 'image_raw/compressed') if transport == 'compressed' else (Image, 'image_raw')
        # Best effort like a driver, with a queue for the results: images should be lost only in the node.
        results = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
        self._publishers = [self._node.create_publisher(kind, f'{n}/{topic}', qos_profile_sensor_data)
                            for n in namespaces]
        self._captures = [self._node.create_client(Trigger, f'{n}/tactile_classifier/capture_reference')
                          for n in namespaces]
        for n in namespaces:
            self._node.create_subscription(TactileClassification, f'{n}/tactile', self._on_result, results)
        if not (wait_for_subscribers(self._publishers, self._spin, FOUND_TIMEOUT)
                and all(capture.wait_for_service(FOUND_TIMEOUT) for capture in self._captures)):
            raise RunError(f'a node was not found within {FOUND_TIMEOUT:g} s; is ROS_DOMAIN_ID the same?')

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()

    def play(self, index: int, messages: Sequence[Image | CompressedImage], rate: float, into: Measured) -> None:
        self._capture_reference(index, rate)
        start = time.perf_counter()
        for number, message in enumerate(messages):
            self._spin(start + number / rate - time.perf_counter())
            stamp = self._node.get_clock().now()
            message.header.stamp = stamp.to_msg()
            self._sent[stamp.nanoseconds] = (into, time.perf_counter())
            into.sent += 1
            self._publishers[index].publish(message)
        end = time.monotonic() + LAST_RESULTS
        while self._sent and time.monotonic() < end:
            self._spin(0.01)
        self._sent.clear()  # superseded, or lost

    def _capture_reference(self, index: int, rate: float, is_first: bool = True) -> None:
        """Make the next images the reference; the node refuses this for some checkpoints. Raises RunError."""
        calls: list[Future] = []
        while not any(future.done() for future in calls):
            if len(calls) * RESPONSE_TIMEOUT >= FOUND_TIMEOUT:
                raise RunError(f'{self._captures[index].srv_name} did not respond within {FOUND_TIMEOUT:g} s')
            calls.append(self._captures[index].call_async(Trigger.Request()))
            end = time.monotonic() + RESPONSE_TIMEOUT
            while not any(future.done() for future in calls) and time.monotonic() < end:
                self._spin(0.01)
        response = next(future for future in calls if future.done()).result()
        if is_first and response is not None and not response.success:
            self._spin(1.2 * max(RECENT, 2 / rate))  # the last image of the clip before shows a touch, for so long
            self._capture_reference(index, rate, is_first=False)

    def _on_result(self, result: TactileClassification) -> None:
        now = time.perf_counter()
        stamp = result.header.stamp
        found = self._sent.pop(stamp.sec * 10**9 + stamp.nanosec, None)
        if found is None:
            return
        into, sent = found
        into.latency.append(now - sent)
        into.image_age.append(result.image_age)
        into.inference_time.append(result.inference_time)
        into.exit_blocks.append(result.exit_block)

    def _spin(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            spin_once(self._executor.spin_once, left)


def _messages(clip: Path, transport: str) -> Iterator[Image | CompressedImage]:
    """The frames of a video as messages of a driver."""
    for frame in video_frames(clip, PROFILES['generic'], False, time.monotonic):
        if isinstance(frame, Frame):  # else the end of a video that is cut
            yield _message(frame.image, transport)


def _message(frame: NDArray[np.uint8], transport: str) -> Image | CompressedImage:
    """A BGR frame as rgb8, or as JPEG."""
    header = Header(frame_id='gel')
    if transport == 'compressed':
        return compressed_message(cv2.imencode('.jpg', frame)[1].tobytes(), header, 'jpeg')
    return image_message(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), header)


def _percentiles(values: NDArray[np.floating]) -> dict[str, float] | None:
    if not len(values):
        return None
    return {'p50': float(np.percentile(values, 50)), 'p99': float(np.percentile(values, 99))}
