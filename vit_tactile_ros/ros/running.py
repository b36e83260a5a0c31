"""What a configured node runs, and how another checkpoint takes its place."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from rclpy.node import Node

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import SensorFrames, sensor_frames
from vit_tactile_ros.inference.reference_store import stored_path
from vit_tactile_ros.inference.slip_network import shipped_slip_network
from vit_tactile_ros.inference.touch_events import are_states
from vit_tactile_ros.model import Calibration, load_checkpoint
from vit_tactile_ros.ros.node_parameters import NodeParameters
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.sensor_publishers import SensorPublishers
from vit_tactile_ros.ros.topics import image_topic
from vit_tactile_ros.ros.worker import ClassificationWorker


@dataclass
class Running:
    """From configure to cleanup; a reload replaces the classifier and may replace the frames of the sensors."""

    node: Node
    settings: NodeParameters
    checkpoint: Path
    classifier: TactileClassifier
    sensors: list[Sensor]
    outputs: dict[str, SensorPublishers] = field(default_factory=dict)  # by sensor
    worker: ClassificationWorker | None = None  # while the node is active
    last_reload: str = 'none'  # for /diagnostics
    reload_failed: bool = False  # the last one


@dataclass(frozen=True)
class Loaded:
    """A classifier that is ready to run, and what belongs to its checkpoint."""

    classifier: TactileClassifier
    calibration: Calibration
    frames: dict[str, SensorFrames]  # by sensor, without a reference unless it is in a file


def new_frames(node: Node, settings: NodeParameters, classifier: TactileClassifier) -> dict[str, SensorFrames]:
    """Of every sensor, for the input of this classifier; raises UserError for a wrong reference file."""
    value = settings.value
    names = list(value('sensors') or [''])
    stores = {}
    if value('reference_store'):
        folder = Path(value('reference_store')).expanduser()
        stores = {name: stored_path(folder, node.resolve_topic_name(image_topic(name, value('image_transport'))))
                  for name in names}
    return sensor_frames(names, list(value('reference_files') or ['']), value('reference_frames'),
                         classifier.preprocessing, classifier.expects_grey, value('reference_drift'), stores,
                         classifier.digest,
                         shipped_slip_network(classifier.class_names) if value('slip_motion') else None,
                         value('skip_unchanged'))


def load_beside(running: Running, classifier: TactileClassifier) -> Loaded:
    """In a thread; with engine, precision and threads of the running `classifier`: measuring under load misleads."""
    checkpoint = load_checkpoint(running.checkpoint)
    runtime = classifier.runtime
    loaded = TactileClassifier(checkpoint, str(runtime.device), runtime.precision, classifier.threads, runtime.name)
    loaded.warm_up(range(1, len(running.sensors) + 1))
    return Loaded(loaded, checkpoint.calibration, new_frames(running.node, running.settings, loaded))


def adopt(running: Running, loaded: Loaded) -> str:
    """Put a loaded classifier in place, between two batches; returns what is new about it.

    If it raises, nothing has changed.
    """
    new, old = loaded.classifier, running.classifier
    sees_the_same = (new.preprocessing, new.expects_grey, are_states(new.class_names)) == (
        old.preprocessing, old.expects_grey, are_states(old.class_names))
    fits_the_same = all(getattr(new.preprocessing, name) == getattr(old.preprocessing, name)
                        for name in ('image_size', 'orientation', 'crop', 'reference'))
    with running.worker.held() if running.worker is not None else contextlib.nullcontext():
        running.settings.check(loaded.calibration, len(new.exits))
        try:
            _use_classes(running, new)
        except BaseException:
            _use_classes(running, old)
            raise
        running.settings.configure(loaded.calibration, len(new.exits))
        for sensor in running.sensors:
            sensor.last_decision = None
            fresh = loaded.frames[sensor.name]
            if sees_the_same:
                sensor.frames.use_gain_of(fresh)  # it is for one checkpoint
            else:
                if fits_the_same:
                    fresh.take_over(sensor.frames)
                sensor.frames = fresh
        running.classifier = new
        if running.worker is not None:
            running.worker.classifier = new
    notes = [f'{len(new.class_names)} classes', f'tau {running.settings.thresholds()}']
    if new.class_names != old.class_names:
        notes.append('other classes than before')
    if not fits_the_same and new.needs_reference:
        notes.append('another preprocessing than before, so references without a file are captured again from the '
                     'next frames: touch nothing')
    return ', '.join(notes)


def _use_classes(running: Running, classifier: TactileClassifier) -> None:
    for outputs in running.outputs.values():
        outputs.use(classifier.class_names, len(classifier.exits))
