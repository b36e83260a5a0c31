"""The loss of a network with several exits: labels for all of them, a teacher, and scaled gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_tactile_ros.model import ViTTactile


def exit_losses(logits: Sequence[Tensor], labels: Tensor, distillation: float = 0.0, temperature: float = 1.0,
                label_smoothing: float = 0.0, teacher: Tensor | None = None) -> Tensor:
    """Mean loss of each exit over the batch, (E,), float32.

    `logits` are E tensors (B, C), `labels` (B,). A taught exit gives the share `distillation`, 0..1, of its loss to the
    divergence from the teacher's probabilities, both softened by `temperature` and scaled by its square (Hinton et al.
    2015, section 2). With `teacher`, logits (B, C) of another network, all exits are taught (Tarvainen & Valpola 2017);
    without, the last exit learns from the labels alone and teaches the early ones (Phuong & Lampert 2019, eq. 4). The
    teacher gets no gradient from its pupils, since it would otherwise learn to be easy to copy.
    """
    losses = [F.cross_entropy(out.float(), labels, label_smoothing=label_smoothing) for out in logits]
    taught = logits if teacher is not None else logits[:-1]
    if distillation and taught:
        known = (logits[-1] if teacher is None else teacher).detach()
        target = F.log_softmax(known.float() / temperature, dim=1)
        for i, out in enumerate(taught):
            pupil = F.log_softmax(out.float() / temperature, dim=1)
            divergence = F.kl_div(pupil, target, reduction='batchmean', log_target=True) * temperature**2
            losses[i] = (1 - distillation) * losses[i] + distillation * divergence
    return torch.stack(losses)


@contextlib.contextmanager
def scaled_exit_gradients(model: ViTTactile, factor: float) -> Iterator[None]:
    """Inside it, the gradient of each early exit is multiplied by `factor` where it leaves the head for the blocks.

    Early exits and the last one need different features of the first blocks. With a factor below 1 the blocks follow
    the last exit more, while each head learns at full rate (Li et al. 2019, Improved techniques for training adaptive
    deep networks).
    """
    def scaled(_head: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x = arguments[0]
        if x.requires_grad:
            x = x.view_as(x)  # the hook of a new tensor, so that the gradient of the later blocks is not scaled
            x.register_hook(lambda gradient: gradient * factor)
        return (x, *arguments[1:])

    hooks = [] if factor == 1 else [stage.get_submodule('head').register_forward_pre_hook(scaled)
                                    for stage in list(model.stage_modules)[:-1]]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
