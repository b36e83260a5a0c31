"""Scores with intervals: whole groups (objects, clips) are drawn, because the items of one group are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vit_tactile_ros.evaluation.recordings.comparison import Estimate

RESAMPLES = 2000
CONFIDENCE = 0.95


def interval(value: float, drawn: NDArray[np.float64]) -> Estimate:
    """A value with the percentile interval of its resamples, which may be infinite."""
    low, high = np.percentile(drawn, (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)))
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True)
class Items:
    """What a score is a mean over: presses, frames or grasps."""

    groups: NDArray[Any]  # (N,), of any type: items of one group are drawn together
    classes: NDArray[Any]  # (N,): every class has the same weight in the score
    weights: NDArray[np.float64] | None = None  # (N,), within a class

    @staticmethod
    def equal_groups(groups: NDArray[Any]) -> Items:
        """Every group has the same weight: for groups that are the classes."""
        _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
        return Items(groups, np.zeros(len(groups), np.int64), 1.0 / counts[place])

    def __len__(self) -> int:
        return len(self.groups)

    def score(self, right: NDArray[Any]) -> Estimate:
        """The mean over classes of the share that is right, with its percentile interval over the groups.

        right: (N,), 0..1 (the share of the seeds in which an item was right), or the difference of two methods, whose
        interval is then paired. Without two groups to draw, the bounds are NaN.
        """
        value, drawn = self.resampled(right)
        return interval(value, drawn) if len(drawn) else Estimate(value)

    def resampled(self, right: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """The same mean, and that of every draw of groups, (RESAMPLES,): the same draws for the same groups.

        Without two groups to draw there are none, (0,).
        """
        _, group = np.unique(self.groups, return_inverse=True)
        names, kind = np.unique(self.classes, return_inverse=True)
        weight = np.ones(len(group)) if self.weights is None else self.weights
        sums = np.zeros((2, int(group.max()) + 1, len(names)))
        np.add.at(sums[0], (group, kind), weight * right)
        np.add.at(sums[1], (group, kind), weight)
        value = float((sums[0].sum(axis=0) / sums[1].sum(axis=0)).mean())
        count = sums.shape[1]
        if count < 2:
            return value, np.empty(0)
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
        with np.errstate(invalid='ignore', divide='ignore'):
            return value, np.nanmean((draws @ sums[0]) / (draws @ sums[1]), axis=1)  # a draw may lack a class

    def by_group(self, right: NDArray[Any]) -> dict[str, float]:
        return {str(name): round(float(np.mean(right[self.groups == name])), 4) for name in np.unique(self.groups)}


def exact(right: NDArray[np.bool_]) -> Estimate:
    """A share of independent items, with its exact (Clopper-Pearson) interval."""
    found = stats.binomtest(int(right.sum()), len(right)).proportion_ci(CONFIDENCE)
    return Estimate(float(right.mean()), float(found.low), float(found.high))


@dataclass(frozen=True)
class Result:
    """One method on one task."""

    method: str
    score: Estimate
    controls: Mapping[str, float]  # the same score where the method does not see the touch
    gain: Estimate | None = None  # over hand-made features or another checkpoint, on the same items; above 0: better
    by_group: Mapping[str, float] = field(default_factory=dict)  # the mean of each


@dataclass(frozen=True)
class TaskResult:
    """All methods on one task."""

    task: str
    items: int
    groups: int
    chance: float
    results: Sequence[Result]
    details: Mapping[str, Any] = field(default_factory=dict)
