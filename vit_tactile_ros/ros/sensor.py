"""One sensor of the node: the newest image waiting, what was counted, and its frames."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vit_tactile_ros.inference.frames import SensorFrames

LATENCY_WINDOW = 300  # results over which latency and rate are reported
MAX_AHEAD = 60.0  # s that a stamp may lie ahead of the node's clock; more is another clock, and no age


class WaitingImage(NamedTuple):
    message: Any  # sensor_msgs/Image or CompressedImage
    received_ns: int  # ROS time; 0 where the header has a stamp
    stamp_ns: int  # of the header; 0 when the publisher left it out


class Arrival(NamedTuple):
    """What was odd about an image that came; false and 0 for one as it should be."""

    has_no_stamp: bool
    is_repeated: bool  # its stamp is that of the image before
    backwards_by: float  # s that its stamp lies before that of the image before
    silent_for: float  # s without images that ended with it, if the sensor was reported silent

    def warnings(self) -> list[tuple[str, str]]:
        """The cause and the text of each."""
        found = []
        if self.has_no_stamp:
            found.append(('no stamp', 'image without a stamp; its result carries the time of receipt, and latency is '
                          'unknown: fix the publisher'))
        if self.is_repeated:
            found.append(('repeated', 'an image has the stamp of the one before, so their results cannot be told '
                          'apart: fix the publisher'))
        if self.backwards_by:
            found.append(('backwards', f'stamp went back by {self.backwards_by:.3f} s (a bag that starts again, or two '
                          'publishers on one topic?)'))
        return found


@dataclass
class Sensor:
    """State of one sensor; the fields below `lock` are shared between the executor's and the worker's thread.

    Every received image ends in exactly one of classified, superseded, rejected; until then it is in `pending`.
    Every image published while subscribed, up to the last one received, is received, lost on the way (`lost`), or was
    replaced by a newer one in the middleware's queue before the node took it, which the middleware does not report.
    """

    name: str
    frames: SensorFrames  # updated by the worker only

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: WaitingImage | None = None
    is_taken: bool = False  # the worker has an image that is neither finished nor rejected
    pending: int = 0
    received: int = 0
    lost: int = 0  # on the way here, as the middleware reports; known once a later image arrives
    classified: int = 0
    superseded: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    missing_stamps: int = 0
    stamps_backwards: int = 0
    stamps_repeated: int = 0
    unknown_ages: int = 0  # results of images with a stamp that this node's clock cannot be compared with
    incompatible_publishers: int = 0
    silences: int = 0
    exits: Counter[int] = field(default_factory=Counter)  # classified, by exit block
    ages: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))  # s, of results with a stamp
    result_times: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))  # s, monotonic
    last_received: float | None = None  # s, monotonic
    last_stamp_ns: int | None = None
    is_silent: bool = False

    @property
    def label(self) -> str:
        """What people are told the sensor is."""
        return self.name or 'sensor'

    def forget_the_past(self) -> None:
        """Restart the clocks after a time without images; the counters stay."""
        with self.lock:
            self.last_received = None
            self.is_silent = False
            self.result_times.clear()
            self.ages.clear()

    def receive(self, message: Any, now: float, clock_ns: Callable[[], int]) -> Arrival:
        """Take an image in: its stamp, its counters, and its place in front of the worker.

        `now` is monotonic time in s; `clock_ns` reads ROS time, which is needed only where the header has no stamp.
        """
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        received_ns = 0 if stamp_ns else clock_ns()
        with self.lock:
            backwards_by, is_repeated = 0.0, False
            if stamp_ns:
                if self.last_stamp_ns is not None:
                    backwards_by = max(0.0, (self.last_stamp_ns - stamp_ns) / 1e9)
                    is_repeated = stamp_ns == self.last_stamp_ns
                self.last_stamp_ns = stamp_ns
                self.stamps_backwards += backwards_by > 0
                self.stamps_repeated += is_repeated
            else:
                self.missing_stamps += 1
            silent_for = now - (self.last_received or now) if self.is_silent else 0.0
            self.is_silent = False
            self._put(WaitingImage(message, received_ns, stamp_ns), now)
        return Arrival(not stamp_ns, is_repeated, backwards_by, silent_for)

    def _put(self, image: WaitingImage, now: float) -> None:
        self.received += 1
        self.last_received = now
        if self.waiting is None:
            self.pending += 1
        else:
            self.superseded += 1
        self.waiting = image

    def silence(self, now: float, timeout: float) -> float | None:
        """s without an image, the first time that this is more than `timeout`; else None."""
        with self.lock:
            silent_for = now - self.last_received if self.last_received is not None else 0.0
            if silent_for <= timeout or self.is_silent:
                return None
            self.is_silent = True
            self.silences += 1
            self.result_times.clear()  # a rate over the gap would be wrong for long
            return silent_for

    def age(self, image: WaitingImage, clock_ns: int) -> tuple[float | None, str]:
        """s from an image's stamp until `clock_ns`, ROS time now; None where that is unknown, with a warning.

        The warning is empty for an image without a stamp, which has been warned of when it came.
        """
        if not image.stamp_ns:
            return None, ''
        age = (clock_ns - image.stamp_ns) / 1e9
        if clock_ns and age >= -MAX_AHEAD:
            return age, ''
        with self.lock:
            self.unknown_ages += 1
        if not clock_ns:
            return None, 'use_sim_time is true and no /clock has come, so image_age is NaN'
        return None, (f'stamp is {-age:.0f} s ahead of the clock of this node, so image_age is NaN: is use_sim_time '
                      'set for one of them only, or are the clocks of two machines apart?')

    def take(self) -> WaitingImage | None:
        """The waiting image, which stays pending until `finish` or `reject`; call with `lock` held."""
        image, self.waiting = self.waiting, None
        self.is_taken = image is not None
        return image

    def reject(self, reason: str) -> None:
        """The taken image was no good."""
        with self.lock:
            self._reject(reason)

    def abandon(self, reason: str) -> None:
        """Reject the taken image, if there is one that is not finished."""
        with self.lock:
            if self.is_taken:
                self._reject(reason)

    def _reject(self, reason: str) -> None:
        self.is_taken = False
        self.pending -= 1
        self.rejected[reason] += 1

    def finish(self, exit_block: int, age: float | None, now: float) -> None:
        """The taken image was classified and its result published."""
        with self.lock:
            self.is_taken = False
            self.pending -= 1
            self.classified += 1
            self.exits[exit_block] += 1
            self.result_times.append(now)
            if age is not None:
                self.ages.append(age)
