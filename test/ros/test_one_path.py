"""The same messages through the live worker, replay and training: the network gets the same inputs, to the bit."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import rclpy.logging
from live_nodes import wait_until
from toy_bags import write_bag
from toy_outputs import toy_checkpoint

from vit_tactile_ros.data.bags.recording import Recording, stamp_of
from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.evaluation.outputs import inputs_of
from vit_tactile_ros.evaluation.recordings.replaying import ReplaySettings, replay
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import sensor_frames
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.ros.live.bag_player import to_ros
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.worker import ClassificationWorker

TAU = (1.0, 1.0)
LABELS: list[str | None] = ['a'] * 8 + ['b'] * 6


class Recorder:
    """An engine that keeps what it is given."""

    def __init__(self, runtime) -> None:
        self._runtime = runtime
        self.inputs: list[np.ndarray] = []

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def stages(self, images):
        self.inputs += list(images.numpy().copy())
        return self._runtime.stages(images)


def recording_classifier(motion: float, views: int) -> TactileClassifier:
    classifier = TactileClassifier(toy_checkpoint(motion=motion, views=views), 'cpu', threads=1)
    classifier.runtime = Recorder(classifier.runtime)
    return classifier


def live_inputs(bag: Path, motion: float = 0.0, views: int = 1) -> np.ndarray:
    classifier = recording_classifier(motion, views)
    logger = rclpy.logging.get_logger('one_path')
    sensor = Sensor('left', sensor_frames(['left'], [''], REFERENCE_FRAMES, classifier.preprocessing, False)['left'])
    worker = ClassificationWorker(classifier, [sensor], lambda: TAU, lambda *_: None, logger, ThrottledLog(logger))
    worker.start()
    with Recording(bag) as recording:
        for found in recording.messages({c.topic for c in recording.connections if 'image_raw' in c.topic}):
            message = recording.deserialise(found)
            sensor.receive(to_ros(message, stamp_of(message, found)), time.monotonic(), lambda: 1)
            worker.notify()
            wait_until(lambda: not sensor.pending, lambda: 'the image')
    worker.stop()
    assert not worker.failure and not sensor.rejected
    return np.stack(classifier.runtime.inputs)


def replay_inputs(bag: Path, motion: float = 0.0, views: int = 1) -> np.ndarray:
    classifier = recording_classifier(motion, views)
    replayed = replay(bag, 'b', classifier, ReplaySettings(tau=TAU, batch_size=4, timing_frames=0))
    assert len(replayed.table) == len(LABELS)
    return np.stack(classifier.runtime.inputs)


def training_inputs(bag: Path, motion: float = 0.0, views: int = 1) -> np.ndarray:
    preprocessing = toy_checkpoint(motion=motion, views=views).preprocessing
    frames = TouchFrames(load_touches(bag), preprocessing)
    return inputs_of(frames, preprocessing, range(len(frames)))


@pytest.mark.parametrize(('compressed', 'encoding'), [(False, 'rgb8'), (False, 'bgr8'), (False, '8UC3'), (True, '')])
def test_live_replay_and_training(tmp_path, compressed, encoding):
    """A decoder, size or reference of its own for one of them: the network is trained on what the robot never sees.

    The sensor is still at the start: training keeps the mean in grey levels, rounded.
    """
    bag = write_bag(tmp_path / 'b', {'left': LABELS}, compressed=compressed, encoding=encoding,
                    still=REFERENCE_FRAMES)
    live = live_inputs(bag)
    np.testing.assert_array_equal(replay_inputs(bag), live)
    np.testing.assert_array_equal(training_inputs(bag), live)
    assert len(np.unique(live.reshape(len(live), -1), axis=0)) == len(LABELS) - REFERENCE_FRAMES + 1


def test_live_and_replay_of_a_sensor_that_is_not_still(tmp_path):
    """The mean so far, then the mean: not of other images, and not rounded in one of them."""
    bag = write_bag(tmp_path / 'b', {'left': LABELS})
    live = live_inputs(bag)
    np.testing.assert_array_equal(replay_inputs(bag), live)
    # Training rounds the mean, and again when it is resized from 32x24 to 32x32 px.
    level = 1 / (255 * min(toy_checkpoint().preprocessing.std))
    assert np.abs(training_inputs(bag) - live)[REFERENCE_FRAMES:].max() <= 1.01 * level


def test_motion_in_live_replay_and_training(tmp_path):
    """Another image before it, which the network is then trained on: from the labelled images only, or by arrival.

    Images come every 0.1 s, so each has the one before it: of the same touch, of another, or without a label.
    """
    labels = [None] * 6 + LABELS[6:]
    bag = write_bag(tmp_path / 'b', {'left': labels}, still=REFERENCE_FRAMES)
    live = live_inputs(bag, 0.08)
    assert live.shape[1] == 6
    np.testing.assert_array_equal(replay_inputs(bag, 0.08), live)
    np.testing.assert_array_equal(training_inputs(bag, 0.08), live[6:])
    assert not live[:REFERENCE_FRAMES, 3:].any() and all(moved.any() for moved in live[REFERENCE_FRAMES:, 3:])
    # A network without motion gets the same colours, one with two views the same motion first.
    np.testing.assert_array_equal(replay_inputs(bag), live[:, :3])
    further = live_inputs(bag, 0.08, views=2)
    np.testing.assert_array_equal(further[:, :6], live)
    assert further.shape[1] == 9 and (further[:, 6:] != further[:, 3:6]).any()
    np.testing.assert_array_equal(replay_inputs(bag, 0.08, views=2), further)
    np.testing.assert_array_equal(training_inputs(bag, 0.08, views=2), further[6:])
