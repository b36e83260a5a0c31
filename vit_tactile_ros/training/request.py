"""All settings of a run of `train`, which other commands print as a command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vit_tactile_ros.data.augment_config import Augmentation
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.model import ModelConfig
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.datasets import TrainingSource
from vit_tactile_ros.training.initialise import Start


@dataclass(frozen=True)
class TrainingRequest:
    """What is trained, from what, on what and where; raises UserError naming the field that is wrong."""

    output: Path | None = None  # None: a folder named after the time
    config: TrainingConfig = TrainingConfig()
    augmentation: Augmentation = Augmentation()
    start: Start = Start()
    evaluate: bool = False
    device: str = 'auto'
    workers: int = 1
    use_wandb: bool = False
    data: TrainingSource = TrainingSource()

    def __post_init__(self) -> None:
        check_least(self, workers=0)
        check_start(self.config, self.start)
        if not self.start.init:  # otherwise the checkpoint determines the number of exits
            self.config.weights(len(self.start.exits or ModelConfig().exits))


def check_start(config: TrainingConfig, start: Start) -> None:
    """Raises UserError for blocks that would be frozen without weights."""
    if config.freeze > 0 and not start.init:
        raise UserError(f'freeze is {config.freeze}, which would keep random weights; give --init')
