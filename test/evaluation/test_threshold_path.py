"""Thresholds for each exit on its own, against a search over all of them."""

import itertools

import numpy as np
import pytest

from vit_tactile_ros.evaluation.outputs import choose_exits
from vit_tactile_ros.evaluation.threshold_path import PRICES, _best, threshold_path

LEVELS, COSTS = (0.0, 0.3, 0.5, 0.7, 0.9), (0.2, 0.4, 1.0)


def samples(seed=0, size=300):
    """The second exit gains much over the first; the third gains nothing, and its score does not show that."""
    rng = np.random.default_rng(seed)
    hard = rng.uniform(0, 1, size)
    right = np.stack([hard < 0.5, hard < 0.8, hard < 0.8])
    scores = np.stack([np.clip(1.1 - hard + rng.normal(0, 0.2, size), 0.01, 0.99), rng.uniform(0.1, 0.6, size),
                       np.ones(size)]).astype(np.float32)
    return scores, right


def worth(scores, right, tau, price):
    exits = choose_exits(scores, tau)
    return float((right[exits, np.arange(right.shape[1])] - price * np.array(COSTS)[exits]).sum())


@pytest.mark.parametrize('price', (0.01, 0.3, 1.0))
def test_no_other_thresholds_are_worth_more(price):
    """A sum over the samples on the wrong side of a limit, or over samples that exited before."""
    scores, right = samples()
    limits = np.unique([*LEVELS, 1.0])
    reached = np.minimum(np.searchsorted(limits.astype(np.float32), scores[:-1], 'right'), len(limits) - 1)
    found = limits[_best(reached, right - price * np.array(COSTS)[:, None], len(limits))]
    best = max(worth(scores, right, tau, price) for tau in itertools.product(limits, repeat=2))
    assert worth(scores, right, tuple(found), price) == pytest.approx(best, abs=0.3)


def test_a_path_gets_lower_and_leaves_an_exit_that_gains_nothing_at_once():
    scores, right = samples()
    path = threshold_path(scores, right, COSTS, LEVELS)
    assert len(path) > 2 and path[0][1] == 0.0 and path[-1] == (0.0, 0.0)
    assert all(a <= b for low, high in zip(path[1:], path, strict=False) for a, b in zip(low, high, strict=True))
    # One threshold for both exits cannot keep images from block 3 without letting them exit at block 1 as well.
    shared = max((worth(scores, right, (level,) * 2, 0.3), level) for level in (*LEVELS, 1.0))[0]
    assert max(worth(scores, right, tau, 0.3) for tau in path) > shared + 5
    assert PRICES[0] < 0.01


def test_a_network_without_early_exits_has_no_path():
    assert threshold_path(np.ones((1, 5), np.float32), np.ones((1, 5), bool), (1.0,), LEVELS) == []
