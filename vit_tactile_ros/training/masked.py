"""Learning without labels: some patches of a touch are shown, and every exit predicts the pixels of the hidden ones.

Masked autoencoding (He et al. 2022) of the difference to the reference: the hidden patches are dropped before the first
block, so a step costs about a third of one with labels, and a small decoder after each exit draws all patches from the
tokens that are left. Only hidden patches that are touched count, since the others equal the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.foundation.command_flags import flag
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import ModelConfig, PreprocessingConfig, ViTTactile, token_threshold
from vit_tactile_ros.model.tokens import patch_differences
from vit_tactile_ros.model.vit import Block, Stage, initialise, position_embedding
from vit_tactile_ros.training.inputs import Inputs
from vit_tactile_ros.training.objective import Place
from vit_tactile_ros.training.unlabelled_network import with_classifiers

FLOOR = 2.0  # grey levels: a patch with less contrast is not scaled up to that of the others, since it shows noise
VALIDATION_BATCH = 64


@dataclass(frozen=True)
class Masking:
    """Which patches are hidden and which of them are predicted; raises UserError naming the field that is wrong."""

    hidden: float = flag(0.75, 'share of the patches that is hidden, above 0 and below 1', 'SHARE')
    touched: float = flag(4.0, 'only patches that differ from the reference by more than this many grey levels are '
                               'predicted, and only images with at least three of them are used, 0 to 127', 'LEVELS')

    def __post_init__(self) -> None:
        if not 0 < self.hidden < 1:
            raise UserError(f'hidden is {self.hidden}; must be above 0 and below 1: with 0 nothing is predicted, with '
                            '1 nothing is shown')
        if not 0 <= self.touched < 128:
            raise UserError(f'touched is {self.touched}; must be 0 to 127 grey levels')

    def shown(self, patches: int) -> int:
        """How many of the patches of an image are shown; raises UserError if that would be none or all."""
        count = round((1 - self.hidden) * patches)
        if not 0 < count < patches:
            raise UserError(f'hidden is {self.hidden}, which shows {count} of the {patches} patches of an image; must '
                            f'be from {0.5 / patches:.3f} to {1 - 0.5 / patches:.3f} to show some and hide some')
        return count


class Decoder(nn.Module):
    """Draws all patches of an image from the tokens of some of them, by one block of half the width.

    x: (B, n, width); shown: (B, n), int64, which patches these are (None: all). Returns (B, N, pixels of a patch).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = -(-config.width // 8) * 4  # about half, a multiple of 4 for the position embedding
        self.grid = (config.image_size[0] // config.patch_size, config.image_size[1] // config.patch_size)
        self.norm = nn.LayerNorm(config.width)
        self.narrow = nn.Linear(config.width, width)
        self.hidden = nn.Parameter(torch.zeros(width))
        self.position: Tensor
        self.register_buffer('position', position_embedding(*self.grid, width), persistent=False)
        self.block = Block(dataclasses.replace(config, width=width, heads=1, stem='patch'))
        self.last_norm = nn.LayerNorm(width)
        self.draw = nn.Linear(width, config.channels * config.patch_size**2)

    def forward(self, x: Tensor, shown: Tensor | None = None) -> Tensor:
        x = self.narrow(self.norm(x))
        if shown is not None:
            everything = self.hidden.to(x).expand(len(x), self.grid[0] * self.grid[1], -1)
            x = everything.scatter(1, shown.unsqueeze(2).expand(-1, -1, x.shape[2]), x)
        return cast(Tensor, self.draw(self.last_norm(self.block(x + self.position))))


class MaskedViT(ViTTactile):
    """The network with a `Decoder` in the place of each classifier."""

    def __init__(self, config: ModelConfig) -> None:
        """Raises UserError for patches that would be dropped by their difference: here they are by chance."""
        if config.token_threshold:
            raise UserError('token_threshold must be 0 to pre-train: patches are hidden at random')
        super().__init__(config)
        for stage in self.stage_modules:
            stage.head = Decoder(config).apply(initialise)

    def reconstruct(self, images: Tensor, shown: Tensor) -> list[Tensor]:
        """What each exit draws, (B, N, pixels of a patch) each.

        images: as for `stages`; shown: (B, n), int64, ascending, the patches that the network sees.
        """
        x = self.embed(without_hidden(images, shown, self.config.patch_size))
        x = x.gather(1, shown.unsqueeze(2).expand(-1, -1, x.shape[2]))
        drawn = []
        for stage in self.stage_modules:
            x = cast(Stage, stage).blocks(x)
            drawn.append(cast(Stage, stage).head(x, shown))
        return drawn


def without_hidden(images: Tensor, shown: Tensor, patch: int) -> Tensor:
    """The images, (B, C, H, W), with 0 (as untouched) in the patches not `shown`: the stem sees across their edges."""
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    kept = images.new_zeros(len(images), rows * columns).scatter(1, shown, 1.0).view(-1, 1, rows, 1, columns, 1)
    split = images.view(*images.shape[:2], rows, patch, columns, patch)
    return (split * kept).view_as(images)


def draw_shown(patches: int, count: int, seed: int, place: Place, rows: int) -> Tensor:
    """For each of the rows of a batch from `place.first_row` on, `count` of the patches, (rows, count), ascending."""
    chosen = [np.random.default_rng((seed, place.epoch, place.step, place.first_row + row)).permutation(patches)[:count]
              for row in range(rows)]
    return torch.from_numpy(np.sort(np.array(chosen, np.int64).reshape(rows, count), axis=1))


def targets(images: Tensor, patch: int, floor: float) -> Tensor:
    """The pixels of each patch, (B, N, C * patch * patch), without their mean, over their standard deviation.

    floor: a standard deviation, in units of the images, that is added (by squares), so that flat patches stay small.
    """
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    split = images.view(*images.shape[:2], rows, patch, columns, patch)
    pixels = split.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)
    pixels = pixels - pixels.mean(dim=2, keepdim=True)
    return pixels / (pixels.square().mean(dim=2, keepdim=True) + floor**2).sqrt()


class Drawn(NamedTuple):
    """What the exits draw, what is right, and which patches count."""

    predicted: list[Tensor]  # (B, N, P) for each exit
    wanted: Tensor  # (B, N, P)
    counts: Tensor  # (B, N), float32: 1 for hidden patches that are touched, otherwise 0

    def errors(self) -> Tensor:
        """Mean squared error over the patches that count of each image, (E, B); 0 for an image without any."""
        return torch.stack([self._mean((drawn.float() - self.wanted).square().mean(dim=2)) for drawn in self.predicted])

    def powers(self) -> Tensor:
        """What `errors` would be if 0 was drawn, (B,)."""
        return self._mean(self.wanted.square().mean(dim=2))

    def _mean(self, values: Tensor) -> Tensor:
        return (values * self.counts).sum(dim=1) / self.counts.sum(dim=1).clamp_(min=1)


class MaskedPatches:
    """The objective: hidden patches, from those that are shown."""

    def __init__(self, masking: Masking, config: ModelConfig, preprocessing: PreprocessingConfig, seed: int) -> None:
        """Raises UserError where all or no patches would be shown."""
        self.seed = seed
        self.patch, self.patches = config.patch_size, config.num_patches
        self.count = masking.shown(config.num_patches)
        self.threshold = token_threshold(masking.touched, preprocessing)
        self.floor = FLOOR / 255 / max(preprocessing.std)

    def outputs(self, model: ViTTactile, average: ViTTactile, inputs: Tensor, place: Place) -> Drawn:
        shown = draw_shown(self.patches, self.count, self.seed, place, len(inputs)).to(inputs.device)
        differences, _grid = patch_differences(inputs, self.patch, self.threshold)
        counts = torch.from_numpy(differences > self.threshold).to(inputs.device, torch.float32).scatter(1, shown, 0.0)
        return Drawn(cast(MaskedViT, model).reconstruct(inputs, shown), targets(inputs, self.patch, self.floor), counts)

    def losses(self, outputs: Drawn, labels: Tensor) -> Tensor:
        return outputs.errors().mean(dim=1)

    @torch.no_grad()
    def validate(self, average: ViTTactile, frames: Frames, preprocessing: PreprocessingConfig, device: torch.device,
                 progress: str) -> dict[str, float]:
        """The share of the hidden pixels' power that each exit explains: 1 is all, 0 is as good as drawing nothing."""
        inputs = Inputs(AugmentConfig.none(), preprocessing, device, self.seed)
        errors = torch.zeros(len(average.config.exits), device=device)
        power = torch.zeros((), device=device)
        for step, (pictures, references, _) in enumerate(_batches(frames, progress)):
            place = Place(0, step, 0)
            drawn = self.outputs(average, average, inputs(pictures, references, *place), place)
            errors += drawn.errors().sum(dim=1)
            power += drawn.powers().sum()
        explained = (1 - errors / power.clamp_(min=1e-9)).tolist()
        return {f'explained_block_{block}': share for block, share in zip(average.config.exits, explained, strict=True)}

    def told(self, metrics: dict[str, float], exits: tuple[int, ...]) -> str:
        return 'explained of hidden patches ' + ', '.join(
            f'block {b} {metrics[f"explained_block_{b}"]:.3f}' for b in exits)

    def result(self, average: ViTTactile) -> ViTTactile:
        return with_classifiers(average)


def _batches(frames: Frames, progress: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    yield from tqdm(DataLoader(frames, VALIDATION_BATCH), desc=progress, leave=False, mininterval=1.0,
                    disable=None if progress else True)
