"""A network and images small enough to train in a test."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.model import ModelConfig, PreprocessingConfig, ViTTactile
from vit_tactile_ros.training.loop import fit
from vit_tactile_ros.training.run import Examples, Machine, Recipe, RunOutput

CONFIG = ModelConfig(num_classes=3, image_size=(32, 32), width=48, depth=2, exits=(1, 2), feature_map_dim=16)
PREPROCESSING = PreprocessingConfig(image_size=(32, 32), reference='difference', std=(0.1, 0.1, 0.1))
CLASS_NAMES = ('red', 'green', 'blue')


class Colours(Dataset):
    """Frames whose class is the channel that is brighter than in the reference."""

    def __init__(self, size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(size).remainder(3).numpy()
        self.references = torch.randint(80, 120, (size, 32, 32, 3), generator=generator, dtype=torch.uint8)
        self.frames = self.references.clone()
        for i, label in enumerate(self.labels):
            self.frames[i, 8:24, 8:24, int(label)] += 60

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        return self.frames[index], self.references[index], int(self.labels[index])


def make_model(seed: int = 0) -> ViTTactile:
    torch.manual_seed(seed)
    return ViTTactile(CONFIG)


def fit_toy(output, model, frames, validation, config, **others) -> ViTTactile:
    """`fit` on the CPU; `others` are fields of its dataclasses, or its own arguments."""
    def take(*names):
        return {name: others.pop(name) for name in names if name in others}

    recipe = Recipe(PREPROCESSING, config, others.pop('augment', AugmentConfig.simulated()))
    machine = Machine(torch.device('cpu'), progress=False, **take('workers', 'processes'))
    kept = {'class_names': CLASS_NAMES} | take('class_names', 'settings', 'provenance', 'use_wandb')
    return fit(model or make_model(), Examples(frames, validation, **take('order')), recipe, machine,
               output and RunOutput(output, **kept), **others)
