"""Simulated touches as a torch dataset: an example is a function of the seed and its index, in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import SensorConfig, sample_example, sample_state_example


def sensor_key(config: SensorConfig) -> str:
    """A name of a sensor that changes with its properties."""
    return f'{config.name} {hashlib.sha256(repr(config).encode()).hexdigest()[:12]}'


class SimulatedTouches(Dataset[tuple[Tensor, Tensor, int]]):
    """`size` examples (frame, reference, label): uint8 (h, w, 3), fitted, twice, and the class index.

    Classes are `simulator.CLASS_NAMES`. The reference is zeros if the preprocessing does not use one, as
    in `frames.TouchFrames`. `sensors` are those that touches are drawn from; default: all of the package.
    """

    def __init__(self, size: int, preprocessing: PreprocessingConfig, seed: int = 0,
                 sensors: Sequence[SensorConfig] | None = None) -> None:
        if size < 1:
            raise ValueError(f'size is {size}; must be at least 1')
        if sensors is not None and not sensors:
            raise ValueError('sensors is empty; name at least one, or none for all of the package')
        self.size = size
        self.preprocessing = preprocessing
        self.seed = seed
        self.sensors = sensors

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < self.size:
            raise IndexError(f'index is {index}; must be 0 to {self.size - 1}')
        cv2.setNumThreads(1)
        image, reference, class_id = sample_example(np.random.default_rng((self.seed, index)), sensors=self.sensors)
        frame = torch.from_numpy(fit(image, self.preprocessing))
        if self.preprocessing.reference == 'none':
            return frame, torch.zeros_like(frame), class_id
        return frame, torch.from_numpy(fit(reference, self.preprocessing)), class_id


class SimulatedStates(SimulatedTouches):
    """`size` examples (frame, reference, state) as of SimulatedTouches; the frame is (h, w, 6): it and the one before.

    States are `simulator.STATE_NAMES`; the frame before is interval_s older.
    """

    def __init__(self, size: int, preprocessing: PreprocessingConfig, seed: int = 0,
                 sensors: Sequence[SensorConfig] | None = None, interval_s: float = 0.08) -> None:
        super().__init__(size, preprocessing, seed, sensors)
        self.interval_s = interval_s

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < self.size:
            raise IndexError(f'index is {index}; must be 0 to {self.size - 1}')
        cv2.setNumThreads(1)
        *images, state_id = sample_state_example(np.random.default_rng((self.seed, index)), self.interval_s,
                                                 sensors=self.sensors)
        frame, previous, reference = (torch.from_numpy(fit(image, self.preprocessing)) for image in images)
        if self.preprocessing.reference == 'none':
            reference = torch.zeros_like(frame)
        return torch.cat((frame, previous), dim=2), reference, state_id
