"""The thread that classifies: the newest image of every waiting sensor, in one batch."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.frames import Frame
from vit_tactile_ros.inference.image_header import DecodeError
from vit_tactile_ros.inference.note import Note
from vit_tactile_ros.inference.tau_steering import Budget, TauSteering, floor
from vit_tactile_ros.inference.touch_events import UNKNOWN
from vit_tactile_ros.model import Hurry
from vit_tactile_ros.ros.sensor import Sensor, WaitingImage
from vit_tactile_ros.ros.throttle import Logger, ThrottledLog

MAX_FAILURES = 5  # in a row without a result in between, after which the worker gives up
HOLD_LIMIT, STOP_LIMIT = 2.0, 5.0  # s to wait for the end of a batch; longer, the executor would be mute


class HangError(RuntimeError):
    """The thread does not return from a batch."""


class _Ready(NamedTuple):
    sensor: Sensor
    image: WaitingImage
    frame: Frame


class _Result(NamedTuple):
    sensor: Sensor
    image: WaitingImage
    frame: Frame
    decision: Decision
    age: float | None


# Publishes the message of one decision and returns the image's age in s, None for an image without a stamp.
Publish = Callable[[Sensor, WaitingImage, Decision], 'float | None']
# Gets a classified frame and the image's age once all results of its batch are published.
Show = Callable[[Sensor, WaitingImage, Frame, Decision, 'float | None'], None]


class ClassificationWorker:
    """Waits for images of any sensor and classifies the newest of each; `stop` finishes the waiting images.

    After any exception, the thread continues with the next image. `failures` counts exceptions that are not due to a
    single image; MAX_FAILURES of them in a row, or any other end of the thread, set `failure`.
    """

    def __init__(self, classifier: TactileClassifier, sensors: Sequence[Sensor],
                 tau: Callable[[], tuple[float, ...]], publish: Publish, logger: Logger,
                 throttled: ThrottledLog, gate: Callable[[], bool] = lambda: True,
                 budget: Callable[[], Budget] = Budget, show: Show | None = None) -> None:
        """gate: whether untouched images exit before the first block."""
        self.classifier = classifier  # replace it inside `held`
        self.steering = TauSteering()
        self.failures = 0
        self.last_failure = ''  # the last of them
        self.batches = 0  # begun; this and the next two are read by `Watchdog`
        self.is_busy = False  # with the last of them
        self.batch_times: deque[float] = deque(maxlen=100)  # s
        self._in_a_row = 0
        self._sensors = sensors
        self._tau = tau
        self._budget = budget
        self._show = show
        self._hold: tuple[threading.Event, threading.Event] | None = None  # the thread waits; it may continue
        self._publish = publish
        self._logger = logger
        self._throttled = throttled
        self._gate = gate
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # wakes up in half the time of an Event
        self._stopping = False
        self._failed = ''  # `failure` at the time of `stop`
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, name='classification', daemon=True)

    @property
    def failure(self) -> str:
        """Why no more images are classified; empty while the thread works, and after `stop` if it worked until then."""
        if self._stopping:
            return self._failed
        if self._thread.ident is None or self._thread.is_alive():
            return ''
        return f'the classification thread has ended: {self.last_failure or "no reason was logged"}'

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """Wake the worker: a sensor has a waiting image."""
        self._wake.put(None)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Between two batches: the thread waits, and images that arrive wait for it. Not for its own thread.

        Raises HangError if a batch takes longer than HOLD_LIMIT.
        """
        is_waiting, may_continue = self._hold = threading.Event(), threading.Event()
        self._wake.put(None)
        end = time.monotonic() + HOLD_LIMIT
        try:
            while not is_waiting.wait(0.05) and self._thread.is_alive():
                if time.monotonic() > end:
                    raise HangError(f'the network has not returned from a batch for {HOLD_LIMIT:g} s')
            yield
        finally:
            self._hold = None
            may_continue.set()
            self._wake.put(None)

    def stop(self, limit: float = STOP_LIMIT) -> bool:
        """Classify the waiting images, then end; returns when the thread has ended. False: a batch hangs for `limit` s.

        The thread then ends when the batch returns, without a result; until that, nothing else may use the classifier.
        """
        self._failed = self.failure
        self._stopping = True
        self._wake.put(None)
        self._thread.join(limit)
        self._is_abandoned = self._thread.is_alive()
        for sensor in self._sensors:  # nothing, unless the thread ended earlier or hangs
            if self._is_abandoned:
                sensor.abandon('internal error')
            with sensor.lock:
                is_left = sensor.take() is not None
            if is_left:
                sensor.reject('internal error')
        return not self._is_abandoned

    def _run(self) -> None:
        while self._in_a_row < MAX_FAILURES:
            try:
                self._work()
                return
            except BaseException as error:  # SystemExit too: only `stop` may end the thread
                self.is_busy = False
                if self._is_abandoned:
                    return
                self._recover(error)

    def _recover(self, error: BaseException) -> None:
        """Count the images that were being classified as rejected, and log the error."""
        self.failures += 1
        self._in_a_row += 1
        self.last_failure = f'{type(error).__name__}: {error}'
        for sensor in self._sensors:
            sensor.abandon('internal error')
        self._wake.put(None)  # an image may have arrived in between
        self._throttled.error('worker', f'classification failed, {self._in_a_row} times in a row: {self.last_failure}\n'
                              f'{"".join(traceback.format_exception(error))}')

    def _work(self) -> None:
        while True:
            self._wake.get()
            while not self._wake.empty():  # this is the only reader, and all waiting images are taken now
                self._wake.get()
            if (hold := self._hold) is not None:
                hold[0].set()
                hold[1].wait()
            stopping = self._stopping  # read before taking, so that no image is missed
            taken = []
            for sensor in self._sensors:
                with sensor.lock:
                    if (image := sensor.take()) is not None:
                        taken.append((sensor, image))
            if taken:
                begun = time.monotonic()
                self.batches += 1
                self.is_busy = True
                self._classify(taken)
                self.is_busy = False
                self.batch_times.append(time.monotonic() - begun)
                self._in_a_row = 0
            if stopping:
                return

    def _classify(self, taken: list[tuple[Sensor, WaitingImage]]) -> None:
        ready = [prepared for sensor, image in taken if (prepared := self._prepare(sensor, image)) is not None]
        tau, budget = self._tau(), self._budget()
        steered = self.steering.steered(tau, budget)
        gate = self._gate()
        is_gated = gate and any(r.frame.is_untouched for r in ready)
        untouched = self.classifier.untouched(steered) if is_gated else None
        results = [self._finish(r, untouched) for r in ready if untouched is not None and r.frame.is_untouched]
        others = []
        for r in ready:
            if untouched is not None and r.frame.is_untouched:
                continue
            last = r.sensor.last_decision if r.frame.is_unchanged else None
            if last is not None and (again := self.classifier.repeated(last, steered)) is not None:
                results.append(self._finish(r, again))
            else:
                others.append(r)
        if others:
            # Only under load: otherwise a camera faster than the network would always have a newer image waiting.
            hurry = Hurry(floor(tau, budget.tau_min), lambda place: others[place].sensor.waiting is not None) \
                if self.steering.level else None
            results += [self._finish(r, decision) for r, decision in self._decide(others, steered, hurry, gate)]
        ages = [result.age for result in results if result is not None and result.age is not None]
        self.steering.observe(max(ages, default=None))
        if self._show is not None:
            for result in results:
                if result is not None:
                    self._show(*result)

    def _decide(self, ready: Sequence[_Ready], tau: tuple[float, ...], hurry: Hurry | None, gate: bool,
                ) -> list[tuple[_Ready, Decision]]:
        """The decisions of the network, with those of the gate on a touch; images without one are rejected."""
        for r in ready:
            r.sensor.last_decision = None  # if this one fails, an earlier result must not be repeated for it
        try:
            decisions = self.classifier.classify([r.frame.image for r in ready], [r.frame.reference for r in ready],
                                                 tau, [r.frame.previous for r in ready], hurry,
                                                 [r.frame.touch_odds for r in ready] if gate else None,
                                                 [r.frame.gain for r in ready])
        except Exception as error:  # for instance out of GPU memory: try the next frame all the same
            if self._is_abandoned or _is_device_lost(error):
                raise
            for r in ready:
                self._reject_unexpected(r.sensor, error)
            return []
        if self._is_abandoned:
            raise HangError('the batch returned too late')
        decided = []
        for r, decision in zip(ready, decisions, strict=True):
            if np.isfinite(decision.probabilities).all() and np.isfinite(decision.exit_confidences).all():
                decided.append((r, decision))
                r.sensor.last_decision = decision
                continue
            r.sensor.reject('not finite')
            self._throttled.error(f'{r.sensor.name} not finite',
                                  f'{r.sensor.label}: the output of the network is not finite; try precision '
                                  'float32 or another checkpoint')
        return decided

    def _finish(self, ready: _Ready, decision: Decision) -> _Result | None:
        """Publish a result; None if that failed."""
        if ready.frame.slip is not None:
            decision = replace(decision, slip=ready.frame.slip)
        try:
            age = self._publish(ready.sensor, ready.image, decision)
        except Exception as error:
            self._reject_unexpected(ready.sensor, error)
            return None
        ready.sensor.finish(decision.exit_block, age, time.monotonic(), decision.class_name == UNKNOWN)
        return _Result(ready.sensor, ready.image, ready.frame, decision, age)

    def _prepare(self, sensor: Sensor, image: WaitingImage) -> _Ready | None:
        try:
            frame = sensor.frames.update(image.message, image.stamp_ns or image.received_ns)
        except DecodeError as error:
            sensor.reject(error.reason)
            self._throttled.warning(f'{sensor.name} {error.reason}', f'{sensor.label}: image rejected: {error}')
            return None
        except Exception as error:
            self._reject_unexpected(sensor, error)
            return None
        for note in [*frame.notes, *sensor.stream.check(frame.whole_image, frame.stamp_ns, time.monotonic())]:
            self._log(sensor, note)
        return _Ready(sensor, image, frame)

    def _log(self, sensor: Sensor, note: Note) -> None:
        cause, text = f'{sensor.name} {note.cause}', f'{sensor.label}: {note.text}'
        if not note.is_warning:
            self._logger.info(text)
        elif note.is_lasting:
            self._throttled.warning_once(cause, text)
        else:
            self._throttled.warning(cause, text)

    def _reject_unexpected(self, sensor: Sensor, error: Exception) -> None:
        sensor.reject('internal error')
        self._throttled.error(f'{sensor.name} internal error',
                              f'{sensor.label}: image not classified: {type(error).__name__}: {error}\n'
                              f'{"".join(traceback.format_exception(error))}')


def _is_device_lost(error: Exception) -> bool:
    """Whether no later image can be classified by this process: CUDA keeps such an error until the process ends."""
    text = str(error)
    return 'CUDA error' in text and 'out of memory' not in text
