"""The settings of a training run, in one place."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import ClassVar, Literal

from vit_tactile_ros.foundation.errors import UserError

Precision = Literal['auto', 'float32', 'bfloat16']
Teacher = Literal['last', 'average']


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; raises UserError naming the field that is out of its range."""

    DEFAULTS: ClassVar[dict[str, float]] = {'loss_weights': 0.3}  # of each exit but the last, which has 1
    NEW_HEADS: ClassVar[float] = 8.0  # `head_lr_factor` of new heads on trained blocks (docs/results/exits.md)

    batch_size: int = 64  # examples, over all processes
    epochs: int = 100
    lr: float = 1e-4  # peak learning rate of AdamW
    head_lr_factor: float | None = None  # factor on it for the heads; None: see `for_heads`, and otherwise 1
    warmup: float = 0.05  # share of the steps with a rising learning rate
    weight_decay: float = 0.05  # of AdamW, on matrices only
    clip: float = 1.0  # largest norm of the gradient
    loss_weights: tuple[float, ...] = ()  # one per exit; empty: the default
    # Share of a taught exit's loss that is the distance to the teacher's prediction, not to the label, 0..1.
    distillation: float = 0.5
    # 'last': the last exit teaches the early ones; 'average': that of the moving average of the weights teaches all.
    teacher: Teacher = 'last'
    exit_gradient: float = 1.0  # factor on the gradients of early exits where they reach the blocks, not the heads
    distillation_temperature: float = 2.0  # divides both sides' logits
    label_smoothing: float = 0.0  # 0..1, of the labels only, not of the teacher
    balance: bool = False  # draw all classes equally often
    freeze: int = 0  # this many first blocks and the patch embedding keep their weights; 0: everything is trained
    ema: float = 0.998  # decay per step of the moving average of the weights, 0..1
    precision: Precision = 'auto'  # of the forward pass; 'auto': bfloat16 where the device computes in it
    seed: int = 0  # of the weights, the order of the examples and their augmentation

    def __post_init__(self) -> None:
        for name in ('batch_size', 'epochs'):
            _require(getattr(self, name) >= 1, name, getattr(self, name), 'at least 1')
        for name in ('lr', 'head_lr_factor', 'weight_decay', 'seed', 'freeze', 'exit_gradient'):
            value = getattr(self, name)
            _require(value is None or 0 <= value < math.inf, name, value, 'at least 0')
        for name in ('warmup', 'distillation', 'label_smoothing', 'ema'):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), 'between 0 and 1')
        for name in ('clip', 'distillation_temperature'):
            _require(0 < getattr(self, name) < math.inf, name, getattr(self, name), 'above 0')
        _require(all(0 <= w < math.inf for w in self.loss_weights)
                 and (not self.loss_weights or sum(self.loss_weights) > 0), 'loss_weights', self.loss_weights,
                 'numbers of at least 0, not all 0')
        _require(self.teacher == 'last' or self.distillation > 0, 'teacher', self.teacher,
                 "'last' if distillation is 0, since nothing is learned from a teacher then")
        for name, choices in (('precision', typing.get_args(Precision)), ('teacher', typing.get_args(Teacher))):
            _require(getattr(self, name) in choices, name, getattr(self, name), f'one of {", ".join(choices)}')

    @property
    def head_factor(self) -> float:
        return 1.0 if self.head_lr_factor is None else self.head_lr_factor

    def for_heads(self, are_new: bool, depth: int) -> TrainingConfig:
        """These settings for heads that are all new or not: new ones learn faster than blocks that are trained already.

        If all blocks, `depth`, are frozen, `lr` is the rate of the heads alone, and stays as it is.
        """
        if self.head_lr_factor is not None:
            return self
        return dataclasses.replace(self, head_lr_factor=self.NEW_HEADS if are_new and self.freeze < depth else 1.0)

    def weights(self, num_exits: int) -> tuple[float, ...]:
        """Weight of each exit's loss; raises UserError for settings that are for another number of exits."""
        _require(num_exits > 1 or self.exit_gradient == 1, 'exit_gradient', self.exit_gradient,
                 '1 for a network with one exit, which has no early ones')
        if not self.loss_weights:
            return (self.DEFAULTS['loss_weights'],) * (num_exits - 1) + (1.0,)
        _require(len(self.loss_weights) == num_exits, 'loss_weights', self.loss_weights,
                 f'{num_exits} numbers, one per exit')
        return self.loss_weights


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise UserError(f'{name} is {value}; must be {wanted}')
