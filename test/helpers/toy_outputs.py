"""Toy exits with known statistics, and a tiny network with toy touches."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from vit_tactile_ros.evaluation.outputs import ExitOutputs
from vit_tactile_ros.model import Checkpoint, ModelConfig, PreprocessingConfig, ViTTactile

NAMES = ('nothing', 'ball', 'edge', 'weave')


def toy_outputs(size: int = 2000, seed: int = 0, scale: float = 1.0) -> ExitOutputs:
    """Three exits with the same evidence and decreasing noise; the logits are calibrated logits times `scale`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size)
    evidence, logits = np.zeros((size, 4)), []
    for strength in (1.2, 1.5, 1.6):  # independent looks add up, and the sum of log-likelihoods is calibrated
        look = strength * np.eye(4)[labels] * strength + strength * rng.normal(size=(size, 4))
        evidence = evidence + look
        logits.append(evidence)
    return ExitOutputs((scale * np.array(logits)).astype(np.float32), labels, NAMES, (1, 2, 3), (0.34, 0.67, 1.0))


def toy_checkpoint(exits: tuple[int, ...] = (1, 2, 3), names: tuple[str, ...] = NAMES,
                   motion: float = 0.0, views: int = 1, **calibration) -> Checkpoint:
    preprocessing = PreprocessingConfig(image_size=(32, 32), reference='difference', motion_interval=motion,
                                        motion_views=views)
    torch.manual_seed(0)
    config = ModelConfig(num_classes=len(names), image_size=(32, 32), width=48, depth=exits[-1], exits=exits,
                         feature_map_dim=16, channels=preprocessing.channels)
    model = ViTTactile(config).eval()
    for stage in model.stage_modules:
        torch.nn.init.normal_(stage.head.classify.weight, std=0.6)  # answers that differ
    return Checkpoint(model, preprocessing, names, **calibration)


class ToyFrames(Dataset):
    """Noise images; most labels are the predictions of a network's last exit."""

    def __init__(self, size: int = 40, classes: int = len(NAMES)) -> None:
        rng = np.random.default_rng(3)
        self.images = torch.from_numpy(rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8))
        self.labels = rng.integers(0, classes, size)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        self.reads += 1
        return self.images[index], torch.full((32, 32, 3), 100, dtype=torch.uint8), int(self.labels[index])
