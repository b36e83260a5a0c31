"""Touch events of replayed recordings, as the live node publishes them, and how they compare with the labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference.touch_events import (
    NO_CONTACT,
    SLIP,
    EventKind,
    EventSettings,
    TouchEvent,
    TouchTracker,
    are_states,
)

STICKS = 0.15  # s; labelled slips with a shorter pause are one: an object that sticks and slips in turn


@dataclass(frozen=True)
class Slip:
    """One slip of a held object; s from the start of the bag."""

    start: float  # of the first frame of slip
    decided: float  # of the frame at which it was reported
    end: float  # of the first frame without it, or the end of the touch


class Part(NamedTuple):
    """A part of a touch with one class; s from the start of the bag."""

    start: float
    end: float
    class_id: int


class Lost(NamedTuple):
    """No object is held, whether in a touch or not."""

    bag: str
    sensor: str
    seconds: float  # from the start of the bag
    confidence: float  # 0..1


@dataclass(frozen=True)
class Touch:
    """One touch of one sensor of one bag: its events, and its time in s from the start of the bag."""

    bag: str
    sensor: str
    start: float  # of the first frame of contact
    end: float  # of the first frame without contact, or 1 ns after the last frame if that shows or ended with contact
    events: tuple[TouchEvent, ...]
    parts: tuple[Part, ...]  # of states: slips, and the most frequent state of the frames between them; else one
    slips: tuple[Slip, ...] = ()

    @property
    def class_id(self) -> int:
        """Most probable class at the last event."""
        return self.events[-1].class_id


def find_touches(table: FrameTable, settings: EventSettings | None = None) -> list[Touch] | None:
    """The touches of all sensors, bag by bag; None if the checkpoint has no class `no_contact`."""
    if NO_CONTACT not in table.class_names:
        return None
    return find_touches_and_lost(table, settings)[0]


def find_touches_and_lost(table: FrameTable, settings: EventSettings | None = None) -> tuple[list[Touch], list[Lost]]:
    """The touches of all sensors, and where no object is held, bag by bag; for classes with `no_contact`."""
    touches: list[Touch] = []
    lost: list[Lost] = []
    for own in _streams(table):
        tracker, probabilities = TouchTracker(own.class_names, len(own.exits), settings), own.probabilities
        is_unchanged = own.is_unchanged
        events = [event for row, stamp in enumerate(own.stamp.tolist())
                  for event in tracker.update(stamp, probabilities[row], int(own.exit_index[row]), own.slip(row),
                                              bool(is_unchanged[row]))]
        touches += _touches_of(own, [event for event in events if event.kind != EventKind.LOST])
        seconds_of = _seconds_of(own)
        lost += [Lost(str(own.bag[0]), str(own.sensor[0]), seconds_of[event.stamp], event.confidence)
                 for event in events if event.kind == EventKind.LOST]
    return touches, lost


def _seconds_of(table: FrameTable) -> dict[int, float]:
    """By stamp."""
    return dict(zip(table.stamp.tolist(), table.seconds.tolist(), strict=True))


def _streams(table: FrameTable) -> Iterator[FrameTable]:
    for bag, topic in dict.fromkeys(zip(table.bag.tolist(), table.topic.tolist(), strict=True)):
        yield table.subset((table.bag == bag) & (table.topic == topic))


def _touches_of(table: FrameTable, events: Sequence[TouchEvent]) -> Iterator[Touch]:
    seconds_of = _seconds_of(table)
    for number in dict.fromkeys(event.touch for event in events):
        own = tuple(event for event in events if event.touch == number)
        last = own[-1]
        end = seconds_of[last.first_stamp] if last.kind == EventKind.RELEASE else 1e-9 + (
            seconds_of[last.first_stamp] if last.kind == EventKind.INTERRUPTED else float(table.seconds[-1]))
        start = seconds_of[own[0].first_stamp]
        slips = tuple(_slips_of(own, seconds_of, end))
        parts = _parts_of(table, start, end, slips) if are_states(table.class_names) else [
            Part(start, end, last.class_id)]
        yield Touch(str(table.bag[0]), str(table.sensor[0]), start, end, own, tuple(parts), slips)


def _slips_of(events: Sequence[TouchEvent], seconds_of: dict[int, float], end: float) -> Iterator[Slip]:
    changes = [event for event in events if event.kind in (EventKind.SLIP_BEGAN, EventKind.SLIP_ENDED)]
    for began, ended in zip(changes[::2], [*changes[1::2], None]):
        yield Slip(seconds_of[began.first_stamp], seconds_of[began.stamp],
                   end if ended is None else seconds_of[ended.first_stamp])


def _parts_of(table: FrameTable, start: float, end: float, slips: Sequence[Slip]) -> Iterator[Part]:
    slip = table.class_names.index(SLIP)
    others = [i for i, name in enumerate(table.class_names) if name not in (NO_CONTACT, SLIP)]
    held_from = start
    for one in [*(s for s in slips if s.start < s.end), None]:
        until = end if one is None else one.start
        if held_from < until:
            here = table.class_id[(table.seconds >= held_from) & (table.seconds < until)]
            yield Part(held_from, until, max(others, key=lambda i: int((here == i).sum())))
        if one is not None:
            yield Part(one.start, one.end, slip)
            held_from = one.end


def judge_touches(table: FrameTable, touches: Sequence[Touch]) -> dict[str, Any]:
    """The touches against the labels, one JSON object; times in s.

    A labelled touch is found if exactly one touch overlaps it, split if several do, otherwise missed; merged ones count
    as found once each. A touch that overlaps none and lies within labelled frames is false. Labels of states are one
    labelled touch from no_contact to no_contact; they have no accuracy but `slips`, which is None otherwise.
    """
    states = are_states(table.class_names)
    found = split = missed = right = false = 0
    onset_errors: list[float] = []
    delays: list[float] = []
    for stream in _streams(table.subset(table.is_labelled)):
        own = [t for t in touches if (t.bag, t.sensor) == (stream.bag[0], stream.sensor[0])]
        overlapped: set[int] = set()
        for start, end, label in _labelled(stream):
            here = [t for t in own if t.start <= end and t.end >= start]
            overlapped |= {id(t) for t in here}
            missed += not here
            split += len(here) > 1
            if len(here) == 1:
                found += 1
                right += here[0].class_id == label
                onset_errors.append(here[0].start - start)
                delays.append((here[0].events[0].stamp - here[0].events[0].first_stamp) / 1e9)
        labelled = stream.seconds
        false += sum(id(t) not in overlapped and bool(((labelled >= t.start) & (labelled <= t.end)).any()) for t in own)
    count = found + split + missed
    return {'touches': len(touches), 'labelled_touches': count, 'found': found, 'split': split, 'missed': missed,
            'false': false, 'accuracy': right / found if found and not states else None,
            'onset_error': _quantiles(np.abs(onset_errors)), 'decision_delay': _quantiles(np.asarray(delays)),
            'slips': _judge_slips(table, touches) if states else None}


def _labelled(stream: FrameTable) -> Iterator[Part]:
    """The labelled touches of one sensor, to their last frame; of states: from no_contact to no_contact."""
    nothing = stream.class_names.index(NO_CONTACT)
    if are_states(stream.class_names):
        yield from _runs(stream, stream.label != nothing)
        return
    for name in dict.fromkeys(stream.touch.tolist()):
        rows = np.flatnonzero(stream.touch == name)
        label = int(stream.label[rows[0]])
        if label != nothing:
            yield Part(float(stream.seconds[rows[0]]), float(stream.seconds[rows[-1]]), label)


def _runs(stream: FrameTable, wanted: NDArray[np.bool_]) -> Iterator[Part]:
    """Neighbouring frames that are wanted, from the first to the last of them."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2] - 1):
        yield Part(float(stream.seconds[first]), float(stream.seconds[last]), int(stream.label[first]))


def _judge_slips(table: FrameTable, touches: Sequence[Touch]) -> dict[str, Any]:
    """The slips against the labels. A labelled slip is found if a slip overlaps it; `delay` in s, to the report."""
    found = missed = false = 0
    delays: list[float] = []
    for stream in _streams(table.subset(table.is_labelled)):
        own = [slip for t in touches if (t.bag, t.sensor) == (stream.bag[0], stream.sensor[0]) for slip in t.slips]
        overlapped: set[int] = set()
        labelled: list[Part] = []
        for part in _runs(stream, stream.label == stream.class_names.index(SLIP)):
            if labelled and part.start - labelled[-1].end < STICKS:
                part = Part(labelled.pop().start, part.end, part.class_id)
            labelled.append(part)
        for part in labelled:
            here = [slip for slip in own if slip.start <= part.end and slip.end >= part.start]
            overlapped |= {id(slip) for slip in here}
            found += bool(here)
            missed += not here
            delays += [slip.decided - part.start for slip in here[:1]]
        times = stream.seconds
        false += sum(id(s) not in overlapped and bool(((times >= s.start) & (times <= s.decided)).any()) for s in own)
    return {'slips': sum(len(t.slips) for t in touches), 'labelled_slips': found + missed, 'found': found,
            'missed': missed, 'false': false, 'delay': _quantiles(np.asarray(delays))}


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    return {'p50': float(np.median(values)), 'max': float(values.max())} if len(values) else None


def write_events(touches: Sequence[Touch], class_names: Sequence[str], folder: Path) -> None:
    """`events.csv`, and `touches.csv` in the form that `--labels` reads, so that a bag can be labelled by touch."""
    with written_whole(folder / 'events.csv') as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['bag', 'sensor', 'touch', 'event', 'stamp', 'first_stamp', 'class_name', 'confidence',
                         'duration', 'frames'])
        writer.writerows([t.bag, t.sensor, e.touch, e.kind.name.lower(), e.stamp, e.first_stamp,
                          class_names[e.class_id], f'{e.confidence:.4f}', f'{e.duration:.9f}', e.frames]
                         for t in touches for e in t.events)
    with written_whole(folder / 'touches.csv') as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['bag', 'sensor', 'start', 'end', 'label'])
        writer.writerows([t.bag, t.sensor, f'{part.start:.9f}', f'{part.end:.9f}', class_names[part.class_id]]
                         for t in touches for part in t.parts)
