"""Whether the thread that classifies still works, as seen from another thread: batches that hang, images that wait."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vit_tactile_ros.ros.sensor import Sensor, WaitingImage
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.worker import ClassificationWorker

LOOK_PERIOD = 0.25  # s between two looks
SLOWEST, SLOWER = 1.0, 20.0  # a batch hangs after 1 s, or 20 times the median of the last batches if that is more
GIVE_UP = 30.0  # s that a batch may hang before the process ends, so that launch starts another
STUCK = 1.0  # s that an image may wait while the thread is idle


class Watchdog:
    """`problems` has what is wrong now, `failure` why the node has to end; `look` is called every LOOK_PERIOD.

    Time is counted in looks: in a process that was stopped and continued, nothing has hung.
    """

    def __init__(self, worker: ClassificationWorker, sensors: Sequence[Sensor], throttled: ThrottledLog) -> None:
        self.problems: list[str] = []
        self.failure = ''
        self.rescues = 0  # how often the thread was woken although it should have been awake
        self._worker = worker
        self._sensors = sensors
        self._throttled = throttled
        self._last_look: float | None = None
        self._seen = (-1, False)  # the batch, and whether it is being classified
        self._for = 0.0  # s for which that has not changed
        self._waiting: list[WaitingImage | None] = []  # at the last look

    def look(self, now: float) -> None:
        """`now` is monotonic time in s."""
        step = 0.0 if self._last_look is None else min(now - self._last_look, 2 * LOOK_PERIOD)
        self._last_look = now
        worker = self._worker
        seen, waiting = (worker.batches, worker.is_busy), [sensor.waiting for sensor in self._sensors]
        is_same = seen == self._seen and (worker.is_busy or any(
            image is not None and image is before for image, before in zip(waiting, self._waiting, strict=False)))
        self._for = self._for + step if is_same else 0.0
        self._seen, self._waiting = seen, waiting
        self.problems = []
        if not is_same or worker.failure:
            return
        if worker.is_busy:
            self._judge_batch()
        elif self._for > STUCK:
            self._rescue()

    def _judge_batch(self) -> None:
        times = list(self._worker.batch_times)
        usual = statistics.median(times) if times else 0.0
        if self._for <= max(SLOWEST, SLOWER * usual):
            return
        text = f'the network has not returned from a batch for {self._for:.1f} s (usually {1e3 * usual:.0f} ms)'
        self.problems.append(text)
        self._throttled.error('watchdog', f'{text}; no image is classified. If it does not return within '
                              f'{GIVE_UP:g} s, this process ends')
        if self._for > GIVE_UP:
            self.failure = text

    def _rescue(self) -> None:
        self.rescues += 1
        self._for = 0.0
        self._throttled.error('watchdog idle', f'images have waited for {STUCK:g} s while the classification thread '
                              'was idle; it was woken')
        self._worker.notify()
