"""Touch events of replayed recordings, as the live node publishes them, and how they compare with the labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference.touch_events import NO_CONTACT, EventKind, EventSettings, TouchEvent, TouchTracker

ENDS = (EventKind.RELEASE, EventKind.INTERRUPTED)


@dataclass(frozen=True)
class Touch:
    """One touch of one sensor of one bag: its events, and its time in s from the start of the bag."""

    bag: str
    sensor: str
    start: float  # of the first frame of contact
    # Of the first frame without contact; after an interruption, of the last frame of contact; if the touch lasts until
    # the end of the bag, of its last frame.
    end: float
    events: tuple[TouchEvent, ...]

    @property
    def class_id(self) -> int:
        """Most probable class at the last event."""
        return self.events[-1].class_id


def find_touches(table: FrameTable, settings: EventSettings | None = None) -> list[Touch] | None:
    """The touches of all sensors, bag by bag; None if the checkpoint has no class `no_contact`."""
    if NO_CONTACT not in table.class_names:
        return None
    return [touch for own in _streams(table) for touch in _touches_of(own, settings)]


def _streams(table: FrameTable) -> Iterator[FrameTable]:
    for bag, topic in dict.fromkeys(zip(table.bag.tolist(), table.topic.tolist(), strict=True)):
        yield table.subset((table.bag == bag) & (table.topic == topic))


def _touches_of(table: FrameTable, settings: EventSettings | None) -> Iterator[Touch]:
    tracker = TouchTracker(table.class_names, len(table.exits), settings)
    seconds_of = dict(zip(table.stamp.tolist(), table.seconds.tolist(), strict=True))
    probabilities = table.probabilities
    events: list[TouchEvent] = []
    for row, stamp in enumerate(table.stamp.tolist()):
        events += tracker.update(stamp, probabilities[row], int(table.exit_index[row]))
    for number in dict.fromkeys(event.touch for event in events):
        own = tuple(event for event in events if event.touch == number)
        ended = own[-1].kind in ENDS
        yield Touch(str(table.bag[0]), str(table.sensor[0]), seconds_of[own[0].first_stamp],
                    seconds_of[own[-1].first_stamp] if ended else float(table.seconds[-1]), own)


def judge_touches(table: FrameTable, touches: Sequence[Touch]) -> dict[str, Any]:
    """The touches against the labels, one JSON object; times in s.

    A labelled touch is found if exactly one touch overlaps it, split if several do, otherwise missed; merged ones count
    as found once each. A touch that overlaps none and lies within labelled frames is false.
    """
    found = split = missed = right = false = 0
    onset_errors: list[float] = []
    delays: list[float] = []
    for stream in _streams(table.subset(table.is_labelled)):
        own = [t for t in touches if (t.bag, t.sensor) == (stream.bag[0], stream.sensor[0])]
        overlapped: set[int] = set()
        for name in dict.fromkeys(stream.touch.tolist()):
            rows = np.flatnonzero(stream.touch == name)
            label = int(stream.label[rows[0]])
            if stream.class_names[label] == NO_CONTACT:
                continue
            start, end = float(stream.seconds[rows[0]]), float(stream.seconds[rows[-1]])
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
            'false': false, 'accuracy': right / found if found else None,
            'onset_error': _quantiles(np.abs(onset_errors)), 'decision_delay': _quantiles(np.asarray(delays))}


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    return {'p50': float(np.median(values)), 'max': float(values.max())} if len(values) else None


def write_events(touches: Sequence[Touch], class_names: Sequence[str], folder: Path) -> None:
    """`events.csv`, and `touches.csv` in the form that `--labels` reads, so that a bag can be labelled by touch."""
    with written_whole(folder / 'events.csv') as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['bag', 'sensor', 'touch', 'event', 'stamp', 'first_stamp', 'class_name', 'confidence',
                         'duration', 'frames'])
        writer.writerows([t.bag, t.sensor, e.touch, e.kind.name.lower(), e.stamp, e.first_stamp,
                          class_names[e.class_id], f'{e.confidence:.4f}', f'{e.duration:.6f}', e.frames]
                         for t in touches for e in t.events)
    with written_whole(folder / 'touches.csv') as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['bag', 'sensor', 'start', 'end', 'label'])
        writer.writerows([t.bag, t.sensor, f'{t.start:.6f}', f'{t.end:.6f}', class_names[t.class_id]] for t in touches)
