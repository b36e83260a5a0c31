"""A threshold for each early exit: from strict ones to those that save the most time, each step for the least accuracy.

One threshold for all exits ignores that less is gained after a later exit: where blocks 3 and 4 turn 8 % of the
predictions right and the eight blocks after them 2 %, an image should exit at block 4 at a much lower confidence than
at block 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Of the full depth's time, in accuracy (0..1): from what hardly any sample pays to more than the last exit gains.
PRICES = tuple(float(price) for price in np.geomspace(0.002, 4.0, 90))
ROUNDS = 3


def threshold_path(scores: NDArray[np.floating], right: NDArray[np.bool_], costs: Sequence[float],
                   levels: Sequence[float]) -> list[tuple[float, ...]]:
    """Thresholds (one per early exit, each of `levels` or 1) for rising prices of time; none is above the one before.

    `scores` and `right` are (E, N), of samples that the thresholds are not tested on; `costs`, (E,), are those of a
    sample that exits there, 1 at the last exit. Empty without early exits.
    """
    limits = np.unique([*levels, 1.0])
    # How many limits a score reaches; the highest limit, 1, keeps an exit off.
    reached = np.minimum(np.searchsorted(limits.astype(np.float32), scores[:-1].astype(np.float32), 'right'),
                         len(limits) - 1)
    path: list[tuple[float, ...]] = []
    lowest = np.full(len(scores) - 1, len(limits) - 1)
    for price in PRICES:
        lowest = np.minimum(lowest, _best(reached, right - price * np.asarray(costs)[:, None], len(limits)))
        found = tuple(float(limit) for limit in limits[lowest])
        if found and min(found) < 1 and found not in path[-1:]:
            path.append(found)
    return path


def _best(reached: NDArray[np.int64], value: NDArray[np.float64], num_limits: int) -> NDArray[np.int64]:
    """The place of each early exit's best limit, (E - 1,); `value`, (E, N), is what a sample is worth that exits there.

    From the last early exit to the first: the best one for the samples that reach it, given the limits of the others.
    """
    chosen = np.full(len(reached), num_limits - 1)
    for _ in range(ROUNDS):
        before, later = chosen.copy(), value[-1]  # later: of what happens to a sample that does not exit here
        for exit_index in reversed(range(len(reached))):
            gain = value[exit_index] - later
            stayed = (reached[:exit_index] <= chosen[:exit_index, None]).all(axis=0)
            of_limit = np.bincount(reached[exit_index], np.where(stayed, gain, 0.0), num_limits)
            # A sample exits at all limits that it reaches: those with places below the number of reached ones.
            sums = of_limit[::-1].cumsum()[::-1]
            total = np.append(sums[1:], 0.0)  # at limit i: of samples that reach more than i limits
            chosen[exit_index] = num_limits - 1 - int(np.argmax(total[::-1]))  # the strictest of equal ones
            later = np.where(reached[exit_index] > chosen[exit_index], value[exit_index], later)
        if (before == chosen).all():
            break
    return chosen
