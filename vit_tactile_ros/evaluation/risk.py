"""An exact test of whether the accuracy drop of early exits is below a bound, from the samples where exits disagree.

Of n samples, `worse` are predicted correctly only by the last exit, and `better` only by the exit that was used. The
accuracy drop is P(worse) - P(better).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Share of the error probability that is spent on bounding the unknown rate of disagreement (Berger and Boos 1994).
NUISANCE_ERROR = 0.001
NUISANCE_STEPS = 48
Counts = NDArray[np.int64]


@lru_cache(maxsize=1 << 16)
def drop_p_value(worse: int, better: int, num_samples: int, bound: float) -> float:
    """P-value of the hypothesis that the accuracy drop is `bound` or more, valid for every number of samples.

    Exact and unconditional for paired predictions: outcomes are ordered by the score statistic (Tango 1998), and the
    probability of one at least as extreme is maximised over the rate of disagreement (Suissa and Shuster 1991) within
    its 1 - NUISANCE_ERROR confidence interval (Berger and Boos 1994). It assumes independent samples.
    Raises ValueError for counts that do not fit `num_samples`, or a bound outside (0, 1).
    """
    disagreeing = worse + better
    if min(worse, better) < 0 or disagreeing > num_samples or num_samples < 1:
        raise ValueError(f'counts are {worse} worse and {better} better of {num_samples}; must be at least 0 and fit')
    if not 0.0 < bound < 1.0:
        raise ValueError(f'bound is {bound}; must be above 0 and below 1')
    if worse - better >= num_samples * bound:
        return 1.0
    highest = 1.0 if disagreeing == num_samples else float(
        stats.beta.isf(NUISANCE_ERROR, disagreeing + 1, num_samples - disagreeing))
    if highest <= bound:  # the drop can't exceed the rate of disagreement
        return NUISANCE_ERROR
    rates = np.geomspace(bound, highest, NUISANCE_STEPS)[:, None]
    most = int(min(num_samples, stats.binom.isf(1e-9, num_samples, highest) + 1))
    totals = np.arange(most + 1)
    limits = _largest_as_extreme(float(_score(np.array(worse), np.array(better), num_samples, bound)), totals,
                                 num_samples, bound)
    # Given their number, each disagreeing sample is a worse one with probability (1 + bound / rate) / 2.
    below = stats.binom.cdf(limits, totals, np.minimum(1.0, (1.0 + bound / rates) / 2.0))
    below[:, limits < 0] = 0.0
    chance = (stats.binom.pmf(totals, num_samples, rates) * below).sum(axis=1).max()
    return float(min(1.0, chance + NUISANCE_ERROR))


def samples_needed(bound: float, error: float) -> int:
    """The smallest number of samples that can show a drop below `bound`, if no prediction differs.

    `error` is 1 - confidence. If predictions differ, more samples are needed.
    """
    low, high = 1, 1
    while drop_p_value(0, 0, high, bound) > error:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if drop_p_value(0, 0, middle, bound) > error else (low, middle)
    return high


def _score(worse: Counts, better: Counts, n: int, bound: float) -> NDArray[np.float64]:
    """Tango's score: (observed - allowed difference) over its standard deviation were the drop exactly `bound`."""
    same = n - worse - better
    slope = worse * (1 - bound) + better * (1 - 3 * bound) - 2 * same * bound
    # Most likely P(better) under P(worse) - P(better) = bound.
    gain = (slope + np.sqrt(slope**2 + 8.0 * n * better * bound * (1 - bound))) / (4.0 * n)
    return (worse - better - n * bound) / np.sqrt(n * (2 * gain + bound - bound**2))


def _largest_as_extreme(observed: float, totals: Counts, n: int, bound: float) -> Counts:
    """For each number of disagreeing samples, the largest `worse` with a score up to `observed`; -1 if none."""
    low, high = np.full_like(totals, -1), totals + 1  # low is as extreme, high is not
    while (high - low > 1).any():
        middle = (low + high) // 2
        inner = np.clip(middle, 0, totals)
        extreme = (_score(inner, totals - inner, n, bound) <= observed + 1e-9) & (middle >= 0)
        narrow = high - low > 1
        low, high = np.where(narrow & extreme, middle, low), np.where(narrow & ~extreme, middle, high)
    return low
