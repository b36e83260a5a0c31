"""What a method sees of a touch: hand-made features, small pixels, or the pooled tokens of a frozen checkpoint.

Each works on pairs of a fitted image and the image that is subtracted from it, so a control only replaces these images.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vit_tactile_ros.data.controls import BorderOnly, references_as_images
from vit_tactile_ros.data.frames import Frames, TouchFrames
from vit_tactile_ros.data.table import Source, Touch, TouchTable
from vit_tactile_ros.evaluation.cache import fingerprint
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference.arrays import read_arrays
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.model import Checkpoint, PreprocessingConfig
from vit_tactile_ros.model.vit import Stage

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
# What a method is shown: the touch, or a control, which does not show it.
TOUCH, BORDER, REFERENCE = 'touch', 'border', 'reference'
BORDER_SHARE = 0.15  # of height and width
GREY = 128  # what is subtracted from a reference that is shown as the image
BATCH = 32
OCTAVES = 6


@dataclass(frozen=True)
class Features:
    """A way to describe pairs of images: one vector per pair for each of the `names`."""

    names: tuple[str, ...]
    key: str  # identifies the computation
    preprocessing: PreprocessingConfig
    compute: Callable[[Sequence[Image], Sequence[Image]], list[Floats]]  # images, subtracted ones -> (N, D) per name


def handmade() -> Features:
    """Histograms of oriented gradients (HOG), and the energy of each octave."""
    hog = cv2.HOGDescriptor((64, 48), (32, 32), (16, 16), (16, 16), 9)

    def compute(images: Sequence[Image], references: Sequence[Image]) -> list[Floats]:
        return [np.stack([_handmade(hog, i.astype(np.float32) - r) for i, r in zip(images, references, strict=True)])]

    # Video compression leaves little finer than this.
    return Features(('handmade',), 'handmade 1', PreprocessingConfig(image_size=(240, 320), reference='difference'),
                    compute)


def _handmade(hog: cv2.HOGDescriptor, difference: Floats) -> Floats:
    grey = cv2.cvtColor(difference, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(np.clip(128 + 2 * grey, 0, 255).astype(np.uint8), (64, 48), interpolation=cv2.INTER_AREA)
    parts = [np.asarray(hog.compute(small), np.float32).ravel()]
    low = difference
    for _ in range(OCTAVES):
        lower = cv2.pyrDown(low)
        band = low - cv2.pyrUp(lower, dstsize=(low.shape[1], low.shape[0]))
        energy = np.maximum(cv2.resize(band * band, (4, 3), interpolation=cv2.INTER_AREA), 0)
        parts += [np.sqrt(energy).ravel(), np.sqrt(energy.mean(axis=(0, 1))), np.abs(band).max(axis=(0, 1))]
        low = lower
    return np.concatenate([*parts, low.ravel()])


def pixels() -> Features:
    def compute(images: Sequence[Image], references: Sequence[Image]) -> list[Floats]:
        return [np.stack([(i.astype(np.float32) - r).ravel() for i, r in zip(images, references, strict=True)])]

    return Features(('pixels',), 'pixels 1', PreprocessingConfig(image_size=(30, 40), reference='difference'), compute)


def pooled(checkpoint: Checkpoint, name: str = 'checkpoint') -> Features:
    """Mean, deviation and maximum over the tokens at each exit of the frozen network, called `name`."""
    model, own = checkpoint.model.eval(), checkpoint.preprocessing

    @torch.inference_mode()
    def compute(images: Sequence[Image], references: Sequence[Image]) -> list[Floats]:
        x: Tensor = model.embed(torch.from_numpy(np.stack([
            normalise(i, r, own) for i, r in zip(images, references, strict=True)])))
        found = []
        for stage in model.stage_modules:
            x, _ = stage(x)
            tokens = cast(Stage, stage).head.norm(x)
            found.append(torch.cat((tokens.mean(dim=1), tokens.std(dim=1), tokens.amax(dim=1)), dim=1).numpy())
        return found

    return Features(tuple(f'{name}, block {block}' for block in model.config.exits),
                    f'pooled 1 {fingerprint(checkpoint)}', replace(own, reference='difference'), compute)


class Descriptions:
    """The vectors of touches, computed once; kept in the folder `cache` if that is given."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self._known: dict[tuple[str, str], dict[str, list[Floats]]] = {}

    def of(self, features: Features, table: TouchTable, control: str) -> list[Floats]:
        """(N, D) for each of the names of the features, in the order of the table.

        control: 'touch', or what is shown instead of it: 'border', 'reference'. Raises like the reading of the images,
        and DataError for a touch without a reference.
        """
        preprocessing = features.preprocessing
        if control == REFERENCE:
            table, preprocessing = references_as_images(table), replace(
                preprocessing, reference='none', zoom_below=0.0)
        pairs = [_pair(touch) for touch in table.touches]
        key = (features.key, control)
        if key not in self._known:
            self._known[key] = self._read(key)
        known = self._known[key]
        first = {pair: row for row, pair in reversed(list(enumerate(pairs))) if pair not in known}
        if first:
            rows = sorted(first.values())
            frames: Frames = TouchFrames(table.subset(rows), preprocessing, cache=False)
            if control == BORDER:
                frames = BorderOnly(frames, BORDER_SHARE)
            found = _computed(features, frames, len(rows), control)
            known.update({pairs[row]: [array[i] for array in found] for i, row in enumerate(rows)})
            self._write(key, known)
        return [np.stack([known[pair][name] for pair in pairs]) for name in range(len(features.names))]

    def _path(self, key: tuple[str, str]) -> Path | None:
        return self.cache and self.cache / f'features-{hashlib.sha256(" ".join(key).encode()).hexdigest()[:20]}.npz'

    def _read(self, key: tuple[str, str]) -> dict[str, list[Floats]]:
        path = self._path(key)
        if path and path.is_file():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # damaged: they are computed again
                kept = read_arrays(path)
                arrays = [kept[f'a{i}'] for i in range(len(kept) - 1)]
                return {str(pair): [array[row] for array in arrays] for row, pair in enumerate(kept['pairs'])}
        return {}

    def _write(self, key: tuple[str, str], known: dict[str, list[Floats]]) -> None:
        if path := self._path(key):
            arrays = {f'a{i}': np.stack(column) for i, column in enumerate(zip(*known.values(), strict=True))}
            with written_whole(path, sync=False) as temporary:
                np.savez(temporary, allow_pickle=False, pairs=np.array(list(known)), **arrays)


def _computed(features: Features, frames: Frames, count: int, control: str) -> list[Floats]:
    batches = []
    for start in tqdm(range(0, count, BATCH), desc=f'{features.names[0].split(",")[0]}, {control}', unit='batch',
                      leave=False, file=sys.stderr, disable=not sys.stderr.isatty()):
        shown = [frames[i] for i in range(start, min(start + BATCH, count))]
        images = [np.asarray(frame) for frame, _, _ in shown]
        subtracted = [np.full_like(image, GREY) for image in images] if control == REFERENCE else [
            np.asarray(reference) for _, reference, _ in shown]
        batches.append(features.compute(images, subtracted))
    return [np.concatenate(column) for column in zip(*batches, strict=True)]


def _pair(touch: Touch) -> str:
    return ' '.join(_identity(source) for source in (touch.image, touch.reference) if source)


def _identity(source: Source) -> str:
    stat = source.path.stat()
    return f'{source} {stat.st_size} {stat.st_mtime_ns}'
