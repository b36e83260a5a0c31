"""Calibrated confidences, and thresholds that keep the accuracy drop below a bound with a stated confidence.

Risk control for early exits as in Jazbec et al. 2024 (Fast yet Safe), by Learn then Test (Angelopoulos et al. 2021):
a fixed list of thresholds is tested from the highest down with `risk.drop_p_value`. All thresholds before the first
failure are valid with the stated confidence (fixed sequence testing, no correction needed); the lowest of them is used.
The thresholds of the exits fall together until each has reached a floor of its own, which comes from the samples that
fitted the temperatures (`threshold_path`). On a network whose first exit is much less accurate than the others, one
shared threshold lost 3 points of accuracy where these lost 0.4 (docs/results/exits.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from vit_tactile_ros.evaluation.metrics import expected_calibration_error
from vit_tactile_ros.evaluation.outputs import ExitOutputs, choose_exits
from vit_tactile_ros.evaluation.risk import drop_p_value
from vit_tactile_ros.evaluation.threshold_path import threshold_path
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Calibration, DropBound

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05)  # share of all samples
CONFIDENCE = 0.95
FIT_SHARE = 0.25  # of the samples, to fit the temperatures; the thresholds are tested on the others
LEAST_SAMPLES = 20  # a temperature from fewer is meaningless
TEMPERATURES = (0.05, 20.0)  # range searched
# Lower limit of the default tau: on touches unlike the samples, an image should not exit with a confidence below 0.5.
# (The thresholds of bounds may be lower: they apply to touches like the samples.)
LEAST_TAU = 0.5
LEVELS = (*(round(float(t), 4) for t in special.expit(np.arange(8.0, -2.01, -0.125))), 0.0)  # candidate thresholds

Tau = tuple[float, ...]


@dataclass(frozen=True)
class Drop:
    """The accuracy drop: of `num_samples`, how many predictions early exit made wrong (worse) or right (better)."""

    worse: int
    better: int
    num_samples: int

    @property
    def mean(self) -> float:
        """Accuracy of the last exit minus that with early exits."""
        return (self.worse - self.better) / self.num_samples


def fit_temperatures(outputs: ExitOutputs) -> tuple[float, ...]:
    """The temperature of each exit that makes the labels most likely (Guo et al. 2017).

    The label has the weight (n + 1) / (n + 2); the rest is spread evenly over the other classes (Platt 1999). Without
    this, the temperature from n correct samples would be 0, and every confidence 1.

    The gate's odds of a touch (`TactileClassifier.evidence`) are not included: single images have no stream that would
    give them.
    """
    rows, doubt = np.arange(len(outputs)), 1 / (len(outputs) + 2)

    def best(logits: NDArray[np.float32]) -> float:
        def loss(log_temperature: float) -> float:
            scaled = logits / np.exp(log_temperature)
            right = scaled[rows, outputs.labels]
            others = (scaled.sum(axis=1) - right) / max(scaled.shape[1] - 1, 1)
            return float((special.logsumexp(scaled, axis=1) - (1 - doubt) * right - doubt * others).mean())
        found = optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method='bounded')
        return float(np.exp(found.x))

    return tuple(best(logits.astype(np.float64)) for logits in outputs.logits)


def tau_shown(tau: Tau) -> str:
    """Thresholds in a table: one number where all are equal."""
    return ', '.join(f'{t:.4g}' for t in (tau if len(set(tau)) > 1 else tau[:1] or (1.0,)))


def measure_drop(scores: NDArray[np.float32], right: NDArray[np.bool_], tau: Tau) -> Drop:
    """`scores` and `right` are (E, N)."""
    used = right[choose_exits(scores, tau), np.arange(right.shape[1])]
    return Drop(int((right[-1] & ~used).sum()), int((~right[-1] & used).sum()), right.shape[1])


def candidates(num_exits: int, path: Sequence[Tau] = ()) -> list[Tau]:
    """Thresholds from one that few samples reach downwards; empty without early exits.

    All early exits share each level until they reach the first thresholds of the path (of `threshold_path`), and again
    from one entry of the path to the next, and from the last one to 0. Without a path they share all levels.
    """
    if num_exits == 1:
        return []
    found: dict[Tau, None] = {}
    for high, low in pairwise([(1.0,) * (num_exits - 1), *path, (0.0,) * (num_exits - 1)]):
        found |= dict.fromkeys(tuple(max(b, min(a, level)) for a, b in zip(high, low, strict=True)) for level in LEVELS)
    return list(found)


def find_path(outputs: ExitOutputs, temperatures: Sequence[float]) -> list[Tau]:
    """The `threshold_path` of these samples, with compute as the cost."""
    return threshold_path(outputs.scores(temperatures), outputs.right, outputs.compute_shares, LEVELS)


def choose_tau(outputs: ExitOutputs, max_accuracy_drop: float, confidence: float = CONFIDENCE,
               temperatures: Sequence[float] = (), path: Sequence[Tau] = ()) -> DropBound:
    """The lowest threshold whose drop is below the bound with this confidence; 1 (early exit off) if there is none.

    Assumes independent samples from the later distribution; `temperatures` and `path` must not come from them.
    """
    scores, right = outputs.scores(temperatures), outputs.right
    chosen: Tau = (1.0,) * (outputs.num_exits - 1)
    for tau in candidates(outputs.num_exits, path):
        drop = measure_drop(scores, right, tau)
        if drop_p_value(drop.worse, drop.better, drop.num_samples, max_accuracy_drop) > 1.0 - confidence:
            break
        chosen = tau
    return DropBound(max_accuracy_drop, confidence, chosen)


def lowest_tau(outputs: ExitOutputs, max_accuracy_drop: float, temperatures: Sequence[float]) -> Tau:
    """The lowest thresholds with a drop within the bound on these samples, without any guarantee for others."""
    scores, right = outputs.scores(temperatures), outputs.right
    chosen: Tau = (1.0,) * (outputs.num_exits - 1)
    for tau in candidates(outputs.num_exits, find_path(outputs, temperatures)):
        if measure_drop(scores, right, tau).mean > max_accuracy_drop:
            break
        chosen = tau
    return chosen


def split_samples(num_samples: int, seed: int, fit_share: float = FIT_SHARE,
                  ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Random disjoint indices of the samples for the fit and of those for the test."""
    order = np.random.default_rng(seed).permutation(num_samples)
    cut = round(fit_share * num_samples)
    return order[:cut], order[cut:]


def calibrate(outputs: ExitOutputs, bounds: Sequence[float] = BOUNDS, confidence: float = CONFIDENCE,
              seed: int = 0, recommend: float = 0.001) -> Calibration:
    """Temperatures and the order of thresholds from one part of the samples, those for every bound from the other.

    The default tau is one for all exits: that of the largest verified bound up to `recommend`, otherwise of the
    strictest verified bound, and at least LEAST_TAU. Raises UserError for fewer than LEAST_SAMPLES.
    """
    check_size(outputs)
    return calibrate_any(outputs, bounds, confidence, seed, recommend)


def check_size(outputs: ExitOutputs) -> None:
    if len(outputs) < LEAST_SAMPLES:
        raise UserError(f'there are {len(outputs)} samples; must be at least {LEAST_SAMPLES}, and '
                        'hundreds to be useful')


def calibrate_any(outputs: ExitOutputs, bounds: Sequence[float], confidence: float, seed: int,
                  recommend: float = 0.001) -> Calibration:
    """`calibrate` for any number of samples, such as a part of those whose number was checked."""
    fit, test = (outputs.subset(i) for i in split_samples(len(outputs), seed))
    temperatures = fit_temperatures(fit)
    path, increasing = find_path(fit, temperatures), sorted(set(bounds))
    drops = tuple(choose_tau(test, bound, confidence, temperatures, path) for bound in increasing)
    confidences, right = test.probabilities(temperatures).max(axis=2), test.right
    # The first one that is verified is used: the others need not be tested again, with one threshold for all exits.
    order = [*(b for b in reversed(increasing) if b <= recommend), *(b for b in increasing if b > recommend)]
    shared = (choose_tau(test, bound, confidence, temperatures) for bound in order)
    recommended = next((drop for drop in shared if drop.is_shown), None)
    return Calibration(
        temperatures=temperatures, tau=max(recommended.tau[0], LEAST_TAU) if recommended else 1.0, drops=drops,
        num_samples=len(test),
        ece=tuple(expected_calibration_error(c, r) for c, r in zip(confidences, right, strict=True)))
