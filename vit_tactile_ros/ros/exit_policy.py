"""Whether tau, max_accuracy_drop or the checkpoint determines the thresholds of the exits; without ROS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Calibration, thresholds

NO_DROP = -1.0  # max_accuracy_drop that is not set
BOTH = 'tau is {} and max_accuracy_drop is {:g}; give only one of them: both set the thresholds of the exits'


class PolicyError(UserError):
    """Parameters that contradict each other, or that this checkpoint cannot keep."""


@dataclass(frozen=True)
class InForce:
    """The result of a policy for one checkpoint."""

    thresholds: tuple[float, ...]  # one per early exit
    tau: Any  # the value that the parameter tau shows
    max_accuracy_drop: float  # the value that this parameter shows
    notes: tuple[str, ...] = ()  # of a bound: which one, and its thresholds
    warnings: tuple[str, ...] = ()

    @property
    def shown(self) -> dict[str, Any]:
        """The values that the two parameters show."""
        return {'tau': self.tau, 'max_accuracy_drop': self.max_accuracy_drop}


@dataclass(frozen=True)
class ExitPolicy:
    """What the user has set: the last one set is used, or the checkpoint if none is set."""

    tau: Any = None  # a number or one per early exit; None: never set
    max_accuracy_drop: float = NO_DROP
    is_ambiguous: bool = False  # both were start-up parameters, and neither has been set since

    @classmethod
    def at_start(cls, tau: Any, max_accuracy_drop: float) -> ExitPolicy:
        return cls(tau, max_accuracy_drop, tau is not None and max_accuracy_drop != NO_DROP)

    @property
    def source(self) -> str:
        """The source of the thresholds: 'max_accuracy_drop', 'tau' or 'checkpoint'."""
        if self.max_accuracy_drop != NO_DROP:
            return 'max_accuracy_drop'
        return 'checkpoint' if self.tau is None else 'tau'

    @property
    def shown(self) -> dict[str, Any]:
        """The values that the two parameters show while no checkpoint is loaded."""
        return {'max_accuracy_drop': self.max_accuracy_drop} | ({} if self.tau is None else {'tau': self.tau})

    def after(self, given: Mapping[str, Any], shown: Mapping[str, Any]) -> ExitPolicy:
        """The policy once `given`, valid values of one or both parameters, are set; `shown` is what they show now.

        max_accuracy_drop of -1 restores what was used before it: the user's tau, else the checkpoint's. Raises
        PolicyError if both are given at once, unless they equal what is shown and so change nothing.
        """
        if 'tau' in given and given.get('max_accuracy_drop', NO_DROP) != NO_DROP:
            if all(name in shown and _same(given[name], shown[name]) for name in ('tau', 'max_accuracy_drop')):
                return self
            raise PolicyError(BOTH.format(given['tau'], given['max_accuracy_drop']))
        if 'tau' in given:
            if 'max_accuracy_drop' in given and self.source == 'checkpoint' and _same(given['tau'], shown.get('tau')):
                return self
            return ExitPolicy(given['tau'])
        if 'max_accuracy_drop' in given:
            return dataclasses.replace(self, max_accuracy_drop=given['max_accuracy_drop'], is_ambiguous=False)
        return self

    def in_force(self, calibration: Calibration, num_exits: int) -> InForce:
        """The thresholds for a checkpoint; raises PolicyError for a setting that it does not support."""
        if self.is_ambiguous:
            raise PolicyError(BOTH.format(self.tau, self.max_accuracy_drop))
        if self.max_accuracy_drop == NO_DROP:
            tau = calibration.tau if self.tau is None else self.tau
            try:
                return InForce(thresholds(_numbers(tau), num_exits), tau, NO_DROP)
            except UserError as error:
                raise PolicyError(str(error)) from error
        asked = self.max_accuracy_drop
        try:
            bound = calibration.bound_for(asked)
        except UserError as error:
            raise PolicyError(f'max_accuracy_drop is {asked:g}: {error}') from error
        notes: tuple[str, ...] = () if bound.max_accuracy_drop == asked else (
            f'max_accuracy_drop {asked:g} is not a bound of the calibration of this checkpoint: the next stricter one, '
            f'{bound.max_accuracy_drop:g}, is used',)
        if bound.is_shown:
            notes += (bound.effect,)
        warnings = () if bound.is_shown else (
            f'max_accuracy_drop {bound.max_accuracy_drop:g} could not be guaranteed with the {calibration.num_samples} '
            'samples of the calibration, so no image exits early: calibrate with more, or allow a larger drop',)
        tau = bound.tau[0] if len(set(bound.tau)) == 1 else list(bound.tau) or 1.0
        return InForce(thresholds(bound.tau, num_exits), tau, asked, notes, warnings)


def _numbers(tau: Any) -> float | list[float]:
    return float(tau) if isinstance(tau, (int, float)) else [float(t) for t in tau]


def _same(a: Any, b: Any) -> bool:
    return a is not None and b is not None and _numbers(a) == _numbers(b)
