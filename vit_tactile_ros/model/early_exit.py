"""The exit decision: a sample exits at the first exit whose score reaches tau; the score is its confidence.

With tau 1 every sample uses the full depth, even if its float32 score is exactly 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError

# A staged network yields the logits of each exit, (remaining samples, classes). Sending row indices keeps only those
# samples for the later stages; sending None keeps all.
Stages = Generator[Tensor, 'Tensor | None', None]
Probabilities = TypeVar('Probabilities', Tensor, NDArray[Any])


@dataclass(frozen=True)
class ExitResult:
    """The result of early exit for a batch of B samples with C classes and E exits."""

    logits: Tensor  # (B, C), of the exit that was used
    probabilities: Tensor  # (B, C), float32
    exit_index: Tensor  # (B,), int64, 0-based
    confidences: Tensor  # (B, E), float32, `exit_score`; NaN at the exits that were not evaluated


class Hurry(NamedTuple):
    """Lower thresholds for samples that should not wait for a later exit."""

    tau: tuple[float, ...]  # one per early exit
    applies: Callable[[int], bool]  # to a sample, by its place in the batch; asked at every exit

    def at(self, exit_index: int, score: float, place: int) -> bool:
        """Whether a sample with this score exits here."""
        return bool(score >= score_limit(self.tau[exit_index])) and self.applies(place)


def thresholds(tau: float | Sequence[float], num_exits: int) -> tuple[float, ...]:
    """The threshold of each early exit, (num_exits - 1) numbers, from one number for all or one for each.

    The last exit has no threshold; a value given for it is checked and dropped.
    Raises UserError for a value outside 0..1 or a wrong count.
    """
    early = num_exits - 1
    values = tuple(float(t) for t in tau) if isinstance(tau, Sequence) else (float(tau),)
    for value in values:
        if not 0.0 <= value <= 1.0:  # refuses NaN too
            raise UserError(f'tau is {value}; must be between 0 and 1')
    if not isinstance(tau, Sequence):
        return values * early
    if len(values) not in (early, num_exits):
        raise UserError(f'tau has {len(values)} values {values}; must be one number, {early} (one per early exit) '
                        f'or {num_exits} (that of the last exit is not used)')
    return values[:early]


def exit_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax in float32 of the logits divided by the exit's temperature, (B, C)."""
    return torch.softmax(logits.float() / temperature, dim=-1)


def exit_score(probabilities: Probabilities) -> Probabilities:
    """What is compared with tau at an exit, 0 to 1, from the probabilities of that exit, (..., classes).

    The largest probability. Every engine, calibration and evaluation use this function, so another score is written
    here.
    """
    return probabilities.max(-1) if isinstance(probabilities, np.ndarray) else probabilities.amax(-1)


def score_limit(tau: float) -> np.float32:
    """The score at which a sample exits; float32, as the scores are: 0.7 is slightly less there."""
    return np.float32(tau if tau < 1.0 else math.inf)


def early_exit(stages: Stages, tau: Sequence[float], temperatures: Sequence[float], hurry: Hurry | None = None,
               ) -> ExitResult:
    """Run stages until every sample has exited; samples that exited are removed from the batch.

    `tau` holds one threshold per early exit, `temperatures` one value per exit. A sample to which `hurry` applies
    exits at its thresholds.
    """
    num_exits = len(temperatures)
    assert len(tau) == num_exits - 1
    logits = next(stages)
    if len(logits) == 1:
        return _early_exit_of_one(logits, stages, tau, temperatures, hurry)
    batch, classes = logits.shape
    device = logits.device
    result = ExitResult(
        logits=torch.empty(batch, classes, dtype=logits.dtype, device=device),
        probabilities=torch.empty(batch, classes, device=device),
        exit_index=torch.empty(batch, dtype=torch.int64, device=device),
        confidences=torch.full((batch, num_exits), math.nan, device=device),
    )
    rows = torch.arange(batch, device=device)  # which sample each remaining row is
    for exit_index in range(num_exits):
        probabilities = exit_probabilities(logits, temperatures[exit_index])
        confidence = exit_score(probabilities)
        result.confidences[rows, exit_index] = confidence
        last = exit_index == num_exits - 1
        if last:
            exits = torch.ones_like(rows, dtype=torch.bool)
        else:
            exits = confidence >= float(score_limit(tau[exit_index]))
            if hurry is not None:
                exits |= torch.tensor([hurry.at(exit_index, *sample) for sample in zip(
                    confidence.tolist(), rows.tolist(), strict=True)], device=device)
        exited = rows[exits]
        result.logits[exited] = logits[exits]
        result.probabilities[exited] = probabilities[exits]
        result.exit_index[exited] = exit_index
        if len(exited) == len(rows):
            break
        stay = torch.nonzero(~exits).squeeze(1)
        rows = rows[stay]
        logits = stages.send(None if len(exited) == 0 else stay)
    stages.close()
    return result


def _early_exit_of_one(logits: Tensor, stages: Stages, tau: Sequence[float], temperatures: Sequence[float],
                       hurry: Hurry | None) -> ExitResult:
    """`early_exit` for a batch of one, the usual case of the live node.

    In numpy: these few small operations take less than half of torch's time when other code ran in between. Its
    exponentials are rounded differently; confidences agree with those of a batch to 3e-7.
    """
    confidences = np.full((1, len(temperatures)), np.nan, np.float32)
    for exit_index, temperature in enumerate(temperatures):
        probabilities = logits.detach().float().cpu().numpy() / np.float32(temperature)  # `exit_probabilities`
        with np.errstate(invalid='ignore'):  # infinite logits give NaN, as for a batch; checked later
            probabilities -= probabilities.max()
        np.exp(probabilities, out=probabilities)
        probabilities /= probabilities.sum()
        confidence = confidences[0, exit_index] = exit_score(probabilities)[0]
        if exit_index == len(tau):
            break
        if confidence >= score_limit(tau[exit_index]):
            break
        if hurry is not None and hurry.at(exit_index, confidence, 0):
            break
        logits = stages.send(None)
    stages.close()
    device = logits.device
    return ExitResult(logits.clone(), torch.from_numpy(probabilities).to(device),
                      torch.from_numpy(np.array([exit_index], np.int64)).to(device),
                      torch.from_numpy(confidences).to(device))
