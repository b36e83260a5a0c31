"""Which patches of an image a network computes: those that differ from an untouched gel, and a sparse grid.

The untouched patches of the grid stand for all that are dropped: their weight in attention and in the mean of a head is
the number of patches that they represent (as merged tokens in Bolya et al. 2023, Token merging, section 3.2), so a
network that was trained on all patches hardly changes its predictions. An image keeps one of a few numbers of patches,
so that an engine needs few shapes; the images of a batch that keep the same number run together, and no image depends
on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vit_tactile_ros.model.config import ModelConfig
from vit_tactile_ros.model.early_exit import Stages

GRID_STEP = 3  # patches; the grid shows the light and the shear of the whole gel
_EIGHTHS = (2, 3, 4, 6, 8)  # of all patches: the numbers that an image can keep
# Of the threshold: a smooth change of light up to this is subtracted. With a larger one, all patches are kept.
_LARGEST_SHIFT = 0.75

State = TypeVar('State')


@dataclass(frozen=True)
class Kept:
    """The patches that some images of a batch keep, n of each; on the CPU."""

    patches: Tensor  # (b, n), int64, ascending
    weights: Tensor  # (b, n), float32: how many patches each stands for


@dataclass(frozen=True)
class Group:
    """Images of a batch that keep the same number of patches."""

    rows: Tensor  # (b,), int64, their places in the batch, ascending; on the CPU
    kept: Kept | None = None  # None: all patches

    def split(self, size: int) -> list[Group]:
        """Parts of at most `size` images."""
        if len(self.rows) <= size:
            return [self]
        return [Group(rows, None if self.kept is None else Kept(*(x[first:first + size] for x in (
            self.kept.patches, self.kept.weights)))) for first, rows in zip(
            range(0, len(self.rows), size), self.rows.split(size), strict=True)]

    def images(self, batch: Tensor) -> Tensor:
        """Those of the group; the batch itself if they are all of it."""
        return batch if len(self.rows) == len(batch) else batch[self.rows]


class Tokens(NamedTuple):
    """What some images carry from one stage to the next."""

    values: Tensor  # (b, n, width)
    weights: Tensor | None  # (b, n), how many patches each stands for; None: all patches are there
    logits: Tensor | None = None  # (b, C), of the exit before, where the next one adds its own; otherwise None

    def subset(self, rows: Tensor) -> Tokens:
        weights, logits = (None if part is None else part[rows] for part in (self.weights, self.logits))
        return Tokens(self.values[rows], weights, logits)


def token_counts(patches: int) -> tuple[int, ...]:
    """The numbers of patches that an image can keep, increasing; the last is all of them."""
    return tuple(sorted({-(-patches * eighths // 8) for eighths in _EIGHTHS}))


def touched_images(config: ModelConfig) -> Tensor:
    """Made-up inputs, one for each of `token_counts`, that keep this number of patches; threshold 0: one image."""
    threshold, patch, channels = config.token_threshold, config.patch_size, config.channels
    rows, columns = (side // patch for side in config.image_size)
    counts = token_counts(config.num_patches) if threshold else (config.num_patches,)
    order = np.argsort(~_grid(rows, columns), kind='stable')
    images = torch.zeros(len(counts), rows * columns, channels, patch, patch)
    for image, count in zip(images, counts, strict=True):
        image[order[:count]] = 10 * threshold
    return images.reshape(-1, rows, columns, channels, patch, patch).permute(0, 3, 1, 4, 2, 5).reshape(
        -1, channels, *config.image_size)


def kept_shares(groups: Sequence[Group], config: ModelConfig) -> NDArray[np.float32]:
    """The share of its patches that each image of the batch keeps, (B,), 0 to 1."""
    shares = np.ones(sum(len(group.rows) for group in groups), np.float32)
    for group in groups:
        if group.kept is not None:
            shares[group.rows.numpy()] = group.kept.patches.shape[1] / config.num_patches
    return shares


def choose_tokens(images: Tensor, patch: int, threshold: float) -> list[Group]:
    """Groups of the images, (B, channels, H, W), that keep the same number of patches; all images are in one of them.

    The difference of a patch of `patch` px is the largest mean over a quarter of it, in any channel of the difference
    to the reference, after a smooth change of light was subtracted. An image keeps the patches above `threshold` (units
    of the input), the grid, and the next largest up to the smallest of `token_counts`. Threshold 0: all.
    """
    if not threshold:
        return [Group(torch.arange(len(images)))]
    differences, grid = patch_differences(images, patch, threshold)
    is_touched = differences > threshold
    patches = differences.shape[1]
    counts = np.array(token_counts(patches))
    sizes = counts[np.searchsorted(counts, (is_touched | grid).sum(axis=1))]
    groups = []
    for size in sorted(set(sizes.tolist())):
        rows = np.flatnonzero(sizes == size)
        if size == patches:
            groups.append(Group(torch.from_numpy(rows)))
            continue
        found = np.where(grid, np.float32(np.inf), differences[rows])
        kept = np.sort(np.argpartition(found, patches - size, axis=1)[:, patches - size:], axis=1)
        # If a touch covers the whole grid, all of it stands for the rest.
        untouched = grid & ~is_touched[rows]
        for_others = np.where(untouched.any(axis=1, keepdims=True), untouched, grid)
        weights = 1 + for_others * np.float32(patches - size) / for_others.sum(axis=1, keepdims=True, dtype=np.float32)
        groups.append(Group(torch.from_numpy(rows), Kept(
            torch.from_numpy(kept), torch.from_numpy(np.take_along_axis(weights, kept, axis=1)))))
    return groups


def patch_differences(images: Tensor, patch: int, threshold: float,
                      ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The difference of each patch in units of the input, (B, N), and which patches belong to the grid, (N,)."""
    # In numpy: for one image, these small operations take a third of torch's time.
    cells = F.avg_pool2d(images[:, :3].float(), patch // 2).cpu().numpy()
    batch, _, rows, columns = cells.shape
    limit, middle = _LARGEST_SHIFT * threshold, rows * columns // 2
    shift = np.partition(cells.reshape(batch, 3, -1), middle, axis=2)[:, :, middle].clip(-limit, limit)
    largest = np.abs(cells - shift[:, :, None, None]).max(axis=1)
    differences = largest.reshape(batch, rows // 2, 2, columns // 2, 2).max(axis=(2, 4)).reshape(batch, -1)
    return differences, _grid(rows // 2, columns // 2)


@lru_cache(maxsize=8)
def _grid(rows: int, columns: int) -> NDArray[np.bool_]:
    """Every third patch in both directions, (rows * columns,)."""
    middle = GRID_STEP // 2
    grid = np.zeros((rows, columns), bool)
    grid[min(middle, rows - 1)::GRID_STEP, min(middle, columns - 1)::GRID_STEP] = True
    return grid.ravel()


def take_tokens(embedded: Tensor, groups: Sequence[Group]) -> list[tuple[Tensor, Tokens]]:
    """The rows and tokens of each group from the embedded patches of all images, (B, N, width)."""
    parts = []
    for group in groups:
        x, kept = group.images(embedded), group.kept
        parts.append((group.rows, Tokens(x, None) if kept is None else Tokens(
            x.gather(1, kept.patches.to(x.device).unsqueeze(2).expand(-1, -1, x.shape[2])), kept.weights.to(x))))
    return parts


def run_stages(parts: list[tuple[Tensor, State]], num_stages: int, run: Callable[[int, State], tuple[State, Tensor]],
               subset: Callable[[int, State, Tensor], State]) -> Stages:
    """Yield the logits of each exit of a batch, (rows, C), as `ViTTactile.stages`.

    `parts`: groups of images that run together, with their ascending places in the batch. `run(index, state)` runs a
    stage and gives the state for the next one and the logits; `subset(index, state, rows)` keeps these rows of a state
    for stage `index`.
    """
    for index in range(num_stages):
        outputs = [run(index, state) for _places, state in parts]
        logits = outputs[0][1]
        if len(parts) > 1:
            logits = torch.cat([logits for _state, logits in outputs])[torch.cat([p for p, _ in parts]).argsort()]
        rows = yield logits
        parts = [(places, state) for (places, _before), (state, _logits) in zip(parts, outputs, strict=True)]
        if rows is not None and index + 1 < num_stages:
            parts = [(places, subset(index + 1, state, chosen))
                     for places, state, chosen in _chosen(parts, rows)]


def _chosen(parts: Sequence[tuple[Tensor, State]], rows: Tensor) -> list[tuple[Tensor, State, Tensor]]:
    """The parts that hold any of these rows of the batch: their new places, the state, and its rows to keep."""
    if len(parts) == 1:
        return [(torch.arange(len(rows)), parts[0][1], rows)]
    new = {old: number for number, old in enumerate(rows.tolist())}
    found = []
    for places, state in parts:
        inside = sorted((new[old], number) for number, old in enumerate(places.tolist()) if old in new)
        if inside:
            now, chosen = torch.tensor(inside, device=places.device).unbind(1)
            found.append((now, state, chosen))
    return found
