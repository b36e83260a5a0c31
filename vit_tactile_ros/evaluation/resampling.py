"""How often the bound on the accuracy drop holds when the calibration is repeated on other samples."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from vit_tactile_ros.evaluation.calibration import CONFIDENCE, calibrate_any, check_size, measure_drop
from vit_tactile_ros.evaluation.outputs import ExitOutputs, choose_exits


@dataclass(frozen=True)
class PromiseCheck:
    """One bound in `rounds` resamplings; drops are shares of all samples."""

    bound: float
    rounds: int
    kept: int  # resamplings whose thresholds keep the bound on the whole pool
    kept_on_rest: int  # resamplings of half the pool that keep it on the other half, as measured there
    shown: int  # resamplings with enough samples for early exit
    drops: tuple[float, ...]  # on the whole pool, one per resampling
    compute_share: float  # mean, of the full depth
    rest_drops: tuple[float, ...]


def check_promise(pool: ExitOutputs, bounds: Sequence[float], confidence: float = CONFIDENCE, rounds: int = 100,
                  seed: int = 0, progress: str = '') -> list[PromiseCheck]:
    """Calibrate `rounds` times on samples drawn from a pool whose true drop is known.

    The pool represents the population: each resampling draws as many samples as the pool has, with replacement, and the
    drop over the whole pool must be below the bound. In addition, each round calibrates on a random half and measures
    on the other half. That measurement is as noisy as the calibration, so even thresholds that truly keep the bound
    may sometimes exceed it there. Raises UserError as `calibrate` does.
    """
    check_size(pool)
    rng = np.random.default_rng(seed)
    shares = np.asarray(pool.compute_shares)
    size = len(pool)
    found: dict[float, list[tuple[float, float, float, bool]]] = {bound: [] for bound in sorted(set(bounds))}
    for index in tqdm(range(rounds), desc=progress, leave=False, disable=not progress or not sys.stderr.isatty()):
        drawn = calibrate_any(pool.subset(rng.integers(0, size, size)), bounds, confidence, seed=seed + index)
        order = rng.permutation(size)
        half, rest = pool.subset(order[:size // 2]), pool.subset(order[size // 2:])
        halves = calibrate_any(half, bounds, confidence, seed=seed + index)
        scores, rest_scores = pool.scores(drawn.temperatures), rest.scores(halves.temperatures)
        for drop, half_drop in zip(drawn.drops, halves.drops, strict=True):
            found[drop.max_accuracy_drop].append((
                measure_drop(scores, pool.right, drop.tau).mean,
                measure_drop(rest_scores, rest.right, half_drop.tau).mean,
                float(shares[choose_exits(scores, drop.tau)].mean()), drop.is_shown))
    return [PromiseCheck(
        bound=bound, rounds=rounds,
        kept=sum(r[0] <= bound for r in rows), kept_on_rest=sum(r[1] <= bound for r in rows),
        shown=sum(r[3] for r in rows), drops=tuple(r[0] for r in rows), rest_drops=tuple(r[1] for r in rows),
        compute_share=float(np.mean([r[2] for r in rows]))) for bound, rows in found.items()]
