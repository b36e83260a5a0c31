"""Confidences that can be trusted, and thresholds whose accuracy drop is below a bound with a stated confidence.

Risk control for early exits after Jazbec et al. 2024 (Fast yet Safe), by Learn then Test (Angelopoulos et al. 2021):
candidate thresholds, fixed beforehand, are tested from the safest on; all before the first failure are safe together
with the stated confidence (fixed sequence testing, no correction needed), and the boldest of them is taken. The test is
`risk.drop_p_value`. All early exits share a threshold: with calibrated confidences, one per exit chosen on part of the
samples saved no more where it was tried, and is one thing more to explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from vit_tactile_ros.evaluation.metrics import expected_calibration_error
from vit_tactile_ros.evaluation.outputs import ExitOutputs, choose_exits
from vit_tactile_ros.evaluation.risk import drop_p_value
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Calibration, DropBound

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05)  # share of all samples
CONFIDENCE = 0.95
FIT_SHARE = 0.25  # of the samples fits the temperatures, which the thresholds' test must not have seen; the rest tests
LEAST_SAMPLES = 20  # below that a temperature means nothing
TEMPERATURES = (0.05, 20.0)  # range searched
# The default tau is never less: on touches unlike the samples, an exit that finds its own class less likely than not
# should ask the next one. (Bounds may go lower: they speak of touches like the samples.)
LEAST_TAU = 0.5
LEVELS = (*(round(float(t), 4) for t in special.expit(np.arange(8.0, -2.01, -0.125))), 0.0)  # candidate thresholds

Tau = tuple[float, ...]


@dataclass(frozen=True)
class Drop:
    """What thresholds cost: of `num_samples`, how many lost or gained the right answer by leaving early."""

    worse: int
    better: int
    num_samples: int

    @property
    def mean(self) -> float:
        """Accuracy of the last exit minus that with early exits."""
        return (self.worse - self.better) / self.num_samples


def fit_temperatures(outputs: ExitOutputs) -> tuple[float, ...]:
    """The temperature of each exit that makes the labels most likely (Guo et al. 2017).

    Labels weigh (n + 1) / (n + 2), the rest goes to the other classes evenly: of n samples that are all right the most
    likely temperature is 0, and every answer would claim to be certain (Platt 1999 does the same).
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


def measure_drop(confidences: NDArray[np.float32], right: NDArray[np.bool_], tau: Tau) -> Drop:
    """`confidences` and `right` are (E, N)."""
    answered = right[choose_exits(confidences, tau), np.arange(right.shape[1])]
    return Drop(int((right[-1] & ~answered).sum()), int((~right[-1] & answered).sum()), right.shape[1])


def candidates(num_exits: int) -> list[Tau]:
    """One threshold for all early exits, from one that few samples reach down to 0; none without early exits."""
    if num_exits == 1:
        return []
    return [(level,) * (num_exits - 1) for level in LEVELS]


def choose_tau(outputs: ExitOutputs, max_accuracy_drop: float, confidence: float = CONFIDENCE,
               temperatures: Sequence[float] = ()) -> DropBound:
    """The boldest threshold whose drop is below the bound with this confidence; else 1, nobody leaves early.

    The samples are taken to be independent draws of what is to come; `temperatures` must not have been fitted to them.
    """
    confidences, right = outputs.probabilities(temperatures).max(axis=2), outputs.right
    chosen: Tau = (1.0,) * (outputs.num_exits - 1)
    for tau in candidates(outputs.num_exits):
        drop = measure_drop(confidences, right, tau)
        if drop_p_value(drop.worse, drop.better, drop.num_samples, max_accuracy_drop) > 1.0 - confidence:
            break
        chosen = tau
    return DropBound(max_accuracy_drop, confidence, chosen)


def lowest_tau(outputs: ExitOutputs, max_accuracy_drop: float, temperatures: Sequence[float]) -> Tau:
    """The lowest threshold down to which the drop on these very samples is within the bound: promises nothing."""
    confidences, right = outputs.probabilities(temperatures).max(axis=2), outputs.right
    chosen: Tau = (1.0,) * (outputs.num_exits - 1)
    for tau in candidates(outputs.num_exits):
        if measure_drop(confidences, right, tau).mean > max_accuracy_drop:
            break
        chosen = tau
    return chosen


def split_samples(num_samples: int, seed: int, fit_share: float = FIT_SHARE,
                  ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the samples that fit and of those that test, by chance."""
    order = np.random.default_rng(seed).permutation(num_samples)
    cut = round(fit_share * num_samples)
    return order[:cut], order[cut:]


def calibrate(outputs: ExitOutputs, bounds: Sequence[float] = BOUNDS, confidence: float = CONFIDENCE,
              seed: int = 0, recommend: float = 0.001) -> Calibration:
    """Temperatures from one part of the samples, thresholds for every bound from the other.

    The default tau becomes that of the largest bound not above `recommend` that could be shown, else of the strictest
    that could, and never less than LEAST_TAU. Raises UserError for fewer than LEAST_SAMPLES.
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
    drops = tuple(choose_tau(test, bound, confidence, temperatures) for bound in sorted(set(bounds)))
    confidences, right = test.probabilities(temperatures).max(axis=2), test.right
    shown = [d for d in drops if d.is_shown]
    recommended = [d for d in shown if d.max_accuracy_drop <= recommend][-1:] or shown[:1]
    return Calibration(
        temperatures=temperatures, tau=max(recommended[0].tau[0], LEAST_TAU) if recommended else 1.0, drops=drops,
        num_samples=len(test),
        ece=tuple(expected_calibration_error(c, r) for c, r in zip(confidences, right, strict=True)))
