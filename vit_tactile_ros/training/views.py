"""Learning without labels: two views of one touch have the same description, those of other touches another one.

Contrastive learning (Chen et al. 2020) of the mean token at every exit. A view is an image of the touch with its own
variation, so the description has to ignore what `--augment` varies: lights, markers, noise, place.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import ModelConfig, PreprocessingConfig, ViTTactile
from vit_tactile_ros.model.vit import initialise
from vit_tactile_ros.training.batches import Order
from vit_tactile_ros.training.inputs import Inputs

TEMPERATURE = 0.1  # of the similarities: that of Chen et al. for small batches
SIZE = 64  # numbers of a description
VALIDATION_BATCH = 64


class Projector(nn.Module):
    """The description of a touch: a small network on the mean token, (B, n, width) -> (B, SIZE), of length 1.

    weights: (B, n), how many patches each token stands for; None: one each.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU(), nn.Linear(config.width, SIZE))

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        mean = x.mean(dim=1) if weights is None else (
            (weights.unsqueeze(1) @ x).squeeze(1) / weights.sum(dim=1, keepdim=True))
        return F.normalize(self.project(mean).float(), dim=1)


class DescribingViT(ViTTactile):
    """The network with a `Projector` in the place of each classifier."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        for stage in self.stage_modules:
            stage.head = Projector(config).apply(initialise)


class TwoViews:
    """The objective. The rows 2k and 2k + 1 of a batch are two images of one touch, as `pairs` orders them."""

    def __init__(self, augment: AugmentConfig, batch_size: int, seed: int) -> None:
        """Raises UserError for a batch without pairs, or with one, which has nothing to differ from."""
        if batch_size % 2 or batch_size < 4:
            raise UserError(f'batch_size is {batch_size}; must be even and at least 4: each touch has two rows')
        self.augment, self.seed = augment, seed

    def outputs(self, model: ViTTactile, average: ViTTactile, inputs: Tensor) -> list[Tensor]:
        return list(model.stages(inputs))

    def losses(self, outputs: list[Tensor], labels: Tensor) -> Tensor:
        return torch.stack([contrast(descriptions, labels) for descriptions in outputs])

    @torch.no_grad()
    def validate(self, average: ViTTactile, frames: Frames, preprocessing: PreprocessingConfig, device: torch.device,
                 progress: str) -> dict[str, float]:
        """The share of images whose most similar view, among up to 64 of other recordings, is their own second one."""
        inputs = Inputs(self.augment, preprocessing, device, self.seed)
        found = torch.zeros(len(average.config.exits))
        count = 0
        for step, (pictures, references, labels) in enumerate(tqdm(
                DataLoader(frames, VALIDATION_BATCH), desc=progress, leave=False, mininterval=1.0,
                disable=None if progress else True)):
            first, second = (list(average.stages(inputs(pictures, references, half, step, 0))) for half in (0, 1))
            allowed = (labels[:, None] != labels) | torch.eye(len(labels), dtype=torch.bool)
            for exit_index, (one, other) in enumerate(zip(first, second, strict=True)):
                similar = (one @ other.T).cpu().masked_fill(~allowed, -2.0)
                found[exit_index] += (similar.argmax(dim=1) == torch.arange(len(labels))).sum()
            count += len(labels)
        return {f'found_block_{block}': share for block, share in zip(
            average.config.exits, (found / max(count, 1)).tolist(), strict=True)}

    def told(self, metrics: dict[str, float], exits: tuple[int, ...]) -> str:
        return 'second view found ' + ', '.join(f'block {b} {metrics[f"found_block_{b}"]:.3f}' for b in exits)

    def result(self, average: ViTTactile) -> ViTTactile:
        """The trunk, and classifiers of zeros with their norms, in eval mode.

        The weights are not copied, and no random numbers are drawn, so that a resumed run stays the same.
        """
        network = ViTTactile.without_weights(average.config)
        ours = average.state_dict()
        network.take_weights({name: ours[name] if name in ours else torch.zeros(tensor.shape)
                              for name, tensor in network.state_dict().items()})
        return network.eval()


def contrast(descriptions: Tensor, recordings: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy of finding the other row of a pair among those of other recordings.

    descriptions: (B, D) of length 1, rows 2k and 2k + 1 a pair; recordings: (B,), whose other rows do not count, since
    they may show the same touch.
    """
    similar = descriptions @ descriptions.T / TEMPERATURE
    rows = torch.arange(len(similar), device=similar.device)
    partner = rows ^ 1
    same = recordings[:, None] == recordings
    same[rows, partner] = False
    return F.cross_entropy(similar.masked_fill(same, -torch.inf), partner)


def pairs(order: Order, groups: NDArray[np.int64], reach: int, seed: int) -> Order:
    """Every second example of `order`, followed by another of the same recording at most `reach` images away.

    groups: (N,), the recordings of all examples, which follow one another; reach 0: the same image twice.
    """
    def paired(epoch: int) -> NDArray[np.int64]:
        first = order(epoch)
        first = first[:len(first) // 2]
        rng = np.random.default_rng((seed, epoch, 2))
        second = np.clip(first + rng.integers(-reach, reach + 1, len(first)), 0, len(groups) - 1)
        second = np.where(groups[second] == groups[first], second, first)
        return np.stack((first, second), axis=1).ravel()

    return paired

