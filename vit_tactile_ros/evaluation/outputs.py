"""The logits of every exit over a dataset, from one forward pass, and the decisions at any threshold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.model import (
    ModelConfig,
    PreprocessingConfig,
    ViTTactile,
    compute_shares,
    exit_probabilities,
    exit_score,
    thresholds,
)


@dataclass(frozen=True)
class ExitOutputs:
    """The logits of E exits for N labelled samples of C classes."""

    logits: NDArray[np.float32]  # (E, N, C)
    labels: NDArray[np.int64]  # (N,), 0..C-1
    class_names: tuple[str, ...]
    exits: tuple[int, ...]  # 1-based block that each exit follows
    compute_shares: tuple[float, ...]  # multiply-adds up to each exit over those of the full depth, on all patches

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_exits(self) -> int:
        return len(self.exits)

    def probabilities(self, temperatures: Sequence[float] = ()) -> NDArray[np.float32]:
        """Of each exit, (E, N, C); without temperatures, they are 1."""
        return np.stack([exit_probabilities(torch.from_numpy(logits), temperature).numpy() for logits, temperature
                         in zip(self.logits, temperatures or (1.0,) * self.num_exits, strict=True)])

    def scores(self, temperatures: Sequence[float] = ()) -> NDArray[np.float32]:
        """What each exit compares with tau, (E, N)."""
        return exit_score(self.probabilities(temperatures))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each exit's prediction is correct, (E, N)."""
        right: NDArray[np.bool_] = self.logits.argmax(axis=2) == self.labels
        return right

    def decide(self, tau: float | Sequence[float], temperatures: Sequence[float] = (),
               ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Exit index, class and confidence at the exit that is used, (N,) each, as `model.early_exit` decides."""
        probabilities = self.probabilities(temperatures)
        chosen = choose_exits(exit_score(probabilities), thresholds(tau, self.num_exits))
        at_exit = probabilities[chosen, np.arange(len(self))]
        return chosen, at_exit.argmax(axis=1), at_exit.max(axis=1)

    def spent(self, exit_index: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
        """The rate of each exit, (E,), and the mean compute share, for exits `exit_index`, (N,)."""
        rates = np.bincount(exit_index, minlength=self.num_exits) / len(exit_index)
        return rates, float(rates @ np.asarray(self.compute_shares))

    def subset(self, indices: NDArray[Any]) -> ExitOutputs:
        return replace(self, logits=self.logits[:, indices], labels=self.labels[indices])


def choose_exits(scores: NDArray[np.float32], tau: Sequence[float]) -> NDArray[np.int64]:
    """The first exit whose score, (E, N), reaches its threshold, (N,); `tau` has one value per early exit."""
    limits = np.asarray([*tau, 0.0], np.float32)[:, None]  # float32, as torch compares; the last exit has no threshold
    exits = (scores >= limits) & (np.asarray([*tau, 0.0])[:, None] < 1.0)
    return exits.argmax(axis=0)


class Inputs(Dataset[tuple[Tensor, int]]):
    """The network's inputs of a dataset of frames, computed where the frames are read (in the workers)."""

    def __init__(self, frames: Frames, preprocessing: PreprocessingConfig) -> None:
        self.frames = frames
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.frames)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, reference, label = self.frames[index]
        frame, previous = np.asarray(images[..., :3]), np.asarray(images[..., 3:])
        inputs = normalise(frame, np.asarray(reference), self.preprocessing, previous=previous)
        return torch.from_numpy(inputs), int(label)


def inputs_of(frames: Frames, preprocessing: PreprocessingConfig, indices: Sequence[int]) -> NDArray[np.float32]:
    """The network's inputs of some frames, float32 (len(indices), channels, h, w)."""
    inputs = Inputs(frames, preprocessing)
    return np.stack([inputs[i][0].numpy() for i in indices])


def collect_outputs(model: ViTTactile, frames: Frames, preprocessing: PreprocessingConfig,
                    device: torch.device | str = 'cpu', batch_size: int = 64, progress: str = '', *,
                    class_names: Sequence[str] = (), workers: int = 0) -> ExitOutputs:
    """One forward pass of every frame (uint8 frame, reference, label) through all exits, in float32.

    The model is in eval mode meanwhile. `progress` is the title of a progress bar; '' shows none. Without
    `class_names`, classes are named by their number.
    Raises ValueError for an empty dataset or a label that is not a class, UserError for logits that are not finite.
    """
    inputs = Inputs(frames, preprocessing)
    was_training, on = model.training, next(model.parameters()).device
    model.eval().to(device)
    try:
        return outputs_of([lambda images: model.stages(images.to(device))], inputs, model.config, batch_size, progress,
                          class_names=class_names, workers=workers)[0]
    finally:
        model.train(was_training).to(on)


@torch.inference_mode()
def outputs_of(networks: Sequence[Callable[[Tensor], Iterable[Tensor]]], inputs: Dataset[tuple[Tensor, int]],
               config: ModelConfig, batch_size: int, progress: str = '', *, class_names: Sequence[str] = (),
               workers: int = 0) -> list[ExitOutputs]:
    """The outputs of several networks of one architecture; every input is read once.

    A network maps images (B, channels, h, w) on the CPU to the logits of its exits, (B, C) each. Otherwise as
    `collect_outputs`.
    """
    class_names = class_names or [str(i) for i in range(config.num_classes)]
    loader = DataLoader(inputs, batch_size, num_workers=workers)
    if not len(loader):
        raise ValueError('no image to evaluate; give at least one')
    logits: list[list[Tensor]] = [[] for _ in networks]
    labels: list[Tensor] = []
    for images, batch_labels in tqdm(loader, desc=progress, unit='batch', leave=False, file=sys.stderr,
                                     disable=not progress or not sys.stderr.isatty()):
        for network, batches in zip(networks, logits, strict=True):
            batches.append(torch.stack(list(network(images))).float().cpu())
        labels.append(batch_labels)
    known = torch.cat(labels).numpy().astype(np.int64)
    if known.min() < 0 or known.max() >= len(class_names):
        raise ValueError(f'labels are {known.min()} to {known.max()}; must be 0 to {len(class_names) - 1}, the classes '
                         'of the checkpoint')
    all_logits = [torch.cat(batches, dim=1).numpy() for batches in logits]
    if not all(np.isfinite(one).all() for one in all_logits):
        raise UserError('the logits of the network are not finite: the checkpoint is unusable; train again')
    return [ExitOutputs(one, known, tuple(class_names), config.exits, compute_shares(config)) for one in all_logits]
