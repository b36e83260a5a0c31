"""The most confident wrong predictions of a replay, with their images read from the bags."""

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
    """One wrong prediction."""

    row: int  # of the table
    image: Image | None  # uint8 RGB (H, W, 3); None if it could not be read
    problem: str = ''  # why


def worst_mistakes(table: FrameTable, most: int = 12, per_touch: int = 2) -> list[int]:
    """Rows of wrong predictions, the most confident first, at most `per_touch` of each touch."""
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
    """The rows with their images, in the order of `rows`; `bags` has the path of each bag by name."""
    images: dict[int, Image] = {}
    problems: dict[int, str] = {}
    by_bag: dict[str, list[int]] = {}
    for row in rows:
        by_bag.setdefault(str(table.bag[row]), []).append(row)
    for bag, own in by_bag.items():
        if bag not in bags:
            problems |= dict.fromkeys(own, f'the path of bag {bag} is not known')
            continue
        row_of = {(str(table.topic[row]), int(table.received[row])): row for row in own}
        try:
            for place, image in _images(bags[bag], list(row_of)):
                images[row_of[place]] = image
        except (DataError, DecodeError, OSError) as error:  # the images of the other bags are still shown
            problems |= dict.fromkeys(own, str(error))
    return [Mistake(row, images.get(row), '' if row in images else problems.get(row, 'not found in the bag'))
            for row in rows]


def _images(bag: Path, places: Sequence[Place]) -> Iterator[tuple[Place, Image]]:
    """uint8 RGB (H, W, 3) of the messages at the given places of a bag, which may be damaged."""
    wanted = set(places)
    times = sorted({received for _, received in places})
    with Recording(bag) as recording:
        for time in times:  # each uses the index of the bag
            for found in recording.messages({topic for topic, _ in places}, time, time + 1):
                if (place := (found.topic, found.received)) in wanted:
                    wanted.remove(place)
                    yield place, decode(recording.deserialise(found))
