"""Check that an engine's outputs match plain PyTorch, before it is timed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.inference.decide import decide
from vit_tactile_ros.inference.runtime import Precision, Runtime
from vit_tactile_ros.model import early_exit, exit_probabilities, exit_score

# Largest difference of logits over the largest logit. float32 engines differ only by rounding and order of sums. On 512
# simulated touches (shipped weights, 96x128 and 224x224 px) bfloat16 differed by at most 0.037, int8 by at most 0.088
# (one in a hundred by more than 0.014), and int8 with wrong or five times too narrow ranges by 0.22 to 0.58.
TOLERANCE: dict[Precision, float] = {'float32': 2e-3, 'bfloat16': 0.1, 'int8': 0.15}
# Share of the samples whose class at the last exit may differ, plus one sample. With int8, 1 of these 512 differed.
OTHER_CLASSES: dict[Precision, float] = {'float32': 0.0, 'bfloat16': 0.01, 'int8': 0.01}


class DisagreementError(RunError):
    """An engine whose outputs differ from plain PyTorch; the message names the engine, the exit and the difference."""


@torch.inference_mode()
def check_agreement(engine: Runtime, reference: Runtime, images: Tensor, tau: Sequence[float],
                    temperatures: Sequence[float], batch_size: int, tolerance: float | None = None) -> float:
    """Largest difference of the logits of any exit over the largest logit, for float32 (n, channels, h, w) images.

    tolerance: None for that of the precision.

    Raises DisagreementError if it is above the tolerance; if a sample of a batch exits elsewhere although its
    confidence at that exit is not within the tolerance of tau; or if more samples than OTHER_CLASSES get another class
    at full depth.
    """
    tolerance = TOLERANCE[engine.precision] if tolerance is None else tolerance
    worst, other_classes = 0.0, 0
    for batch in images.split(batch_size):
        for exit_index, (got, wanted) in enumerate(zip(engine.stages(batch), reference.stages(batch), strict=True)):
            got, wanted = got.float().cpu(), wanted.float().cpu()
            difference = float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))
            if not difference <= tolerance:  # refuses NaN too
                raise DisagreementError(f'engine {engine.name!r} differs from plain torch: logits of exit {exit_index} '
                                        f'by {difference:.2g} of the largest; must be at most {tolerance:g}')
            worst = max(worst, difference)
        other_classes += int((got.argmax(dim=1) != wanted.argmax(dim=1)).sum())
        result = decide(engine, batch, tau, temperatures)
        expected = early_exit(reference.stages(batch), tau, temperatures)
        ours, theirs = result.exit_index.cpu(), expected.exit_index.cpu()
        scores = torch.stack([exit_score(exit_probabilities(logits, t)).cpu() for logits, t in
                              zip(reference.stages(batch), temperatures, strict=True)], dim=1)
        for sample in torch.nonzero(ours != theirs).flatten().tolist():
            first = int(min(ours[sample], theirs[sample]))
            if abs(float(scores[sample, first]) - tau[first]) > 2 * tolerance:
                raise DisagreementError(
                    f'engine {engine.name!r}: a sample exits at exit {int(ours[sample])}, with plain torch at '
                    f'{int(theirs[sample])}; its confidence there is {float(scores[sample, first]):.4f}, '
                    f'tau {tau[first]:g}')
        off = (result.probabilities.float().cpu() - expected.probabilities.cpu()).abs()[ours == theirs]
        if len(off) and not float(off.max()) <= 2 * tolerance:
            raise DisagreementError(f'engine {engine.name!r} differs from plain torch with early exits: probabilities '
                                    f'by {float(off.max()):.2g}; must be at most {2 * tolerance:g}')
    allowed = int(OTHER_CLASSES[engine.precision] * len(images)) + 1
    if other_classes > allowed:
        raise DisagreementError(f'engine {engine.name!r} gives {other_classes} of {len(images)} samples another class '
                                f'than plain torch; must be at most {allowed} in {engine.precision}')
    return worst
