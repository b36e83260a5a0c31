"""Differences between two sets of predictions of the same frames, with intervals from a bootstrap over touches.

Frames of one touch are nearly identical, so a thousand frames of ten touches have about the information of ten samples.
The paired cluster bootstrap (Field and Welsh 2007) draws whole touches with replacement, the same ones for both sides.
The intervals are percentiles of the resulting differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FEW_TOUCHES = 20  # with fewer, percentile intervals are known to be too narrow
_CHUNK = 4_000_000  # weights in memory at a time


@dataclass(frozen=True)
class Predictions:
    """The predictions of one side for N frames."""

    class_id: Ints  # (N,)
    compute_share: Floats  # (N,), of its own full depth
    inference_time: Floats  # (N,), s; NaN if not measured


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; NaN bounds without touches to draw."""

    value: float
    low: float = float('nan')
    high: float = float('nan')

    def interval(self, show: Callable[[float], str] = '{:.3f}'.format) -> str:
        """As text, 'LOW to HIGH'; '-' without one."""
        return '-' if math.isnan(self.low) else f'{show(self.low)} to {show(self.high)}'

    def text(self, show: Callable[[float], str] = '{:.3f}'.format) -> str:
        """'VALUE (LOW to HIGH)'."""
        return f'{show(self.value)} ({self.interval(show)})'


@dataclass(frozen=True)
class Comparison:
    """Differences are B minus A."""

    frames: int  # compared: the labelled ones, or all without labels
    touches: int  # 0: no labels; only agreement, compute and latency, without intervals
    estimates: Mapping[str, Estimate]  # 'agreement', 'compute', 'latency', ..., see `compare`
    recalls: Mapping[int, Estimate]  # difference of each class that occurs
    frame_counts: Mapping[str, int]  # both_right, only_a, only_b, both_wrong
    touch_counts: Mapping[str, int]  # better_a, better_b, equal
    sign_p_value: float  # sign test on the touches that differ; NaN without labels
    confidence: float
    resamples: int


def compare(a: Predictions, b: Predictions, labels: Ints, touches: NDArray[Any], num_classes: int, *,
            resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """Compare on the frames with a label, (N,) 0..C-1; if every label is -1, on all frames without intervals.

    touches: (N,) of any type, equal for frames of one touch. Estimates: agreement (share of equal classes), accuracy_a,
    accuracy_b, accuracy (B - A), balanced_accuracy (B - A), compute_a, compute_b, compute (B - A), latency_a and
    latency_b (mean, s), latency (B - A) and latency_ratio (B / A). Raises ValueError for arrays of different lengths
    or no frame.
    """
    lengths = {len(array) for side in (a, b) for array in vars(side).values()} | {len(labels), len(touches)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f'the columns have {sorted(lengths)} frames; must be one number above 0')
    labelled = labels >= 0
    if not labelled.any():
        sums = _sums(a, b, np.full(len(labels), -1), np.zeros(len(labels), np.int64), num_classes)
        values = _statistics(sums.sum(axis=0, keepdims=True), num_classes)
        return Comparison(len(labels), 0, {name: Estimate(float(values[name][0])) for name in _ALWAYS}, {}, {}, {},
                          float('nan'), confidence, 0)
    a, b = (Predictions(*(array[labelled] for array in vars(side).values())) for side in (a, b))
    labels, (_, clusters) = labels[labelled], np.unique(touches[labelled], return_inverse=True)
    sums = _sums(a, b, labels, clusters, num_classes)
    values = _statistics(sums.sum(axis=0, keepdims=True), num_classes)
    spread = _resample(sums, num_classes, resamples, seed)
    tail = 50.0 * (1.0 - confidence)

    def estimate(name: str, touches: int = len(sums)) -> Estimate:
        if touches < 2:  # every draw would be the same, and the interval would have width 0
            return Estimate(float(values[name][0]))
        drawn = spread[name][np.isfinite(spread[name])]  # a resample may lack a class
        low, high = np.percentile(drawn, (tail, 100.0 - tail)) if len(drawn) else (np.nan, np.nan)
        return Estimate(float(values[name][0]), float(low), float(high))

    right_a, right_b = a.class_id == labels, b.class_id == labels
    gain = np.bincount(clusters, right_b.astype(float) - right_a)
    better_a, better_b = int((gain < 0).sum()), int((gain > 0).sum())
    differing = better_a + better_b
    return Comparison(
        frames=len(labels), touches=len(sums),
        estimates={name: estimate(name) for name in values if not name.startswith('recall ')},
        recalls={c: estimate(f'recall {c}', len(np.unique(clusters[labels == c])))
                 for c in np.unique(labels).tolist()},
        frame_counts={'both_right': int((right_a & right_b).sum()), 'only_a': int((right_a & ~right_b).sum()),
                      'only_b': int((~right_a & right_b).sum()), 'both_wrong': int((~right_a & ~right_b).sum())},
        touch_counts={'better_a': better_a, 'better_b': better_b, 'equal': len(sums) - differing},
        sign_p_value=float(stats.binomtest(better_b, differing).pvalue) if differing else 1.0,
        confidence=confidence, resamples=resamples)


_ALWAYS = ('agreement', 'compute_a', 'compute_b', 'compute', 'latency_a', 'latency_b', 'latency', 'latency_ratio')


def _sums(a: Predictions, b: Predictions, labels: Ints, clusters: Ints, num_classes: int) -> Floats:
    """For each touch the sums from which every statistic is computed, (K, 7 + 3 C).

    A replay measures the time of only some frames: times count where both sides have one.
    """
    frames = len(labels)
    of_class = np.zeros((frames, num_classes))
    known = np.flatnonzero(labels >= 0)
    of_class[known, labels[known]] = 1.0
    timed = np.isfinite(a.inference_time) & np.isfinite(b.inference_time)
    columns = np.column_stack([
        np.ones(frames), a.class_id == b.class_id, a.compute_share, b.compute_share,
        np.where(timed, a.inference_time, 0.0), np.where(timed, b.inference_time, 0.0), timed,
        of_class, of_class * (a.class_id == labels)[:, None], of_class * (b.class_id == labels)[:, None]])
    sums = np.zeros((int(clusters.max()) + 1, columns.shape[1]))
    np.add.at(sums, clusters, columns)
    return sums


def _statistics(sums: Floats, num_classes: int) -> dict[str, Floats]:
    """Every statistic, (R,) each, from summed touches, (R, 7 + 3 C); NaN for the recall of a class without frames."""
    frames, agree, compute_a, compute_b, latency_a, latency_b, timed = sums[:, :7].T
    counts, right_a, right_b = (sums[:, 7 + i * num_classes:7 + (i + 1) * num_classes] for i in range(3))
    with np.errstate(invalid='ignore', divide='ignore'):
        recall = (right_b - right_a) / counts
        balanced = np.nansum(recall, axis=1) / (counts > 0).sum(axis=1)
        accuracy_a, accuracy_b = right_a.sum(axis=1) / frames, right_b.sum(axis=1) / frames
        found = {
            'agreement': agree / frames, 'accuracy_a': accuracy_a, 'accuracy_b': accuracy_b,
            'accuracy': (right_b - right_a).sum(axis=1) / frames, 'balanced_accuracy': balanced,
            'compute_a': compute_a / frames, 'compute_b': compute_b / frames,
            'compute': (compute_b - compute_a) / frames,
            'latency_a': latency_a / timed, 'latency_b': latency_b / timed,
            'latency': (latency_b - latency_a) / timed, 'latency_ratio': latency_b / latency_a}
    return found | {f'recall {c}': recall[:, c] for c in range(num_classes)}


def _resample(sums: Floats, num_classes: int, resamples: int, seed: int) -> dict[str, Floats]:
    """The statistics of `resamples` draws with replacement, each of as many touches as there are."""
    rng = np.random.default_rng(seed)
    touches = len(sums)
    step = max(1, _CHUNK // touches)
    drawn = []
    for start in range(0, resamples, step):
        weights = rng.multinomial(touches, np.full(touches, 1.0 / touches), min(step, resamples - start))
        drawn.append(_statistics(weights.astype(np.float64) @ sums, num_classes))
    return {name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}
