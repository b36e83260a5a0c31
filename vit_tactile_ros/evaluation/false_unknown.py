"""A bound on how many touches of known classes are reported as unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from vit_tactile_ros.evaluation.outputs import ExitOutputs
from vit_tactile_ros.inference.touch_events import NO_CONTACT, UNKNOWN
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.vit import Stage

MOST_FALSE = 0.05  # share of the touches of known classes


def can_be_bounded(outputs: ExitOutputs) -> bool:
    """Whether the checkpoint has the class, and some samples are touches of other classes."""
    return UNKNOWN in outputs.class_names and bool(known_touches(outputs).any())


def known_touches(outputs: ExitOutputs) -> NDArray[np.bool_]:
    """Which samples are touches of the other classes, (N,)."""
    apart = [i for i, name in enumerate(outputs.class_names) if name in (NO_CONTACT, UNKNOWN)]
    return ~np.isin(outputs.labels, apart)


def predicted_unknown(outputs: ExitOutputs) -> NDArray[np.bool_]:
    """What each exit reports as unknown if it is a touch, (E, N): more probable than every other class of a touch.

    no_contact does not count, because the gate's evidence of a touch can exclude it (`inference.classifier`).
    """
    predicted: NDArray[np.bool_] = margins(outputs) > 0
    return predicted


def margins(outputs: ExitOutputs) -> NDArray[np.float32]:
    """How far the logit of unknown is above those of the other classes of a touch, (E, N)."""
    names = outputs.class_names
    others = [i for i, name in enumerate(names) if name not in (NO_CONTACT, UNKNOWN)]
    found: NDArray[np.float32] = outputs.logits[:, :, names.index(UNKNOWN)] - outputs.logits[:, :, others].max(axis=2)
    return found


def shift_for(outputs: ExitOutputs, most_false: float, confidence: float) -> float | None:
    """What to add to the logit of `unknown` at every exit, at most 0, so that the bound holds with this confidence.

    The bound is on the share of touches of known classes that are reported as unknown at any exit, and so at the exit
    that is used, whatever tau is, with the gate or without. The threshold is the order statistic of the samples'
    largest margins whose upper confidence limit is the bound (a one-sided tolerance limit, Wilks 1941), so it holds for
    independent samples of the same distribution. None if there are too few samples to show it.
    """
    largest = margins(outputs)[:, known_touches(outputs)].max(axis=0)
    count = len(largest)
    # With `allowed` samples above the threshold, the chance of so few is below 1 - confidence if the share were higher.
    allowed = int(stats.binom.ppf(1 - confidence, count, most_false))
    while allowed >= 0 and stats.binom.cdf(allowed, count, most_false) > 1 - confidence:
        allowed -= 1
    if allowed < 0:
        return None
    # a little lower, so that this sample is not reported as unknown, though weights are stored as float16
    return float(min(0.0, -np.sort(largest)[count - 1 - allowed] - 0.01))


def shifted(outputs: ExitOutputs, value: float) -> ExitOutputs:
    """The outputs of the network after `shift`."""
    logits = outputs.logits.copy()
    logits[:, :, outputs.class_names.index(UNKNOWN)] += np.float32(value)
    return replace(outputs, logits=logits)


def shift(model: ViTTactile, class_names: Sequence[str], value: float) -> None:
    """Add the value to the logit of the class `unknown` at every exit, in place."""
    with torch.no_grad():
        # later exits that add to the first one contain it already
        for stage in list(model.stage_modules)[:1 if model.config.added_exits else None]:
            cast(Stage, stage).head.classify.bias[list(class_names).index(UNKNOWN)] += value
