"""The same messages through the live worker, replay and training: the network gets the same inputs, to the bit."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy.logging
from live_nodes import wait_until
from toy_bags import write_bag
from toy_outputs import NAMES, toy_checkpoint

from vit_tactile_ros.data.bags.recording import Recording, stamp_of
from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.evaluation.outputs import inputs_of
from vit_tactile_ros.evaluation.recordings.replaying import ReplaySettings, replay
from vit_tactile_ros.inference.adaptation import adapted
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import sensor_frames
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.inference.reference_monitor import ReferenceMonitor
from vit_tactile_ros.inference.reference_store import stored_path, write_reference
from vit_tactile_ros.inference.slip_evidence import SlipEvidence
from vit_tactile_ros.inference.slip_network import Convolutions, shipped_slip_network
from vit_tactile_ros.inference.touch_events import STATES
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
    play(bag, classifier, lambda *_: None)
    return np.stack(classifier.runtime.inputs)


def play(bag: Path, classifier: TactileClassifier, publish, gate: bool = True, store: Path | None = None,
         tau: tuple[float, ...] = TAU, skip_unchanged: bool = False) -> None:
    logger = rclpy.logging.get_logger('one_path')
    stores = {} if store is None else {'left': stored_path(store, '/left/image_raw')}
    sensor = Sensor('left', sensor_frames(['left'], [''], REFERENCE_FRAMES, classifier.preprocessing, False,
                                          stores=stores, weights=classifier.digest,
                                          slip_network=shipped_slip_network(classifier.class_names),
                                          finds_unchanged=skip_unchanged)['left'])
    worker = ClassificationWorker(classifier, [sensor], lambda: tau, publish, logger, ThrottledLog(logger),
                                  gate=lambda: gate)
    worker.start()
    with Recording(bag) as recording:
        for found in recording.messages({c.topic for c in recording.connections if 'image_raw' in c.topic}):
            message = recording.deserialise(found)
            sensor.receive(to_ros(message, stamp_of(message, found)), time.monotonic(), lambda: 1)
            worker.notify()
            wait_until(lambda: not sensor.pending, lambda: 'the image')
    worker.stop()
    assert not worker.failure and not sensor.rejected


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


def test_the_gain_of_an_adapted_sensor_in_live_and_replay(tmp_path):
    """One of them shows the network the plain difference, or looks for the file under another name."""
    checkpoint = dataclasses.replace(toy_checkpoint(), digest='sha256:toy')
    bag = write_bag(tmp_path / 'b', {'left': LABELS}, still=REFERENCE_FRAMES)
    gel = [np.full((32, 32, 3), 90, np.uint8)] * 20
    shown = []
    for gain in (1.0, 2.0):
        stored = adapted(gel, (24, 32), gain, checkpoint.digest)
        write_reference(stored_path(tmp_path, '/left/image_raw'), stored, checkpoint.preprocessing)
        inputs = []
        for kind in ('live', 'replay'):
            classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
            classifier.runtime = Recorder(classifier.runtime)
            if kind == 'live':
                play(bag, classifier, lambda *_: None, store=tmp_path)
            else:
                settings = ReplaySettings(tau=TAU, batch_size=4, timing_frames=0, reference_store=tmp_path)
                replay(bag, 'b', classifier, settings)
            inputs.append(np.stack(classifier.runtime.inputs))
        np.testing.assert_array_equal(inputs[0], inputs[1])
        shown.append(inputs[0])
    assert np.abs(shown[1]).sum() > 1.2 * np.abs(shown[0]).sum()


def test_evidence_of_a_touch_in_live_and_replay(tmp_path, monkeypatch):
    """Odds that only one of them uses, or that are used without the gate."""
    monkeypatch.setattr(ReferenceMonitor, 'touch_odds', 10.0)
    checkpoint = dataclasses.replace(toy_checkpoint(), class_names=('no_contact', *NAMES[1:]))
    classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
    bag = write_bag(tmp_path / 'b', {'left': LABELS}, still=REFERENCE_FRAMES)
    odds = []
    for gate in (True, False):
        live: list[np.ndarray] = []
        play(bag, classifier, lambda _sensor, _image, decision, to=live: to.append(decision.probabilities), gate)
        settings = ReplaySettings(tau=TAU, batch_size=4, timing_frames=0, gate=gate)
        found = replay(bag, 'b', classifier, settings).table.probabilities
        np.testing.assert_allclose(found, np.stack(live), atol=1e-5)
        odds.append(found[:, 0] / (1 - found[:, 0]))
    np.testing.assert_allclose(odds[1] / odds[0], 10.0, rtol=0.02)


def test_motion_over_seconds_in_live_and_replay(tmp_path, monkeypatch):
    """Events of slip that differ: the motion is seen by one of them only, or is rounded on the way into the table."""
    checkpoint = dataclasses.replace(toy_checkpoint(), class_names=STATES)
    monkeypatch.setattr(Convolutions, 'context', 0)  # the recording is shorter
    classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
    bag = write_bag(tmp_path / 'b', {'left': LABELS}, still=REFERENCE_FRAMES)
    live: list[SlipEvidence] = []
    play(bag, classifier, lambda _sensor, _image, decision: live.append(decision.slip))
    table = replay(bag, 'b', classifier, ReplaySettings(tau=TAU, batch_size=4, timing_frames=0)).table
    assert len(live) == len(table) and np.ptp([one.states[0] for one in live]) > 0
    for row, one in enumerate(live):
        np.testing.assert_array_equal(table.slip(row).states, one.states)
        assert table.slip(row).lost == one.lost or np.isnan(one.lost)
    settings = ReplaySettings(tau=TAU, batch_size=4, timing_frames=0, slip_motion=False)
    assert replay(bag, 'b', classifier, settings).table.motion is None


@pytest.mark.parametrize('tau', (0.9, 1.0))
def test_unchanged_images_in_live_and_replay(tmp_path, tau):
    """A result that only one of them repeats, or that is repeated although every image should be computed."""
    checkpoint = dataclasses.replace(toy_checkpoint(), class_names=('no_contact', *NAMES[1:]))
    rng = np.random.default_rng(0)
    images = [rng.normal(100, 1, (24, 32, 3)) for _ in range(16)]
    for number, image in enumerate(images):  # untouched, a touch that is held, a wider one, another after a pause
        image[4:12, 4:12 if number < 10 else 24] += 60 * (number > 5 and number != 13)
    bag = write_bag(tmp_path / 'b', {'left': [None] * 16}, of=[image.round().astype(np.uint8) for image in images])
    counts = []
    for skip in (False, True):
        classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
        classifier.runtime = Recorder(classifier.runtime)
        live = []
        play(bag, classifier, lambda _sensor, _image, decision, to=live: to.append(decision), tau=(tau, tau),
             skip_unchanged=skip)
        counts.append(len(classifier.runtime.inputs))
        table = replay(bag, 'b', classifier, ReplaySettings(tau=(tau, tau), batch_size=4, timing_frames=0,
                                                            skip_unchanged=skip)).table
        assert [d.exit_index for d in live] == table.exit_index.tolist()
        np.testing.assert_allclose(np.stack([d.probabilities for d in live]), table.probabilities, atol=1e-5)
        repeated = [n for n, d in enumerate(live) if d.exit_index >= 0 and d.compute_share == 0]
        assert repeated == np.flatnonzero(table.is_unchanged).tolist()
        assert repeated == ([7, 8, 9, 11, 12, 15] if skip and tau < 1 else [])
        for number in repeated:
            assert np.array_equal(live[number].probabilities, live[number - 1].probabilities)
    assert counts[0] - counts[1] == len(repeated)
