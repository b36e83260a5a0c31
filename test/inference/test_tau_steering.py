"""Tau under a latency budget, on simulated time."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vit_tactile_ros.inference.tau_steering import FULL, GAIN, LATE_SHARE, Budget, TauSteering, floor

TAU, BUDGET = (0.9, 0.9), Budget(0.05, 0.5)
STAGE = 0.012  # s, one of three; full depth is inside the budget unless the machine is loaded


def run(steering: TauSteering, batches: int, slowdown: float, seed: int = 0, budget: Budget = BUDGET):
    """Latencies and first thresholds of batches; the confidence of an image grows from exit to exit."""
    rng = random.Random(seed)
    latencies, taus = [], []
    for _ in range(batches):
        tau = steering.steered(TAU, budget)
        first = rng.uniform(0.3, 1.0)
        stages = 1 if first >= tau[0] else 2 if first + 0.2 >= tau[1] else 3
        latency = stages * STAGE * slowdown * rng.lognormvariate(0, 0.05) + 0.002
        steering.observe(latency)
        latencies.append(latency)
        taus.append(tau[0])
    return np.array(latencies), np.array(taus)


def test_a_load_step():
    """Tau that follows the load too late, stays low once it is over, or reacts while results are in time."""
    steering = TauSteering()
    latencies, taus = run(steering, 500, 1.0)
    assert latencies.max() < BUDGET.seconds and (taus == 0.9).all()
    latencies, taus = run(steering, 1000, 1.7)
    assert taus[20] < 0.75  # a dozen late results are enough
    unsteered, _ = run(TauSteering(), 1000, 1.7, budget=Budget())
    assert np.percentile(latencies[50:], 99) < BUDGET.seconds and np.mean(unsteered > BUDGET.seconds) > 0.4
    assert taus[50:].min() >= 0.5 and (taus[50:] > 0.5).any()  # as low as necessary, not lower for good
    latencies, taus = run(steering, 1200, 1.0)
    assert latencies.max() < BUDGET.seconds
    assert np.all(np.diff(taus) >= 0) and taus[200] < 0.9 == taus[-1]  # slowly back


@pytest.mark.parametrize('seed', range(5))
def test_late_results_are_bounded_whatever_the_load_does(seed):
    """Load that comes and goes in step with the steering."""
    rng, steering, late = random.Random(seed), TauSteering(), []
    for _ in range(4000):
        steering.steered(TAU, BUDGET)
        assert 0 <= steering.level < FULL
        # The most that an adversary can do while the lowest level is fast enough: late wherever it still can be.
        is_late = steering.level < rng.uniform(0, 1.0)
        steering.observe(0.06 if is_late else 0.01)
        late.append(is_late)
    assert np.mean(late) <= LATE_SHARE + FULL / (GAIN * len(late)) <= 0.01


def test_the_limits_of_steering():
    """Thresholds below tau_min that are raised, an exit that is off, and images without a known age."""
    steering = TauSteering()
    budget = Budget(0.05, 0.6)
    for latency in [1.0] * 8:
        steering.steered((0.3, 1.0), budget)
        steering.observe(latency)
    assert steering.level == FULL and steering.steered((0.3, 1.0), budget) == (0.3, 0.6) == floor((0.3, 1.0), 0.6)
    assert steering.steered((0.3, 1.0), Budget(0.05, 1.0)) == (0.3, 1.0)  # tau_min 1: never lowered
    steering.observe(None)
    assert steering.level == FULL
    assert steering.steered((0.3, 1.0), Budget()) == (0.3, 1.0) and steering.level == 0
    steering.observe(1.0)  # off
    assert steering.level == 0
