"""What `fit` needs besides the model: the recipe, the examples, where it computes and where the result is stored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vit_tactile_ros.data.augment_config import AUGMENTATIONS, AugmentConfig
from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.model import ModelConfig, PreprocessingConfig, Provenance
from vit_tactile_ros.training.batches import Order
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.distributed import ALONE, Processes


@dataclass(frozen=True)
class Recipe:
    """How the network is trained, whatever the data and the machine."""

    preprocessing: PreprocessingConfig
    config: TrainingConfig
    augment: AugmentConfig

    def settings(self, model: ModelConfig, others: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of a run by the names of their flags, as plain JSON values; they must match to resume."""
        kind = next((name for name, make in AUGMENTATIONS.items() if make() == self.augment),
                    dataclasses.asdict(self.augment))
        settings = {**dataclasses.asdict(model), **dataclasses.asdict(self.config),
                    'loss_weights': self.config.weights(len(model.exits)),
                    'head_lr_factor': self.config.head_factor, **others,
                    'preprocessing': dataclasses.asdict(self.preprocessing), 'augment': kind}
        return dict(json.loads(json.dumps(settings)))


@dataclass(frozen=True)
class Examples:
    """What the network is trained and validated on."""

    train: Frames
    validation: Frames | None = None
    order: Order | None = None  # which examples make up each epoch; None: all of them, shuffled


@dataclass(frozen=True)
class Machine:
    """Where the network is trained."""

    device: torch.device
    workers: int = 0  # processes that read or simulate
    processes: Processes = ALONE
    progress: bool = True  # show it in a terminal


@dataclass(frozen=True)
class RunOutput:
    """Where a run is stored: a folder that gets a checkpoint, a state to resume from and logs after every epoch."""

    folder: Path
    class_names: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the caller, that must match to resume
    provenance: Provenance = Provenance()
    use_wandb: bool = False
