"""Aligns two tables of the same bags row by row; refuses tables of different frames."""

from __future__ import annotations

from collections import Counter

import numpy as np

from vit_tactile_ros.evaluation.recordings.comparison import Predictions
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.foundation.errors import UserError

Key = tuple[str, str, int, int]


def align(a: FrameTable, b: FrameTable) -> tuple[FrameTable, FrameTable]:
    """`a`, and the rows of `b` in the order of those of `a`, joined by bag, topic and time of recording.

    Raises UserError if classes, frames, labels or touches differ.
    """
    if a.class_names != b.class_names:
        raise UserError(f'the classes differ: {", ".join(a.class_names)} in A, {", ".join(b.class_names)} in B; only '
                        'predictions of the same classes can be compared')
    keys_a, keys_b = _keys(a), _keys(b)
    row_of = {key: row for row, key in enumerate(keys_b)}
    only_a = [key for key in keys_a if key not in row_of]
    only_b = set(row_of) - set(keys_a)
    if only_a or only_b:
        bag, topic, received, _ = only_a[0] if only_a else min(only_b)
        raise UserError(f'the frames differ: {len(only_a)} of {len(a)} are only in A, {len(only_b)} of {len(b)} only '
                        f'in B, such as {topic} of {bag!r} at {received} ns; replay the same bags with the same '
                        'filters')
    if not len(a):
        raise UserError('no frames to compare')
    b = b.subset(np.array([row_of[key] for key in keys_a]))
    for what, one, other in (('labels', a.label, b.label), ('touches', a.touch, b.touch)):
        if len(differing := np.flatnonzero(one != other)):
            bag, topic, received, _ = keys_a[differing[0]]
            raise UserError(f'the {what} of {len(differing)} of {len(a)} frames differ, such as {topic} of '
                            f'{bag!r} at {received} ns: {one[differing[0]]} in A, {other[differing[0]]} in B; replay '
                            'both on the same bags with the same labels')
    return a, b


def answers_of(table: FrameTable) -> Predictions:
    return Predictions(table.class_id, table.shares, table.inference_time)


def _keys(table: FrameTable) -> list[Key]:
    """Bag, topic, time of recording, and a number among frames with the same time."""
    seen = Counter[tuple[str, str, int]]()
    keys = []
    for place in zip(table.bag.tolist(), table.topic.tolist(), table.received.tolist()):
        keys.append((*place, seen[place]))
        seen[place] += 1
    return keys
