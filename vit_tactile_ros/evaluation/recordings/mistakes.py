"""The most confident wrong answers of a recording, with their pictures fetched from the bags again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.inference.decode import DecodeError, decode

Image = NDArray[np.uint8]
Place = tuple[str, int]  # topic, and ns by the bag's clock


@dataclass(frozen=True)
class Mistake:
    """One wrong answer."""

    row: int  # of the table
    picture: Image | None  # uint8 RGB (H, W, 3); None where it could not be read again
    problem: str = ''  # why


def worst_mistakes(table: FrameTable, most: int = 12, per_touch: int = 2) -> list[int]:
    """Rows of wrong answers, the most confident first, at most `per_touch` of each touch: its frames are alike."""
    wrong = np.flatnonzero(table.is_labelled & ~table.right)
    taken = Counter[str]()
    rows: list[int] = []
    for row in wrong[np.argsort(-table.confidence[wrong], kind='stable')].tolist():
        touch = str(table.touch[row])
        if taken[touch] < per_touch and len(rows) < most:
            taken[touch] += 1
            rows.append(row)
    return rows


def fetch_mistakes(table: FrameTable, rows: Sequence[int], bags: Mapping[str, Path]) -> list[Mistake]:
    """The rows with their pictures, in the order of `rows`; `bags` says where the bag of each name lies."""
    pictures: dict[int, Image] = {}
    problems: dict[int, str] = {}
    by_bag: dict[str, list[int]] = {}
    for row in rows:
        by_bag.setdefault(str(table.bag[row]), []).append(row)
    for bag, own in by_bag.items():
        if bag not in bags:
            problems |= dict.fromkeys(own, f'the bag {bag} is not at hand')
            continue
        row_of = {(str(table.topic[row]), int(table.received[row])): row for row in own}
        try:
            for place, picture in _pictures(bags[bag], list(row_of)):
                pictures[row_of[place]] = picture
        except (DataError, DecodeError, OSError) as error:  # the other bags' pictures are still worth showing
            problems |= dict.fromkeys(own, str(error))
    return [Mistake(row, pictures.get(row), '' if row in pictures else problems.get(row, 'not found in the bag'))
            for row in rows]


def _pictures(bag: Path, places: Sequence[Place]) -> Iterator[tuple[Place, Image]]:
    """uint8 RGB (H, W, 3) of the messages at some places of a bag, damaged or not."""
    wanted = set(places)
    times = sorted({received for _, received in places})
    with Recording(bag) as recording:
        for time in times:  # by the index, chunk by chunk
            for found in recording.messages({topic for topic, _ in places}, time, time + 1):
                if (place := (found.topic, found.received)) in wanted:
                    wanted.remove(place)
                    yield place, decode(recording.deserialise(found))
