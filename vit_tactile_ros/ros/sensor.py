"""One sensor of the node: the newest waiting image, the counters, and its frames."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vit_tactile_ros.inference.classifier import Decision
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.stream_monitor import StreamMonitor

LATENCY_WINDOW = 300  # results over which latency and rate are reported
RECENT = 0.5  # s since the last image, or 2 intervals of a slow camera, during which it shows what touches now
CONFIRM_TIME = 10.0  # s
MAX_AHEAD = 60.0  # s that a stamp may be ahead of the node's clock; beyond that the age is unknown: another clock


class WaitingImage(NamedTuple):
    message: Any  # sensor_msgs/Image or CompressedImage
    received_ns: int  # ROS time; 0 if the header has a stamp
    stamp_ns: int  # of the header; 0 if the publisher did not set it


class Arrival(NamedTuple):
    """What is unusual about an image that has arrived; false and 0 if nothing is."""

    has_no_stamp: bool
    has_same_stamp: bool  # it has the stamp of the previous image
    backwards_by: float  # s from its stamp to the later one of the previous image
    silent_for: float  # s without images before it, if the sensor was reported silent

    def warnings(self) -> list[tuple[str, str]]:
        """The cause and the text of each."""
        found = []
        if self.has_no_stamp:
            found.append(('no stamp', 'image without a stamp; its result carries the time of receipt, and latency is '
                          'unknown: fix the publisher'))
        if self.has_same_stamp:
            found.append(('repeated', 'an image has the stamp of the previous one, so their results cannot be '
                          'distinguished: fix the publisher'))
        if self.backwards_by:
            found.append(('backwards', f'stamp went back by {self.backwards_by:.3f} s (a bag that starts again, or two '
                          'publishers on one topic?)'))
        return found


@dataclass
class Sensor:
    """State of one sensor; the fields below `lock` are shared between the executor's and the worker's thread.

    Every received image ends in exactly one of classified, superseded, rejected, paused; until then it is in `pending`.
    Every image published while subscribed, up to the last one received, is received, lost in transport (`lost`), or
    replaced by a newer one in the middleware's queue before the node takes it, which the middleware does not report.
    """

    name: str
    frames: SensorFrames  # updated by the worker only
    stream: StreamMonitor = field(default_factory=StreamMonitor)  # updated by the worker only
    last_decision: Decision | None = None  # of the network, by the worker only; None: it may not be repeated

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: WaitingImage | None = None
    is_taken: bool = False  # the worker holds an image that is neither finished nor rejected
    pending: int = 0
    received: int = 0
    lost: int = 0  # in transport, as reported by the middleware; known once a later image arrives
    classified: int = 0
    superseded: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    paused: int = 0  # arrived while classification was paused
    is_paused: bool = False
    missing_stamps: int = 0
    stamps_backwards: int = 0
    stamps_repeated: int = 0
    unknown_ages: int = 0  # results of images whose stamp cannot be compared with this node's clock
    incompatible_publishers: int = 0
    silences: int = 0
    exits: Counter[int] = field(default_factory=Counter)  # classified, by exit block
    unknown: int = 0  # classified as the class `unknown`
    ages: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))  # s, of results with a stamp
    last_exits: deque[int] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))  # by exit block
    result_times: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))  # s, monotonic
    last_received: float | None = None  # s, monotonic
    last_interval: float = 0.0  # s between the last two images
    last_stamp_ns: int | None = None
    refused_at: float = -math.inf  # s, monotonic: capture_reference, unless it is called again
    is_silent: bool = False

    @property
    def label(self) -> str:
        """The name of the sensor in messages."""
        return self.name or 'sensor'

    def forget_the_past(self) -> None:
        """Forget times and ages after a period without images; the counters stay."""
        with self.lock:
            self.last_received = None
            self.is_silent = False
            self.stream.forget()
            self._forget_results()

    def _forget_results(self) -> None:
        self.result_times.clear()
        self.ages.clear()
        self.last_exits.clear()

    def pause(self, is_paused: bool) -> None:
        """While paused, images are counted and not classified; also the one that waits."""
        with self.lock:
            self.is_paused = is_paused
            self.frames.forget_recapture()  # it was asked for now, not for the end of the pause
            if is_paused and self.waiting is not None:
                self.waiting = None
                self.pending -= 1
                self.paused += 1
            self._forget_results()  # a rate over the pause would stay wrong for long

    def receive(self, message: Any, now: float, clock_ns: Callable[[], int]) -> Arrival:
        """Take an image: check its stamp, count it, and make it the one that waits for the worker.

        `now` is monotonic time in s; `clock_ns` reads ROS time, only needed if the header has no stamp.
        """
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        received_ns = 0 if stamp_ns else clock_ns()
        with self.lock:
            backwards_by, has_same_stamp = 0.0, False
            if stamp_ns:
                if self.last_stamp_ns is not None:
                    backwards_by = max(0.0, (self.last_stamp_ns - stamp_ns) / 1e9)
                    has_same_stamp = stamp_ns == self.last_stamp_ns
                self.last_stamp_ns = stamp_ns
                self.stamps_backwards += backwards_by > 0
                self.stamps_repeated += has_same_stamp
            else:
                self.missing_stamps += 1
            silent_for = now - (self.last_received or now) if self.is_silent else 0.0
            self.is_silent = False
            self._put(WaitingImage(message, received_ns, stamp_ns), now)
        return Arrival(not stamp_ns, has_same_stamp, backwards_by, silent_for)

    def _put(self, image: WaitingImage, now: float) -> None:
        self.received += 1
        self.last_interval = now - (self.last_received or now)
        self.last_received = now
        if self.is_paused:
            self.paused += 1
            return
        if self.waiting is None:
            self.pending += 1
        else:
            self.superseded += 1
        self.waiting = image

    def silence(self, now: float, timeout: float) -> float | None:
        """s without an image, the first time that it exceeds `timeout`; else None."""
        with self.lock:
            silent_for = now - self.last_received if self.last_received is not None else 0.0
            if silent_for <= timeout or self.is_silent:
                return None
            self.is_silent = True
            self.silences += 1
            self.result_times.clear()  # a rate over the gap would stay wrong for long
            return silent_for

    def age(self, image: WaitingImage, clock_ns: int) -> tuple[float | None, str]:
        """s from an image's stamp until `clock_ns`, the ROS time now; None with a warning if that is unknown.

        The warning is empty for an image without a stamp, since `receive` has already warned.
        """
        if not image.stamp_ns:
            return None, ''
        age = (clock_ns - image.stamp_ns) / 1e9
        if clock_ns and age >= -MAX_AHEAD:
            return age, ''
        with self.lock:
            self.unknown_ages += 1
        if not clock_ns:
            return None, 'use_sim_time is true and no /clock was received, so image_age is NaN'
        return None, (f'stamp is {-age:.0f} s ahead of the clock of this node, so image_age is NaN: is use_sim_time '
                      'set for only one of them, or do the clocks of two machines differ?')

    def refuses_capture(self, now: float) -> str:
        """Why the reference is not captured now, `now` in monotonic s: something touches. '' if it may be.

        Called again within CONFIRM_TIME it may be, if the reference itself is reported: of another gel or light, it
        shows a touch for good. Otherwise never, since a controller that retries would capture its grasp.
        """
        with self.lock:
            is_live = self.last_received is not None and now - self.last_received < max(RECENT, 2 * self.last_interval)
            touch = self.frames.monitor.touch if is_live else ''
            is_doubtful = self.frames.monitor.is_doubtful
            is_confirmed = is_doubtful and now - self.refused_at < CONFIRM_TIME
            self.refused_at = now if touch and is_doubtful and not is_confirmed else -math.inf
        if not touch or is_confirmed:
            return ''
        otherwise = (f'call it again within {CONFIRM_TIME:g} s' if is_doubtful
                     else 'the reference was captured during a grasp: restart the node')
        return (f'{self.label}: something touches ({touch}), and would become part of the reference: release it, then '
                f'call this service again. If nothing touches, {otherwise}')

    @property
    def imbalance(self) -> str:
        """How the counters contradict each other; '' if they add up. Call with `lock` held."""
        ended = self.classified + self.superseded + self.rejected.total() + self.paused
        held = (self.waiting is not None) + self.is_taken
        if self.received == ended + self.pending and self.pending == held:
            return ''
        return (f'the counters do not add up: received {self.received}, but classified {self.classified} + superseded '
                f'{self.superseded} + rejected {self.rejected.total()} + paused {self.paused} + pending {self.pending} '
                f'({held} images are held)')

    def take(self) -> WaitingImage | None:
        """The waiting image, which stays pending until `finish` or `reject`; call with `lock` held."""
        image, self.waiting = self.waiting, None
        self.is_taken = image is not None
        return image

    def reject(self, reason: str) -> None:
        """The taken image could not be used."""
        with self.lock:
            self._reject(reason)

    def abandon(self, reason: str) -> None:
        """Reject the taken image if it is not finished."""
        with self.lock:
            if self.is_taken:
                self._reject(reason)

    def _reject(self, reason: str) -> None:
        self.is_taken = False
        self.pending -= 1
        self.rejected[reason] += 1

    def finish(self, exit_block: int, age: float | None, now: float, is_unknown: bool = False) -> None:
        """The taken image was classified and its result published."""
        with self.lock:
            self.is_taken = False
            self.pending -= 1
            self.classified += 1
            self.exits[exit_block] += 1
            self.unknown += is_unknown
            self.last_exits.append(exit_block)
            self.result_times.append(now)
            if age is not None:
                self.ages.append(age)
