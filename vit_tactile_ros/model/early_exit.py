"""The exit decision: a sample leaves at the first exit whose largest softmax probability reaches tau.

A tau of 1 keeps every sample, also one whose float32 probability is exactly 1: it means the full depth.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError

# What a staged network hands out: the logits at each exit, (samples still in, classes). Sending back indices of
# rows keeps only those samples for the later stages; sending None keeps all of them.
Stages = Generator[Tensor, 'Tensor | None', None]


@dataclass(frozen=True)
class ExitResult:
    """What early exit says of a batch of B samples with C classes and E exits."""

    logits: Tensor  # (B, C), of the exit that answered
    probabilities: Tensor  # (B, C), float32
    exit_index: Tensor  # (B,), int64, 0-based
    confidences: Tensor  # (B, E), float32; NaN at the exits that were not evaluated


def thresholds(tau: float | Sequence[float], num_exits: int) -> tuple[float, ...]:
    """The threshold of each early exit, (num_exits - 1) numbers, from one number for all or one for each.

    The last exit always answers; a value given for it is checked and left out.
    Raises ValueError for a value outside 0..1 or a wrong count.
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
                        f'or {num_exits} (the last exit always answers)')
    return values[:early]


def exit_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax in float32 of the logits divided by the exit's temperature, (B, C)."""
    return torch.softmax(logits.float() / temperature, dim=-1)


def early_exit(stages: Stages, tau: Sequence[float], temperatures: Sequence[float]) -> ExitResult:
    """Ask for stages until every sample has left, per sample, with finished samples taken out of the batch.

    `tau` holds one threshold per early exit, `temperatures` one value per exit.
    """
    num_exits = len(temperatures)
    assert len(tau) == num_exits - 1
    logits = next(stages)
    if len(logits) == 1:
        return _early_exit_of_one(logits, stages, tau, temperatures)
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
        confidence = probabilities.amax(dim=-1)
        result.confidences[rows, exit_index] = confidence
        last = exit_index == num_exits - 1
        if last:
            leaves = torch.ones_like(rows, dtype=torch.bool)
        else:
            leaves = confidence >= (float(tau[exit_index]) if tau[exit_index] < 1.0 else math.inf)
        left = rows[leaves]
        result.logits[left] = logits[leaves]
        result.probabilities[left] = probabilities[leaves]
        result.exit_index[left] = exit_index
        if len(left) == len(rows):
            break
        stay = torch.nonzero(~leaves).squeeze(1)
        rows = rows[stay]
        logits = stages.send(None if len(left) == 0 else stay)
    stages.close()
    return result


def _early_exit_of_one(logits: Tensor, stages: Stages, tau: Sequence[float], temperatures: Sequence[float],
                       ) -> ExitResult:
    """`early_exit` of a batch of one, the live node's own case, which needs no rows.

    In numpy, whose few small operations take less than half of torch's time where something else ran in between; its
    exponentials are rounded otherwise, so that confidences agree with those of a batch to 3e-7.
    """
    confidences = np.full((1, len(temperatures)), np.nan, np.float32)
    for exit_index, temperature in enumerate(temperatures):
        probabilities = logits.detach().float().cpu().numpy() / np.float32(temperature)  # `exit_probabilities`
        with np.errstate(invalid='ignore'):  # infinite logits: NaN comes out, as for a batch, and is judged later
            probabilities -= probabilities.max()
        np.exp(probabilities, out=probabilities)
        probabilities /= probabilities.sum()
        confidence = confidences[0, exit_index] = probabilities.max()
        if exit_index == len(tau):
            break
        # Both in float32, as for whole batches: 0.7 is a little less there.
        if tau[exit_index] < 1.0 and confidence >= np.float32(tau[exit_index]):
            break
        logits = stages.send(None)
    stages.close()
    device = logits.device
    return ExitResult(logits.clone(), torch.from_numpy(probabilities).to(device),
                      torch.from_numpy(np.array([exit_index], np.int64)).to(device),
                      torch.from_numpy(confidences).to(device))
