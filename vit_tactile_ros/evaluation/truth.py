"""What is true of the frames of a recording: from label messages beside the images, or from a CSV of intervals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_tactile_ros.data.bags import LABEL_SUFFIX, Interval, intervals_of_bag, overlaps, sensor_of
from vit_tactile_ros.data.recording import Recording
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.frame_table import UNLABELLED

Intervals = Sequence[tuple[Interval, str]]  # as `data.bags.read_intervals` gives them


class Label(NamedTuple):
    """The truth of one frame."""

    label: int  # UNLABELLED is none
    touch: str  # as in FrameTable


class Truth:
    """Labels of one recording, asked for frame by frame in the order of recording."""

    def __init__(self, class_names: Sequence[str], name: str) -> None:
        self.problems: list[str] = []
        self._classes = {class_name: number for number, class_name in enumerate(class_names)}
        self._name = name
        self._unknown: set[str] = set()

    def of(self, sensor: str, received: int, stamp: Any) -> Label:
        """received: ns, the bag's clock; stamp: the header's, with sec and nanosec."""
        return Label(UNLABELLED, '')

    def finish(self, is_whole: bool) -> None:
        """Note what was left over; is_whole: the recording was replayed from end to end."""
        if self._unknown:
            self.problems.append(f'{self._name}: no class of the checkpoint is called '
                                 f'{", ".join(repr(u) for u in sorted(self._unknown))}; these frames count as '
                                 f'unlabelled. Its classes are {", ".join(self._classes)}')

    def _label(self, class_name: str, sensor: str, number: int) -> Label:
        if class_name not in self._classes:
            self._unknown.add(class_name)
            return Label(UNLABELLED, '')
        return Label(self._classes[class_name], f'{self._name}/{sensor}/{number}')


class TruthByMessage(Truth):
    """TactileLabel messages with the header of their image; a touch is a run of equal labels of a sensor."""

    def __init__(self, recording: Recording, class_names: Sequence[str], name: str) -> None:
        super().__init__(class_names, name)
        topics = {c.topic for c in recording.connections if c.msgtype.endswith(LABEL_SUFFIX)}
        self._label_of: dict[tuple[str, int, int], str] = {}
        unreadable = 0
        for found in recording.messages(topics):
            try:
                message = recording.deserialise(found)
            except DataError as error:
                unreadable += 1
                example = str(error)
                continue
            at = message.header.stamp
            self._label_of[sensor_of(found.topic), at.sec, at.nanosec] = message.class_name
        if unreadable:
            self.problems.append(f'{name}: {unreadable} labels are left out: {example}')
        self._matched: set[tuple[str, int, int]] = set()
        self._runs: dict[str, tuple[int, str]] = {}

    def of(self, sensor: str, received: int, stamp: Any) -> Label:
        key = (sensor, stamp.sec, stamp.nanosec)
        class_name = self._label_of.get(key)
        if not class_name:
            return Label(UNLABELLED, '')
        self._matched.add(key)
        number, last = self._runs.get(sensor, (0, ''))
        number += class_name != last
        self._runs[sensor] = number, class_name
        return self._label(class_name, sensor, number)

    def finish(self, is_whole: bool) -> None:
        super().finish(is_whole)
        left = len(self._label_of) - len(self._matched)
        if left and (is_whole or not self._matched):
            self.problems.append(f'{self._name}: {left} of {len(self._label_of)} labels have the header stamp of no '
                                 'image beside them')


class TruthByInterval(Truth):
    """Rows of a CSV. Where two of a sensor overlap, the frames in both are unlabelled."""

    def __init__(self, rows: Intervals, labels: Path, recording: Recording, sensors: Collection[str],
                 class_names: Sequence[str], name: str) -> None:
        super().__init__(class_names, name)
        intervals = intervals_of_bag(rows, recording.path, recording.start)
        self.used: set[int] = set()  # lines of rows that lie where the recording has images
        self._in_time = {i.line for i in intervals if i.sensor in ('', *sensors)
                         and i.start < recording.end and i.end > recording.start}
        self._own = {sensor: sorted((i for i in intervals if i.sensor in ('', sensor)), key=lambda i: i.start)
                     for sensor in sensors}
        self._starts = {sensor: np.array([i.start for i in own], np.int64) for sensor, own in self._own.items()}
        for row in intervals:
            if row.sensor and row.sensor not in sensors:
                self.problems.append(f'{labels}, line {row.line}: no sensor {row.sensor!r} is replayed of {name}; '
                                     f'there is {", ".join(repr(s) for s in sorted(sensors))}')
        for sensor, own in self._own.items():
            for a, b in overlaps(own):
                self.problems.append(f'{labels}: the intervals of lines {a.line} and {b.line} overlap for sensor '
                                     f'{sensor!r} of {name}; frames in both count as unlabelled')

    def of(self, sensor: str, received: int, stamp: Any) -> Label:
        own = self._own[sensor]
        last = int(np.searchsorted(self._starts[sensor], received, 'right'))
        inside = [i for i in own[:last] if received < i.end]
        self.used.update(i.line for i in inside)
        if len(inside) != 1:
            return Label(UNLABELLED, '')
        return self._label(inside[0].label, sensor, inside[0].line)

    def finish(self, is_whole: bool) -> None:
        super().finish(is_whole)
        if not is_whole:  # the images may lie in the part that was left out
            self.used |= self._in_time
