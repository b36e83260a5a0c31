"""The optimisation of the weights: AdamW, the learning rate of every step, the moving average."""

from __future__ import annotations

import math
from typing import Any

import torch

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.training.config import TrainingConfig


def freeze(model: ViTTactile, blocks: int) -> None:
    """Keep the patch embedding and the first `blocks` blocks unchanged; heads are always trained.

    0 keeps nothing. Raises UserError where the network has fewer blocks.
    """
    if blocks > model.config.depth:
        raise UserError(f'freeze is {blocks}; must be at most {model.config.depth}, the number of blocks')
    kept = [block for stage in model.stage_modules for block in stage.get_submodule('blocks').children()][:blocks]
    for module in (model.embed, *kept) if blocks else ():
        module.requires_grad_(False)


def make_optimizer(model: ViTTactile, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over what is not frozen; decays matrices only: gains and biases do not need a small scale.

    The decay of a step is the learning rate times `weight_decay`, so `head_lr_factor` multiplies that of the heads too.
    """
    heads = {p for stage in model.stage_modules for p in stage.get_submodule('head').parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    # With equal rates one part for all, as in the states of runs that had no other.
    factor = config.head_factor
    parts = ([(1.0, trained)] if factor == 1 else
             [(1.0, [p for p in trained if p not in heads]), (factor, [p for p in trained if p in heads])])
    groups: list[dict[str, Any]] = [
        group for factor, part in parts for group in (
            {'params': [p for p in part if p.ndim >= 2], 'weight_decay': config.weight_decay, 'factor': factor},
            {'params': [p for p in part if p.ndim < 2], 'weight_decay': 0.0, 'factor': factor})]
    try:
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    except RuntimeError:  # a device without the fused form
        return torch.optim.AdamW(groups, lr=config.lr)


def set_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    """Set the learning rate of each group of `make_optimizer`; `rate` is that of the blocks."""
    for group in optimizer.param_groups:
        group['lr'] = rate * group['factor']


def resume(optimizer: torch.optim.AdamW, state: dict[str, Any]) -> None:
    """Load a `state_dict`; the factors stay those of this optimizer, since states of earlier versions have none."""
    factors = [group['factor'] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group['factor'] = factor


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of the steps, then a half cosine to 1 % of the peak."""
    rising = max(1, int(total * warmup))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, total - rising)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def average_decay(step: int, decay: float) -> float:
    """Decay at a step: an early average follows quickly, so that it is useful before 1 / (1 - decay) steps."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def move_average(average: ViTTactile, model: ViTTactile, decay: float) -> None:
    """Move the average's parameters towards the model's by 1 - decay."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
