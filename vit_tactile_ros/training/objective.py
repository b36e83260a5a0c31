"""What the exits of a network learn: the classes of labelled touches, or what an objective without labels defines."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.evaluation.outputs import collect_outputs
from vit_tactile_ros.model import PreprocessingConfig, ViTTactile
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.loss import exit_losses


class Objective(Protocol):
    """What a network learns and how it is judged; `training.loop.fit` does the rest."""

    def outputs(self, model: ViTTactile, average: ViTTactile, inputs: Tensor) -> Any:
        """What `losses` needs, computed by the network, under autocast; average: the moving average of its weights."""

    def losses(self, outputs: Any, labels: Tensor) -> Tensor:
        """Mean loss of each exit over the rows of the batch, (E,), float32."""

    def validate(self, average: ViTTactile, frames: Frames, preprocessing: PreprocessingConfig, device: torch.device,
                 progress: str) -> dict[str, float]:
        """Figures of each exit; progress: title of a bar, '' shows none."""

    def told(self, metrics: dict[str, float], exits: tuple[int, ...]) -> str:
        """Those figures, for the line that an epoch logs."""

    def result(self, average: ViTTactile) -> ViTTactile:
        """The network to store."""


class Classification:
    """Labels for all exits, and a teacher, as `exit_losses` describes."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config

    def outputs(self, model: ViTTactile, average: ViTTactile, inputs: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The logits of each exit and of the teacher."""
        return model(inputs), self._teacher(average, inputs)

    def losses(self, outputs: tuple[list[Tensor], Tensor | None], labels: Tensor) -> Tensor:
        logits, teacher = outputs
        return exit_losses(logits, labels, self.config.distillation, self.config.distillation_temperature,
                           self.config.label_smoothing, teacher)

    @torch.no_grad()
    def _teacher(self, average: ViTTactile, inputs: Tensor) -> Tensor | None:
        """The logits of the last exit of the moving average, if it is the teacher."""
        if self.config.teacher == 'last' or not self.config.distillation:
            return None
        *_early, last = average.stages(inputs)
        return last

    def validate(self, average: ViTTactile, frames: Frames, preprocessing: PreprocessingConfig, device: torch.device,
                 progress: str) -> dict[str, float]:
        outputs = collect_outputs(average, frames, preprocessing, device, self.config.batch_size, progress)
        return {f'accuracy_block_{block}': float(right.mean())
                for block, right in zip(outputs.exits, outputs.right, strict=True)}

    def told(self, metrics: dict[str, float], exits: tuple[int, ...]) -> str:
        return 'validation accuracy ' + ', '.join(f'block {b} {metrics[f"accuracy_block_{b}"]:.3f}' for b in exits)

    def result(self, average: ViTTactile) -> ViTTactile:
        return average
