"""The thread that keeps a camera open."""

from __future__ import annotations

import threading
import time

import numpy as np
from live_nodes import wait_until

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.ros.camera import reader as reader_module
from vit_tactile_ros.ros.camera.devices import CameraError
from vit_tactile_ros.ros.camera.reader import CameraReader
from vit_tactile_ros.ros.camera.sources import BadFrame, Frame
from vit_tactile_ros.ros.throttle import ThrottledLog

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Log:
    def __init__(self):
        self.lines = []
        self.info = self.warning = self.error = self.lines.append


def reader_of(*openings):
    """A reader whose n-th attempt to open the camera gets openings[n]: items to yield, exceptions to raise."""
    log, frames, attempts = Log(), [], []

    def open_frames(wait):
        attempts.append(time.monotonic())
        for item in openings[min(len(attempts), len(openings)) - 1]:
            if isinstance(item, Exception):
                raise item
            yield item if item else Frame(IMAGE, time.monotonic())

    reader = CameraReader(open_frames, frames.append, ThrottledLog(log))
    reader.start()
    return reader, log.lines, frames, attempts


def test_lost_and_back():
    """Counted, told, and the delay between attempts grows: no busy loop while the camera is unplugged."""
    gone = CameraError('/dev/video0 is gone')
    reader, lines, frames, attempts = reader_of([None, gone], [gone], [gone], [None, BadFrame('cut'), None])
    wait_until(lambda: reader.has_ended, lambda: f'the end: {lines}')
    assert (len(frames), reader.images, reader.failed_reads, reader.reconnects, reader.problem) == (3, 3, 1, 1, '')
    assert '/dev/video0 is gone' in lines[0] and any('images again after' in line for line in lines) and 'cut' in lines
    delays = np.diff(attempts)
    assert list(delays >= [0.1, 0.2, 0.4]) == [True] * 3


def test_a_camera_that_is_plugged_in_later_is_not_a_reconnect():
    reader, _, frames, _ = reader_of([CameraError('no camera')], [None])
    wait_until(lambda: reader.has_ended, lambda: 'the end')
    assert (len(frames), reader.reconnects) == (1, 0)


def test_stop_does_not_wait_for_the_next_attempt(monkeypatch):
    monkeypatch.setattr(reader_module, 'FIRST_DELAY', 60.0)
    reader, _, _, attempts = reader_of([CameraError('no camera')])
    wait_until(lambda: attempts, lambda: 'the first attempt')
    reader.stop()
    assert 'camera' not in [thread.name for thread in threading.enumerate()]


def test_a_bug_ends_it():
    """Not an endless loop of the same exception."""
    reader, _, _, attempts = reader_of([ZeroDivisionError('oh')])
    wait_until(lambda: reader.failure, lambda: 'the failure')
    assert 'ZeroDivisionError: oh' in reader.failure and len(attempts) == 1


def test_a_video_without_images_ends_it():
    """It was opened again and again, or ended as if it had been played."""
    reader, _, _, attempts = reader_of([BadFrame('broken'), RunError('no image in it')])
    wait_until(lambda: reader.failure, lambda: 'the failure')
    assert reader.failure == 'no image in it' and len(attempts) == 1 and not reader.has_ended


def test_rate():
    """By the times of capture; 0 when the newest image is old."""
    now = time.monotonic()
    # Later than now: this machine may be busy for as long as the window.
    reader, *_ = reader_of([Frame(IMAGE, now + 60.0 + 0.02 * n) for n in range(50)])
    wait_until(lambda: reader.has_ended, lambda: 'the end')
    assert abs(reader.rate() - 50.0) < 0.1
    reader, *_ = reader_of([Frame(IMAGE, now - 10.0 + 0.02 * n) for n in range(50)])
    wait_until(lambda: reader.has_ended, lambda: 'the end')
    assert reader.rate() == 0.0
