"""What the watchdog reports of a worker, without nodes around it."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np
import pytest
import rclpy.logging
from live_nodes import image, wait_until

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import sensor_frames
from vit_tactile_ros.model import load_checkpoint
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.watchdog import GIVE_UP, LOOK_PERIOD, SLOWEST, STUCK, Watchdog
from vit_tactile_ros.ros.worker import ClassificationWorker, HangError


class Worker:
    """What the watchdog reads of a worker."""

    def __init__(self):
        self.failure = ''
        self.batches = 0
        self.is_busy = False
        self.batch_times = deque([0.005] * 10)
        self.woken = 0

    def notify(self):
        self.woken += 1


def sensor() -> Sensor:
    return Sensor('', None)


@pytest.fixture
def watched():
    worker, one = Worker(), sensor()
    return worker, one, Watchdog(worker, [one], ThrottledLog(rclpy.logging.get_logger('watched')))


def look(watchdog, seconds: float, start: float = 0.0, period: float = LOOK_PERIOD) -> float:
    """Looks for that time; returns the time then."""
    now = start
    while now <= start + seconds:
        watchdog.look(now)
        now += period
    return now


def test_a_batch_that_hangs_is_reported_while_it_hangs(watched):
    """The network did not return: active, "classifying", and no image was classified."""
    worker, _, watchdog = watched
    worker.batches, worker.is_busy = 7, True
    now = look(watchdog, SLOWEST / 2)
    assert watchdog.problems == []
    now = look(watchdog, SLOWEST, now)
    assert 'has not returned from a batch for 1.' in watchdog.problems[0] and 'usually 5 ms' in watchdog.problems[0]
    assert watchdog.failure == ''
    now = look(watchdog, GIVE_UP, now)
    assert 'has not returned' in watchdog.failure
    worker.batches += 1
    watchdog.look(now)
    assert watchdog.problems == []


def test_a_slow_network_does_not_hang(watched):
    worker, _, watchdog = watched
    worker.batch_times = deque([0.2] * 10)
    worker.is_busy = True
    look(watchdog, 3.5)
    assert watchdog.problems == []
    look(watchdog, 5.0, 3.5)
    assert watchdog.problems


def test_a_process_that_was_stopped_has_not_hung(watched):
    """SIGSTOP for a minute in the middle of a batch."""
    worker, _, watchdog = watched
    worker.is_busy = True
    watchdog.look(0.0)
    watchdog.look(60.0)
    assert watchdog.problems == [] and not watchdog.failure


def test_an_image_that_waits_wakes_the_worker(watched):
    worker, one, watchdog = watched
    one.receive(image(1), 0.0, lambda: 1)
    now = look(watchdog, STUCK + 2 * LOOK_PERIOD)
    assert worker.woken == watchdog.rescues == 1
    with one.lock:
        one.take()
    look(watchdog, 5.0, now)
    assert worker.woken == 1


def test_counters_that_do_not_add_up_are_found():
    one = sensor()
    one.receive(image(1), 0.0, lambda: 1)
    assert one.imbalance == ''
    with one.lock:
        one.take()
    assert one.imbalance == ''
    one.finish(4, None, 0.0)
    assert one.imbalance == ''
    one.received += 1
    assert 'received 2, but classified 1' in one.imbalance
    one.pending += 1
    assert '(0 images are held)' in one.imbalance


def test_a_hanging_worker_is_left_and_publishes_nothing_later(tiny_checkpoint, monkeypatch):
    """Deactivation and ~/enable waited for ever, and with them the executor: no service, no report."""
    monkeypatch.setattr('vit_tactile_ros.ros.worker.HOLD_LIMIT', 0.1)
    classifier = TactileClassifier(load_checkpoint(tiny_checkpoint), 'cpu', threads=1)
    one = Sensor('', sensor_frames([''], [''], 5, classifier.preprocessing, classifier.expects_grey)[''])
    hangs, results, classify = threading.Event(), [], classifier.classify

    def hang(*given):
        hangs.wait(30.0)
        return classify(*given)
    monkeypatch.setattr(classifier, 'classify', hang)
    logger = rclpy.logging.get_logger('hangs')
    worker = ClassificationWorker(classifier, [one], lambda: (1.0, 1.0), lambda *result: results.append(result), logger,
                                  ThrottledLog(logger))
    worker.start()
    one.receive(image(1), time.monotonic(), lambda: 1)
    worker.notify()
    wait_until(lambda: worker.is_busy, lambda: 'the batch')
    with pytest.raises(HangError), worker.held():
        pass
    assert not worker.stop(0.1)
    assert (one.pending, one.rejected['internal error'], one.imbalance) == (0, 1, '')
    hangs.set()
    worker._thread.join(10.0)
    assert not worker._thread.is_alive() and not results and one.imbalance == ''


@pytest.mark.parametrize('field', ['probabilities', 'exit_confidences'])
def test_numbers_that_are_not_finite_are_not_published(tiny_checkpoint, monkeypatch, field):
    classifier = TactileClassifier(load_checkpoint(tiny_checkpoint), 'cpu', threads=1)
    one = Sensor('', sensor_frames([''], [''], 5, classifier.preprocessing, classifier.expects_grey)[''])
    classify, results = classifier.classify, []

    def broken(*given):
        decisions = classify(*given)
        getattr(decisions[0], field)[np.argmin(getattr(decisions[0], field))] = np.nan
        return decisions
    monkeypatch.setattr(classifier, 'classify', broken)
    logger = rclpy.logging.get_logger('broken')
    worker = ClassificationWorker(classifier, [one], lambda: (1.0, 1.0), lambda *result: results.append(result), logger,
                                  ThrottledLog(logger))
    one.receive(image(1), 0.0, lambda: 1)
    with one.lock:
        taken = [(one, one.take())]
    worker._classify(taken)
    assert (one.rejected['not finite'], results) == (1, [])
