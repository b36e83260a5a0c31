"""Classify a recording as fast as possible: read and decoded in a thread, classified in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros.data.bags.images import image_topics, sensor_of
from vit_tactile_ros.data.bags.labels import LabelFile, labels_of
from vit_tactile_ros.data.bags.recording import Recording, stamp_of
from vit_tactile_ros.data.bags.storage import Topic
from vit_tactile_ros.data.prefetch import Prefetch
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable, Rejection, merge_rejections
from vit_tactile_ros.evaluation.recordings.sensor_notes import sensor_notes
from vit_tactile_ros.evaluation.recordings.truth import Truth
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import SensorFrames, sensor_frames
from vit_tactile_ros.inference.gate import GATE_EXIT_INDEX
from vit_tactile_ros.inference.image_header import DecodeError
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.inference.reference_monitor import DRIFT
from vit_tactile_ros.inference.reference_store import stored_path
from vit_tactile_ros.inference.runtime import Precision
from vit_tactile_ros.inference.slip_evidence import SlipEvidence
from vit_tactile_ros.inference.slip_network import shipped_slip_network
from vit_tactile_ros.inference.touch_events import STATES
from vit_tactile_ros.model import PreprocessingConfig


@dataclass(frozen=True)
class ReplaySettings:
    """What to replay of recordings, and how."""

    tau: tuple[float, ...]  # one per early exit
    topics: tuple[str, ...] = ()  # of images; empty: all
    sensors: tuple[str, ...] = ()  # empty: all
    start: float | None = None  # s from the recording's first message
    stop: float | None = None  # s, not included
    labels: LabelFile | None = None  # None: the label messages in the recording, if any
    reference_frames: int = REFERENCE_FRAMES  # first frames of a sensor, averaged to its no-contact reference
    reference_files: tuple[tuple[str, str], ...] = ()  # (sensor, image without contact)
    batch_size: int = 32
    timing_frames: int = 100  # frames of a recording that are also run alone, as live, to measure their time; 0: none
    engine: str = 'torch'  # see `engines.select`
    precision: Precision = 'float32'
    gate: bool = True  # untouched frames exit before the first block
    reference_drift: float = DRIFT  # s; 0: the reference is not followed
    reference_store: Path | None = None  # folder with references that adapt or the node stored; not written to
    slip_motion: bool = True  # for classes that are states
    skip_unchanged: bool = False  # an unchanged touched frame gets the result of an earlier one


@dataclass
class Replayed:
    """The result of one recording."""

    table: FrameTable
    images: int = 0  # messages read, classified or rejected
    problems: tuple[str, ...] = ()  # what is missing
    notes: tuple[str, ...] = ()  # what is unusual
    used_lines: frozenset[int] = frozenset()  # of the CSV of labels
    is_stopped: bool = False  # by Ctrl-C


class Row(NamedTuple):
    """A frame's place in the table, without its prediction."""

    sensor: str
    topic: str
    number: int  # the table's index
    stamp: int
    received: int
    label: int
    touch: str
    is_gated: bool
    touch_odds: float  # from the difference to the reference, and in the logits; 1 without the gate
    zoom: float = 1.0  # of the part that the network sees; 1: the whole image
    slip: SlipEvidence | None = None
    is_unchanged: bool = False  # it gets the logits of the last frame of its sensor of which this is False


class Selection(NamedTuple):
    """The requested part of a recording."""

    sensor_of_topic: dict[str, str]
    start: int | None  # ns
    stop: int | None
    images: int  # messages on these topics in the whole recording
    problems: list[str]

    @property
    def sensors(self) -> list[str]:
        return sorted(set(self.sensor_of_topic.values()))


def select(recording: Recording, settings: ReplaySettings) -> Selection:
    """The requested image topics, and requested inputs that are missing."""
    problems = []
    held = {c.topic for c in recording.connections}
    wanted = {'/' + topic.strip('/') for topic in settings.topics}
    for topic in sorted(wanted - held):
        problems.append(f'{recording.path}: no topic {topic}; it has {", ".join(sorted(held)) or "none"}')
    chosen: dict[str, Topic] = {}
    try:
        chosen = image_topics([c for c in recording.connections if not wanted or c.topic in wanted], recording.path)
    except DataError as error:
        if not (problems or recording.problems):
            problems.append(str(error))
    used = {topic.topic for topic in chosen.values()}
    for topic in sorted((wanted & held) - used):
        problems.append(f'{recording.path}: {topic} is not replayed: it has no images, or is the compressed form of '
                        'another topic that is')
    names = {sensor.strip('/') for sensor in settings.sensors}
    for sensor in sorted(names - set(chosen)):
        found = ', '.join(repr(s) if s else 'the unnamed sensor' for s in sorted(chosen))
        problems.append(f'{recording.path}: no images of a sensor {sensor!r}; it has {found or "none"}')
    kept = [topic for sensor, topic in chosen.items() if not names or sensor in names]
    start, stop = (None if s is None else recording.start + round(s * 1e9) for s in (settings.start, settings.stop))
    if kept and start is not None and start >= recording.end:
        problems.append(f'{recording.path}: start is {settings.start} s; the recording lasts '
                        f'{(recording.end - recording.start) / 1e9:.3f} s')
    return Selection({c.topic: sensor_of(c.topic) for c in kept}, start, stop, sum(c.msgcount for c in kept), problems)


def replay(path: Path, name: str, classifier: TactileClassifier, settings: ReplaySettings,
           progress: Callable[[int], Any] = lambda images: None) -> Replayed:
    """Every image of a recording through all exits; memory holds a few batches of images, however long it is.

    `progress` is called with the number of images read since its last call. Ctrl-C ends it with the results so far.
    Raises DataError if nothing can be read, and UserError for a reference that is not an image.
    """
    cv2.setNumThreads(1)
    empty = FrameTable.empty(classifier.class_names, classifier.exits, classifier.compute_shares,
                             classifier.temperatures, settings.tau)
    with Recording(path) as recording:
        selection = select(recording, settings)
        labels = labels_of(recording, settings.labels, selection.sensors, name)
        truth = Truth(labels, classifier.class_names, name)
        collected = _Collected(name, recording.start, empty, [])
        stopped = False
        expected = selection.images
        every = max(8, expected // settings.timing_frames) if settings.timing_frames else 0
        names, files = selection.sensors, dict(settings.reference_files)
        sensors = sensor_frames(names, [files.get(name, '') for name in names],
                                                    settings.reference_frames, classifier.preprocessing,
                                                    classifier.expects_grey, settings.reference_drift,
                                                    _stores(selection, settings), classifier.digest,
                                                    shipped_slip_network(classifier.class_names)
                                                    if settings.slip_motion else None,
                                                    settings.skip_unchanged and min(settings.tau, default=1.0) < 1)
        gate = settings.gate and classifier.untouched(settings.tau) is not None
        batches = _batches(recording, selection, settings, classifier.preprocessing, sensors, truth, collected,
                           gate)
        ahead = Prefetch(batches, 2)
        try:
            if selection.sensor_of_topic:
                for inputs, rows, read in ahead:
                    collected.add(classifier, inputs, rows, settings.tau, every)
                    progress(read)
        except KeyboardInterrupt:
            stopped = True
        finally:
            ahead.close()
        is_whole = not stopped and settings.start is None and settings.stop is None and not recording.problems
        truth.finish(is_whole)
        short = [] if stopped else [f'{name}: sensor {sensor!r} {frames.shortage}'
                                    for sensor, frames in sensors.items() if frames.shortage]
        unstored = [f'{path}: reference_store has no usable reference of sensor {sensor!r} ({store}), so its first '
                    'images are used: run adapt, or the node with this folder'
                    for sensor, store in _stores(selection, settings).items() if sensors[sensor].stored_at is None]
        unusual = [note for sensor, frames in sensors.items() for note in sensor_notes(path, frames, sensor)]
        problems = dict.fromkeys([*selection.problems, *recording.problems, *truth.problems, *short, *unstored])
        return Replayed(collected.table(), collected.images, tuple(problems),
                        (*recording.notes, *short, *unusual), truth.used, stopped)


def _stores(selection: Selection, settings: ReplaySettings) -> dict[str, Path]:
    """The file of each sensor, under the name that the node gives it."""
    if settings.reference_store is None:
        return {}
    return {sensor: stored_path(settings.reference_store, topic) for topic, sensor in selection.sensor_of_topic.items()}


@dataclass
class _Collected:
    """Rows and logits so far."""

    name: str
    start: int
    empty: FrameTable
    rejections: list[Rejection]
    images: int = 0

    def __post_init__(self) -> None:
        self._rows: list[Row] = []
        self._logits: list[NDArray[np.float32]] = []
        self._kept: list[float] = []
        self._times: list[float] = []
        self._last: dict[str, NDArray[np.float32]] = {}  # by sensor, logits of the last frame that was not unchanged

    def reject(self, topic: str, reason: str, index: int, received: int, error: Exception) -> None:
        self.rejections.append(Rejection(self.name, topic, reason, 1, f'message {index} at '
                                         f'{(received - self.start) / 1e9:.3f} s: {error}'))
        if len(self.rejections) > 1000:
            self.rejections = list(merge_rejections(self.rejections))

    @torch.inference_mode()
    def add(self, classifier: TactileClassifier, inputs: NDArray[np.float32], rows: list[Row],
            tau: tuple[float, ...], every: int) -> None:
        """every: run every so many-th frame alone too, to measure its time; 0: none."""
        if not rows:
            return
        groups, kept = classifier.choose(inputs)
        stages = classifier.runtime.stages(torch.from_numpy(inputs), *(() if groups is None else (groups,)))
        logits = torch.stack(list(stages)).float().cpu().numpy()
        odds = [row.touch_odds for row in rows]
        if (evidence := classifier.evidence(odds)) is not None:
            logits += np.array(classifier.temperatures, np.float32)[:, None, None] * evidence
        for place, row in enumerate(rows):
            if row.is_unchanged and (last := self._last.get(row.sensor)) is not None:
                logits[:, place], kept[place] = last, 0.0  # nothing is computed for it in the node
            if not np.isfinite(logits[:, place]).all():
                self._last.pop(row.sensor, None)  # an earlier result must not be repeated after it
                self.reject(row.topic, 'not finite', row.number, row.received,
                            ValueError('the outputs of the network are not finite'))
                continue
            self._last[row.sensor] = logits[:, place].copy()
            timed = every and len(self._rows) % every == 0
            # Before the row is added: after Ctrl-C in between, a row would have no time.
            one = slice(place, place + 1)
            taken = (classifier.classify_inputs(inputs[one], tau, None, odds[one])[0].inference_time
                     if timed and not row.is_gated and kept[place] else float('nan'))
            self._rows.append(row)
            self._logits.append(logits[:, place])
            self._kept.append(float(kept[place]))
            self._times.append(taken)

    def table(self) -> FrameTable:
        rejections = merge_rejections(self.rejections)
        if not self._rows:
            return replace(self.empty, rejections=rejections)
        count = min(len(self._rows), len(self._logits), len(self._times))  # Ctrl-C may have come between two appends
        *columns, slips, _unchanged = zip(*self._rows[:count])
        sensor, topic, index, stamp, received, label, touch, gated, odds, zoom = map(np.array, columns)
        motion = None if all(one is None for one in slips) else np.stack([
            np.full(len(STATES) + 1, np.nan, np.float32) if one is None else
            np.append(one.states, np.float32(one.lost)) for one in slips])
        table = FrameTable(
            bag=np.full(count, self.name), sensor=sensor.astype(np.str_), topic=topic, index=index, stamp=stamp,
            received=received, seconds=(received - self.start) / 1e9, label=label, touch=touch.astype(np.str_),
            logits=np.stack(self._logits[:count], axis=1), exit_index=np.where(gated, GATE_EXIT_INDEX, 0),
            class_id=index, confidence=np.zeros(count, np.float32),
            touch_odds=odds, kept_share=np.array(self._kept[:count]), zoom=zoom,
            inference_time=np.array(self._times[:count]),
            class_names=self.empty.class_names, exits=self.empty.exits, compute_shares=self.empty.compute_shares,
            temperatures=self.empty.temperatures, tau=self.empty.tau, rejections=rejections, motion=motion)
        return replace(table.decided(table.tau), inference_time=table.inference_time)


def _batches(recording: Recording, selection: Selection, settings: ReplaySettings, preprocessing: PreprocessingConfig,
             sensors: dict[str, SensorFrames], truth: Truth, collected: _Collected, gate: bool,
             ) -> Iterator[tuple[NDArray[np.float32], list[Row], int]]:
    """(inputs (B, channels, h, w), their rows, messages read for them). gate: whether images may exit there."""
    counts = dict.fromkeys(selection.sensor_of_topic, 0)
    inputs: list[NDArray[np.float32]] = []
    rows: list[Row] = []
    read = 0
    for found in recording.messages(selection.sensor_of_topic, selection.start, selection.stop):
        sensor, index = selection.sensor_of_topic[found.topic], counts[found.topic]
        counts[found.topic] += 1
        read += 1
        collected.images += 1
        try:
            message = recording.deserialise(found)
            frame = sensors[sensor].update(message, stamp_of(message, found))
        except DecodeError as error:
            collected.reject(found.topic, error.reason, index, found.received, error)
            continue
        except DataError as error:
            collected.reject(found.topic, 'unreadable', index, found.received, error)
            continue
        inputs.append(normalise(frame.image, frame.reference, preprocessing, previous=frame.previous,
                                gain=frame.gain))
        rows.append(Row(sensor, found.topic, index, frame.stamp_ns, found.received,
                        *truth.of(sensor, found.received, message.header.stamp),
                        gate and frame.is_untouched, frame.touch_odds if settings.gate else 1.0, frame.zoom,
                        frame.slip, frame.is_unchanged))
        if len(rows) == settings.batch_size:
            yield np.stack(inputs), rows, read
            inputs, rows, read = [], [], 0
    if rows or read:
        yield np.stack(inputs) if rows else np.empty((0, 3, 1, 1), np.float32), rows, read
