"""A batch of uint8 images to the input of the network, augmented, on the training device."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vit_tactile_ros.data.augment import Augment, to_input
from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.training.batches import PIECE

# These are not strengths.
_NOT_STRENGTHS = {'flip', 'marker_size'}
_AT_MOST = {'shift': 0.5, 'rotation_deg': 180.0, 'hue_deg': 180.0} | dict.fromkeys(
    ('swap', 'blur', 'markers', 'erase_markers', 'tone'), 1.0)


def strengthened(augment: AugmentConfig, factor: float) -> AugmentConfig:
    """Every variation `factor` times as strong or as frequent, as far as it can be; 1 changes nothing."""
    if factor == 1:
        return augment
    stronger: dict[str, Any] = {}
    for name, value in dataclasses.asdict(augment).items():
        if isinstance(value, (int, float)) and name not in _NOT_STRENGTHS:
            stronger[name] = min(value * factor, _AT_MOST.get(name, math.inf))
    return dataclasses.replace(augment, **stronger)


class Inputs:
    """Augmentation that is a function of the seed, the epoch, the step and the row, in every process.

    On a GPU, which small pieces would not use fully, it also depends on the rows that are augmented together: a run is
    repeated exactly only with the same number of processes.
    """

    def __init__(self, augment: AugmentConfig, preprocessing: PreprocessingConfig, device: torch.device,
                 seed: int) -> None:
        self.augment = Augment(augment).to(device)
        self.preprocessing = preprocessing
        self.device = device
        self.seed = seed
        self._generator = torch.Generator(device)
        # Random numbers that decide shapes are drawn on the host, which needs them.
        self._luck = self._generator if device.type == 'cpu' else torch.Generator()

    @torch.no_grad()
    def __call__(self, frames: Tensor, references: Tensor, epoch: int, step: int, first_row: int) -> Tensor:
        """The rows from `first_row` (a multiple of `PIECE`) on of the batch of a step, uint8 (B, h, w, 3) each
        (frames with motion (B, h, w, 6) or more), to the input, float32 (B, channels, h, w).
        """
        frames = frames.to(self.device, non_blocking=True)
        references = references.to(self.device, non_blocking=True)
        pieces = []
        piece = PIECE if self.device.type == 'cpu' else len(frames)
        for start in range(0, len(frames), piece):
            entropy = np.random.SeedSequence((self.seed, epoch, step, first_row + start))
            seed = int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
            self._generator.manual_seed(seed)
            self._luck.manual_seed(seed)
            rows = slice(start, start + piece)
            frame, reference = self.augment(frames[rows], references[rows], self._generator, self._luck)
            pieces.append(to_input(frame, reference, self.preprocessing))
        return torch.cat(pieces)
