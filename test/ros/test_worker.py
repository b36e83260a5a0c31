"""The classification thread, without nodes around it."""

from __future__ import annotations

import threading
import time

import pytest
import rclpy.logging
import torch
from live_nodes import image, wait_until

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import sensor_frames
from vit_tactile_ros.inference.tau_steering import Budget
from vit_tactile_ros.model import load_checkpoint
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.worker import MAX_FAILURES, ClassificationWorker


class Slow:
    """A sensor that never has an image, and takes its time to say so."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = 0

    def take(self):
        self.asked += 1
        time.sleep(0.02)


def test_calls_while_it_works_are_answered_by_one_look():
    """Images faster than the network: a call left over per image, more and more memory and empty looks later."""
    sensor = Slow()
    worker = ClassificationWorker(None, [sensor], None, None, None, None)
    worker.start()
    for _ in range(100):
        worker.notify()
        time.sleep(0.001)
    time.sleep(1.0)
    looks = sensor.asked
    worker.stop()
    assert 2 <= looks <= 30  # about 0.1 s in looks of 0.02 s; 50 by now with a look per call


def test_stop_looks_once_more():
    sensor = Slow()
    worker = ClassificationWorker(None, [sensor], None, None, None, None)
    worker.start()
    worker.stop()
    assert sensor.asked >= 1


class Bench:
    """A worker on the tiny network, whose results are collected; `fails` images end its thread's work."""

    def __init__(self, checkpoint, fails: int, error: BaseException):
        classifier = TactileClassifier(load_checkpoint(checkpoint), 'cpu', threads=1)
        logger = rclpy.logging.get_logger('bench')
        frames = sensor_frames(['left', 'right'], [''], 5, classifier.preprocessing, classifier.expects_grey)
        self.sensors = [Sensor(name, own) for name, own in frames.items()]
        self.results: list[str] = []
        self._fails, self._error = fails, error
        self.worker = ClassificationWorker(classifier, self.sensors, self._thresholds, self._publish, logger,
                                           ThrottledLog(logger))
        self.worker.start()

    def _thresholds(self):
        return (1.0, 1.0)

    def _publish(self, sensor, waiting, decision):
        if self._fails:
            self._fails -= 1
            raise self._error
        self.results.append(sensor.name)

    def send(self, number: int):
        for sensor in self.sensors:
            sensor.receive(image(number), time.monotonic(), lambda: 1)
        self.worker.notify()

    def settle(self):
        wait_until(lambda: not any(s.pending for s in self.sensors) or self.worker.failure, lambda: 'the images')

    def is_exact(self) -> bool:
        return all(s.received == s.classified + s.superseded + s.rejected.total() + s.paused + s.pending
                   for s in self.sensors)


@pytest.mark.parametrize('error', [SystemExit('the end'), KeyboardInterrupt(), GeneratorExit(), RecursionError('deep')])
def test_nothing_ends_the_thread(tiny_checkpoint, error):
    """What was raised ended the thread: active, "classifying", and no image was ever classified again."""
    bench = Bench(tiny_checkpoint, 2, error)
    for number in (1, 2, 3):
        bench.send(number)
        bench.settle()
    bench.worker.stop()
    assert bench.is_exact() and not bench.worker.failure
    assert {'left', 'right'} == set(bench.results)
    rejected = sum((s.rejected for s in bench.sensors), bench.sensors[0].rejected.__class__())
    assert set(rejected) == {'internal error'} and 2 <= rejected.total() <= 4
    if not isinstance(error, Exception):  # an Exception is the one image's alone
        assert bench.worker.failures == 2 and type(error).__name__ in bench.worker.last_failure


def test_an_error_of_the_network_costs_its_images_unless_the_device_is_lost(tiny_checkpoint, monkeypatch):
    """CUDA keeps all errors but "out of memory" until the process ends, so that the node has to end."""
    bench = Bench(tiny_checkpoint, 0, SystemExit())
    classify, error = TactileClassifier.classify, torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')

    def failing(*arguments):
        if error is not None:
            raise error
        return classify(*arguments)

    monkeypatch.setattr(TactileClassifier, 'classify', failing)
    bench.send(1)
    bench.settle()
    error = None
    bench.send(2)
    bench.settle()
    assert not bench.worker.failures
    error = RuntimeError('CUDA error: unspecified launch failure')
    for number in range(3, MAX_FAILURES + 4):
        bench.send(number)
        bench.settle()
    wait_until(lambda: bench.worker.failure, lambda: 'the failure')
    assert 'unspecified launch failure' in bench.worker.failure
    bench.worker.stop()
    assert bench.is_exact() and set(bench.results) == {'left', 'right'}
    assert all(set(sensor.rejected) == {'internal error'} for sensor in bench.sensors)


def test_it_gives_up_in_the_end(tiny_checkpoint):
    """Failing forever, with a log that nobody reads: the node is to end, so that launch starts another."""
    bench = Bench(tiny_checkpoint, 10**6, SystemExit('again'))
    for number in range(1, MAX_FAILURES + 2):
        bench.send(number)
        bench.settle()
    wait_until(lambda: bench.worker.failure, lambda: 'the failure')
    assert 'SystemExit: again' in bench.worker.failure
    assert bench.worker.failures == MAX_FAILURES
    failure = bench.worker.failure
    assert bench.worker.stop() and bench.worker.failure == failure, 'the last report did not say why the node ends'
    bench.worker.stop()
    assert bench.is_exact() and not any(s.pending for s in bench.sensors)
    assert not bench.results


def test_failures_with_results_in_between_are_no_series(tiny_checkpoint):
    bench = Bench(tiny_checkpoint, 0, SystemExit())
    for number in range(1, 2 * MAX_FAILURES + 1):
        bench._fails = number % 2
        bench.send(number)
        bench.settle()
    assert bench.worker.failures == MAX_FAILURES and not bench.worker.failure
    bench.worker.stop()


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_thread_that_ends_although_it_is_guarded(tiny_checkpoint):
    """Out of memory while the failure itself is handled, say."""
    bench = Bench(tiny_checkpoint, 1, SystemExit('first'))

    def broken(error):
        raise SystemExit('second')

    bench.worker._recover = broken
    bench.send(1)
    wait_until(lambda: bench.worker.failure, lambda: 'the failure')
    assert 'the classification thread has ended' in bench.worker.failure


def test_an_image_whose_successor_waits_takes_the_exit_at_hand(tiny_checkpoint):
    """The next image of a sensor waits until the late one has run in full depth; or all sensors hurry for one."""
    classifier = TactileClassifier(load_checkpoint(tiny_checkpoint), 'cpu', threads=1)
    frames = sensor_frames(['left', 'right'], [''], 5, classifier.preprocessing, classifier.expects_grey)
    sensors = [Sensor(name, own) for name, own in frames.items()]
    decisions = {}
    worker = ClassificationWorker(classifier, sensors, lambda: (1.0, 1.0),
                                  lambda sensor, _, decision: decisions.update({sensor.name: decision}),
                                  *[None] * 2, budget=lambda: Budget(0.05, 0.0))
    for expected in ((2, (1.0, 1.0)), (0, (0.0, 0.0))):  # in time, then late
        taken = []
        for sensor in sensors:
            sensor.receive(image(1), 0.0, lambda: 1)
            with sensor.lock:
                taken.append((sensor, sensor.take()))
        sensors[0].receive(image(2), 0.0, lambda: 1)  # while the batch is being classified
        worker._classify(taken)
        assert (decisions['left'].exit_index, decisions['left'].tau) == expected
        assert decisions['right'].exit_index == 2 and decisions['right'].tau == worker.steering.tau
        worker.steering.observe(1.0)


def test_images_that_exit_at_the_gate_are_results_in_time(tiny_checkpoint, monkeypatch):
    """A level that stays up for hours, because an untouched gel says nothing about the load."""
    classifier = TactileClassifier(load_checkpoint(tiny_checkpoint), 'cpu', threads=1)
    classifier.class_names = ('no_contact', *classifier.class_names[1:])
    frames = sensor_frames([''], [''], 5, classifier.preprocessing, classifier.expects_grey)
    sensor = Sensor('', frames[''])
    decisions, shown = [], []
    worker = ClassificationWorker(
        classifier, [sensor], lambda: (0.9, 0.9), lambda _sensor, _image, decision: decisions.append(decision) or 0.01,
        *[None] * 2, budget=lambda: Budget(0.05, 0.0), show=lambda *result: shown.append(result[3]))
    update = sensor.frames.update
    monkeypatch.setattr(sensor.frames, 'update', lambda *given: update(*given)._replace(is_untouched=True))
    worker.steering.steered((0.9, 0.9), Budget(0.05, 0.0))
    worker.steering.observe(1.0)
    before = worker.steering.level
    assert before > 0
    sensor.receive(image(1), 0.0, lambda: 1)
    with sensor.lock:
        taken = [(sensor, sensor.take())]
    worker._classify(taken)
    assert [d.exit_block for d in decisions] == [0] and shown == decisions
    assert worker.steering.level < before


def test_a_result_is_not_repeated_for_an_image_after_one_that_failed(tiny_checkpoint, monkeypatch):
    """The result of an image before that one, which shows something else, or of the checkpoint before."""
    classifier = TactileClassifier(load_checkpoint(tiny_checkpoint), 'cpu', threads=1)
    frames = sensor_frames([''], [''], 5, classifier.preprocessing, classifier.expects_grey)
    sensor, decisions, logger = Sensor('', frames['']), [], rclpy.logging.get_logger('repeats')
    worker = ClassificationWorker(classifier, [sensor], lambda: (0.9, 0.9),
                                  lambda _sensor, _image, decision: decisions.append(decision) or 0.01,
                                  logger, ThrottledLog(logger))
    update, classify, computed = sensor.frames.update, classifier.classify, []
    monkeypatch.setattr(classifier, 'classify', lambda *given: computed.append(1) or classify(*given))

    def see(is_unchanged: bool) -> int:
        """How many images the network has seen after this one."""
        monkeypatch.setattr(sensor.frames, 'update', lambda *given: update(*given)._replace(is_unchanged=is_unchanged))
        sensor.receive(image(1), 0.0, lambda: 1)
        with sensor.lock:
            taken = [(sensor, sensor.take())]
        worker._classify(taken)
        return len(computed)

    assert [see(False), see(True), see(True)] == [1, 1, 1] and len(decisions) == 3
    with monkeypatch.context() as broken:
        broken.setattr(classifier, 'classify', lambda *_: 1 / 0)
        see(False)
    assert len(decisions) == 3
    assert [see(True), see(True)] == [2, 2] and len(decisions) == 5
