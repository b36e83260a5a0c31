"""One sensor of the node: the newest image waiting, what was counted, and its no-contact reference."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vit_tactile_ros.inference.reference import Reference

LATENCY_WINDOW = 300  # results over which latency and rate are reported


class WaitingImage(NamedTuple):
    message: Any  # sensor_msgs/Image or CompressedImage
    received_ns: int  # ROS time; 0 where the header has a stamp
    stamp_ns: int  # of the header; 0 when the publisher left it out


@dataclass
class Sensor:
    """State of one sensor; the fields below `lock` are shared between the executor's and the worker's thread.

    Every received image ends in exactly one of classified, superseded, rejected; until then it is in `pending`.
    """

    name: str
    reference: Reference  # used by the worker only
    shape: tuple[int, ...] | None = None  # of the last decoded frame, used by the worker only

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: WaitingImage | None = None
    pending: int = 0
    received: int = 0
    classified: int = 0
    superseded: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    missing_stamps: int = 0
    stamps_backwards: int = 0
    resolution_changes: int = 0
    grey_images: int = 0
    is_grey: bool | None = None  # the last image that was neither too dark nor too bright to say
    incompatible_publishers: int = 0
    silences: int = 0
    exits: Counter[int] = field(default_factory=Counter)  # classified, by exit block
    ages: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))  # s, of results with a stamp
    result_times: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))  # s, monotonic
    last_received: float | None = None  # s, monotonic
    last_stamp_ns: int | None = None
    is_silent: bool = False
    recapture_requested: bool = False

    @property
    def label(self) -> str:
        """What people are told the sensor is."""
        return self.name or 'sensor'

    def forget_the_past(self) -> None:
        """Start the clocks anew after a time without images; the counters go on."""
        with self.lock:
            self.last_received = None
            self.is_silent = False
            self.result_times.clear()
            self.ages.clear()

    def put(self, image: WaitingImage, now: float) -> None:
        """Leave an image for the worker in place of one that is still waiting; call with `lock` held."""
        self.received += 1
        self.last_received = now
        if self.waiting is None:
            self.pending += 1
        else:
            self.superseded += 1
        self.waiting = image

    def take(self) -> WaitingImage | None:
        """The waiting image, which stays pending until `finish`; call with `lock` held."""
        image, self.waiting = self.waiting, None
        return image

    def reject(self, reason: str) -> None:
        """The taken image was no good."""
        with self.lock:
            self.pending -= 1
            self.rejected[reason] += 1

    def finish(self, exit_block: int, age: float | None, now: float) -> None:
        """The taken image was classified and its result published."""
        with self.lock:
            self.pending -= 1
            self.classified += 1
            self.exits[exit_block] += 1
            self.result_times.append(now)
            if age is not None:
                self.ages.append(age)
