"""The thread that reads a camera, counts what fails, and opens it again when it is lost."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.ros.camera.devices import CameraError
from vit_tactile_ros.ros.camera.sources import BadFrame, Frame, Frames
from vit_tactile_ros.ros.status import rate_of
from vit_tactile_ros.ros.throttle import ThrottledLog

FIRST_DELAY, LONGEST_DELAY = 0.1, 1.0  # s between two attempts to open the camera, doubled every time
STOP_TIMEOUT = 1.2  # s; a read of a device that sends nothing ends within sources.READ_TIMEOUT
RATE_WINDOW = 2.0  # s
NOT_OPENED = 'not opened yet'


class CameraReader:
    """Hands every frame to `on_frame`, in its own thread.

    `open_frames` gets a function that waits for a number of seconds, or until the reader stops.
    `problem` is the reason why no images arrive; '' while they do.
    `failure` is why the thread has ended for good: a bug, or a video without images; '' if it has not.
    `has_ended` is true after the end of a video.
    """

    def __init__(self, open_frames: Callable[[Callable[[float], bool]], Frames], on_frame: Callable[[Frame], object],
                 log: ThrottledLog) -> None:
        self.images = self.failed_reads = self.reconnects = 0
        self.problem = NOT_OPENED
        self.failure = ''
        self.has_ended = False
        self._open_frames = open_frames
        self._on_frame = on_frame
        self._log = log
        self._captured: deque[float] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='camera', daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(STOP_TIMEOUT)

    def rate(self) -> float:
        """Hz over the last RATE_WINDOW s, by the times of capture; 0 while no images come."""
        with self._lock:
            times = [t for t in self._captured if t > time.monotonic() - RATE_WINDOW]
        return rate_of(times)

    def last_image(self) -> float | None:
        """Time of capture of the newest image."""
        with self._lock:
            return self._captured[-1] if self._captured else None

    def _run(self) -> None:
        delay = FIRST_DELAY
        while not self._stop.is_set():
            try:
                with contextlib.closing(self._open_frames(self._stop.wait)) as frames:  # type: ignore[type-var]
                    for frame in frames:
                        if self._stop.is_set():
                            return
                        if isinstance(frame, BadFrame):
                            self.failed_reads += 1
                            self._log.warning('failed read', frame.reason)
                        else:
                            self._take(frame)
                            delay = FIRST_DELAY
                self.has_ended = True
                return
            except CameraError as error:
                self.problem = str(error)
                self._log.warning('lost', f'{error}; trying again until it can be read')
                self._stop.wait(delay)
                delay = min(2 * delay, LONGEST_DELAY)
            except RunError as error:
                self.failure = str(error)
                return
            except Exception as error:
                self.failure = f'internal error while reading the camera: {"".join(traceback.format_exception(error))}'
                return

    def _take(self, frame: Frame) -> None:
        if self.problem and (last := self.last_image()) is not None:
            self.reconnects += 1
            self._log.info('images again', f'images again after {frame.captured - last:.1f} s')
        self.problem = ''
        self.images += 1
        with self._lock:
            self._captured.append(frame.captured)
            while self._captured[0] < frame.captured - RATE_WINDOW:
                self._captured.popleft()
        self._on_frame(frame)
