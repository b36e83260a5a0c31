"""The loss of a network with several exits: labels for all of them, the last one as a teacher of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def exit_losses(logits: Sequence[Tensor], labels: Tensor, distillation: float = 0.0, temperature: float = 1.0,
                label_smoothing: float = 0.0) -> Tensor:
    """Mean loss of each exit over the batch, (E,), float32.

    `logits` are E tensors (B, C), `labels` (B,). The last exit learns from the labels alone. An early one gives the
    share `distillation`, 0..1, of its loss to the divergence from the last exit's probabilities, both softened by
    `temperature` and scaled by its square (Hinton et al. 2015, section 2; Phuong & Lampert 2019, eq. 4). The teacher
    gets no gradient from its pupils, since it would otherwise learn to be easy to copy.
    """
    losses = [F.cross_entropy(out.float(), labels, label_smoothing=label_smoothing) for out in logits]
    if distillation and len(logits) > 1:
        teacher = F.log_softmax(logits[-1].detach().float() / temperature, dim=1)
        for i, out in enumerate(logits[:-1]):
            pupil = F.log_softmax(out.float() / temperature, dim=1)
            divergence = F.kl_div(pupil, teacher, reduction='batchmean', log_target=True) * temperature**2
            losses[i] = (1 - distillation) * losses[i] + distillation * divergence
    return torch.stack(losses)
