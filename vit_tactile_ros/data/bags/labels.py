"""The labels of a recording's images: from label messages beside them, or from a CSV of intervals.

One rule for training, extraction and replay. A label message has the header of its image, on a topic of the same
namespace; a touch is a run of equal labels of a sensor. An interval is one touch; images in two intervals of a sensor
have no label, and `problems` names the pair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_tactile_ros.data.bags.images import sensor_of
from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.bags.types import LABEL_SUFFIX
from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.table import DataError

_EPOCH_S = 1e8  # a later time in an interval is one since 1970, an earlier one since the bag's start


class Label(NamedTuple):
    """The label of one image."""

    name: str  # '' is none
    touch: int = 0  # number of the touch among those of the sensor; of intervals, the line


NO_LABEL = Label('')


@dataclass(frozen=True)
class Interval:
    """A part of a recording with a known label."""

    start: int  # ns since 1970, or since the bag's start
    end: int
    sensor: str  # '' is every sensor
    label: str
    line: int
    bag: str = ''  # name of its file or folder, or with the folders above it as in replay; '' is every bag

    def is_of(self, bag: Path) -> bool:
        parts = tuple(self.bag.split('/'))
        return self.bag in ('', bag.name, bag.stem) or (len(parts) > 1 and bag.absolute().parts[-len(parts):] == parts)


@dataclass(frozen=True)
class LabelFile:
    """A CSV of intervals, read once for all recordings."""

    path: Path
    intervals: tuple[Interval, ...]

    def of_bag(self, bag: Path, start_time: int) -> list[Interval]:
        """The intervals of a bag, in ns since 1970."""
        found = []
        for row in self.intervals:
            if row.is_of(bag):
                offset = 0 if row.start > _EPOCH_S * 1e9 else start_time
                found.append(Interval(row.start + offset, row.end + offset, row.sensor, row.label, row.line, row.bag))
        return found

    def others(self, bags: Collection[Path]) -> list[str]:
        """The names of other bags in it."""
        return sorted({row.bag for row in self.intervals if not any(row.is_of(bag) for bag in bags)})

    def unused(self, bags: Collection[Path], used: Collection[int]) -> list[str]:
        """Messages about the rows of these bags whose line is not in `used`."""
        return [f'{self.path}, line {row.line}: no image lies in this interval; start and end are s from the start of '
                'the bag, or since 1970'
                for row in self.intervals if row.line not in used and any(row.is_of(bag) for bag in bags)]


def read_intervals(path: Path) -> LabelFile:
    """Raises DataError for a CSV without the columns start, end, label, and for rows that are not an interval."""
    path = Path(path)
    columns, rows = read_rows(path)
    for name in ('start', 'end', 'label'):
        if name not in columns:
            raise DataError(f'{path} has no column {name!r}; it needs start, end and label, and optionally sensor and '
                            f'bag; its columns are {", ".join(columns)}')
    intervals = []
    for line, row in rows:
        try:
            start, end = (round(float(row[name]) * 1e9) for name in ('start', 'end'))
        except (ValueError, OverflowError) as error:
            raise DataError(f'{path}, line {line}: start {row["start"]!r} and end {row["end"]!r} must be numbers (s)'
                            ) from error
        if not start < end:
            raise DataError(f'{path}, line {line}: start {row["start"]} must be before end {row["end"]}')
        if max(abs(start), abs(end)) > 2**62:
            raise DataError(f'{path}, line {line}: start {row["start"]} and end {row["end"]} must be s from the start '
                            'of the bag or since 1970')
        if not row['label']:
            raise DataError(f'{path}, line {line}: no label')
        intervals.append(Interval(start, end, row.get('sensor', '').strip('/'), row['label'], line, row.get('bag', '')))
    return LabelFile(path, tuple(intervals))


class Labels:
    """Labels of one recording, read image by image in the order of recording; this one has none."""

    is_empty = True

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.used: set[int] = set()  # lines of the CSV that lie where the recording has images

    def of(self, sensor: str, received: int, stamp: Any) -> Label:
        """received: ns by the bag's clock; stamp: of the header, with sec and nanosec."""
        return NO_LABEL

    def finish(self, is_whole: bool) -> None:
        """Note unused labels; is_whole: the recording was read completely."""


def labels_of(recording: Recording, file: LabelFile | None, sensors: Collection[str], name: str) -> Labels:
    """From the file, else from the label messages in the recording. name: of the recording, for messages."""
    if file is not None:
        return IntervalLabels(file, recording, sensors, name)
    if any(c.msgtype.endswith(LABEL_SUFFIX) and c.msgcount for c in recording.connections):
        return MessageLabels(recording, name)
    return Labels()


class MessageLabels(Labels):
    """TactileLabel messages with the header of their image; a touch is a run of equal labels of a sensor."""

    is_empty = False

    def __init__(self, recording: Recording, name: str) -> None:
        super().__init__()
        self._name = name
        topics = {c.topic for c in recording.connections if c.msgtype.endswith(LABEL_SUFFIX)}
        self._label_of: dict[tuple[str, int, int], str] = {}
        unreadable, example = 0, ''
        for found in recording.messages(topics):
            try:
                message = recording.deserialise(found)
            except DataError as error:
                unreadable, example = unreadable + 1, str(error)
                continue
            at = message.header.stamp
            self._label_of[sensor_of(found.topic), at.sec, at.nanosec] = message.class_name
        if unreadable:
            self.problems.append(f'{name}: {unreadable} labels are left out: {example}')
        self._matched: set[tuple[str, int, int]] = set()
        self._runs: dict[str, Label] = {}

    def of(self, sensor: str, received: int, stamp: Any) -> Label:
        key = (sensor, stamp.sec, stamp.nanosec)
        name = self._label_of.get(key)
        if not name:
            return NO_LABEL
        self._matched.add(key)
        last = self._runs.get(sensor, NO_LABEL)
        self._runs[sensor] = Label(name, last.touch + (name != last.name))
        return self._runs[sensor]

    def finish(self, is_whole: bool) -> None:
        left = len(self._label_of) - len(self._matched)
        if left and (is_whole or not self._matched):
            self.problems.append(f'{self._name}: {left} of {len(self._label_of)} labels have the header stamp of no '
                                 'image beside them')


class IntervalLabels(Labels):
    """Rows of a CSV. If two of a sensor overlap, the images in both are unlabelled."""

    is_empty = False

    def __init__(self, file: LabelFile, recording: Recording, sensors: Collection[str], name: str) -> None:
        super().__init__()
        intervals = file.of_bag(recording.path, recording.start)
        self._in_time = {i.line for i in intervals if i.sensor in ('', *sensors)
                         and i.start < recording.end and i.end > recording.start}
        self._own = {sensor: sorted((i for i in intervals if i.sensor in ('', sensor)), key=lambda i: i.start)
                     for sensor in sensors}
        self._starts = {sensor: np.array([i.start for i in own], np.int64) for sensor, own in self._own.items()}
        for row in intervals:
            if row.sensor and row.sensor not in sensors:
                self.problems.append(f'{file.path}, line {row.line}: no sensor {row.sensor!r} in {name}; it has '
                                     f'{", ".join(repr(s) for s in sorted(sensors))}')
        for sensor, own in self._own.items():
            for a, b in overlaps(own):
                self.problems.append(f'{file.path}: the intervals of lines {a.line} and {b.line} overlap for sensor '
                                     f'{sensor!r} of {name}; images in both are unlabelled')

    def of(self, sensor: str, received: int, stamp: Any) -> Label:
        own = self._own[sensor]
        last = int(np.searchsorted(self._starts[sensor], received, 'right'))
        inside = [i for i in own[:last] if received < i.end]
        self.used.update(i.line for i in inside)
        return Label(inside[0].label, inside[0].line) if len(inside) == 1 else NO_LABEL

    def finish(self, is_whole: bool) -> None:
        if not is_whole:  # the images may be in the part that was not read
            self.used |= self._in_time


def overlaps(intervals: Sequence[Interval]) -> list[tuple[Interval, Interval]]:
    """Pairs that overlap, of intervals of one sensor in the order of their starts; each with the latest one before."""
    found, latest = [], None
    for interval in intervals:
        if latest is not None and interval.start < latest.end:
            found.append((latest, interval))
        latest = interval if latest is None or interval.end > latest.end else latest
    return found
