"""The classification thread, without nodes around it."""

import threading
import time

from vit_tactile_ros.ros.worker import ClassificationWorker


class Slow:
    """A sensor that never has an image, and takes its time to say so."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = 0

    def take(self):
        self.asked += 1
        time.sleep(0.02)


def test_calls_while_it_works_are_answered_by_one_look():
    """Images faster than the network: a call left over per image, for ever more of memory and empty looks later."""
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
