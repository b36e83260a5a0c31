"""The exit threshold under a latency budget: lower while results are late, slowly back to the user's tau."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAIN = 0.25  # of the way from tau to tau_min, for one late batch: five in a row reach tau_min
LATE_SHARE = 0.005  # of all batches in the long run, half of what a 99th percentile allows; 800 in time return to tau
FULL = 1.5  # highest level: where tau_min is needed all the time, it is kept for 400 batches after a late one
TAU_MIN = 0.5  # as the least tau of a calibration: below it another class may be more probable


class Budget(NamedTuple):
    """What the user accepts."""

    seconds: float = 0.0  # from image to result, for 99 of 100 results; 0: off
    tau_min: float = TAU_MIN


class TauSteering:
    """The level that tau is lowered to, 0 (tau) to 1 (tau_min), and above 1 up to FULL, from the results' latencies.

    A late batch adds GAIN * (1 - LATE_SHARE) to the level, one in time subtracts GAIN * LATE_SHARE. Whatever the load
    does, n batches in a row then contain at most LATE_SHARE * n + FULL / GAIN late ones while the level stays below
    FULL, that is, while the budget can be kept at all (the update of Gibbs and Candes 2021, Adaptive Conformal
    Inference Under Distribution Shift). Not thread-safe, apart from reading.
    """

    def __init__(self) -> None:
        self.level = 0.0
        self.tau: tuple[float, ...] = ()  # of the last batch
        self._budget = Budget()

    def steered(self, tau: Sequence[float], budget: Budget) -> tuple[float, ...]:
        """The thresholds of the next batch: from each of `tau`, one per early exit, towards tau_min; never above tau.

        A new budget starts at tau.
        """
        if budget.seconds != self._budget.seconds:
            self.level = 0.0
        self._budget = budget
        share = min(self.level, 1.0)
        # Not below tau_min by rounding.
        self.tau = tuple(t if t <= budget.tau_min else max(t - share * (t - budget.tau_min), budget.tau_min)
                         for t in tau)
        return self.tau

    def observe(self, latency: float | None) -> None:
        """s from image to result, the longest of a batch; None if unknown."""
        if self._budget.seconds <= 0 or latency is None:
            return
        is_late = latency > self._budget.seconds
        self.level = min(max(self.level + GAIN * (is_late - LATE_SHARE), 0.0), FULL)


def floor(tau: Sequence[float], tau_min: float) -> tuple[float, ...]:
    """The lowest thresholds that steering reaches, one per early exit."""
    return tuple(min(t, tau_min) for t in tau)
