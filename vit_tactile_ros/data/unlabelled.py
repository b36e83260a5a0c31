"""Touched images of recordings without labels, with the reference of each recording, as a torch dataset."""

from __future__ import annotations

import hashlib
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from vit_tactile_ros.data.augment import to_input
from vit_tactile_ros.data.bags.find import is_recording, natural
from vit_tactile_ros.data.folders import IMAGE_SUFFIXES, is_picture, reference_in
from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.data.pixel_file import PixelFile
from vit_tactile_ros.data.recorded_images import recorded_images, recorded_topic
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.video import VIDEOS
from vit_tactile_ros.foundation.words import counted
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.model import PreprocessingConfig, token_threshold
from vit_tactile_ros.model.tokens import patch_differences

Image = NDArray[np.uint8]
Example = tuple[Tensor, Tensor, int]
LEAST_TOUCHED = 3  # patches of an image that is used
CELL = 16  # px of the input: the patches in which a touch is looked for
BATCH = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recordings:
    """What is read of which recordings."""

    paths: tuple[Path, ...]
    touched: float  # grey levels
    every: int = 5  # images
    topic: str = ''  # of bags with several sensors
    reference_image: Path | None = None


class RecordedTouches(Dataset[Example]):
    """Touched images as (frame, reference, number of the recording), in a temporary file.

    Images are uint8 (h, w, 3), fitted by `preprocess.fit`; `groups` has the numbers.
    The file is removed with the dataset; TMPDIR sets its folder.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """size: (h, w) of the images in px. `add` adds images."""
        self._pixels = PixelFile('recorded_touches_', size)
        self._digest = hashlib.sha256()
        self._images: list[int] = []  # rows
        self._references: list[int] = []
        self._groups: list[int] = []

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; must be 0 to {len(self) - 1}')
        frame, reference = (torch.from_numpy(self._pixels[rows[index]])
                            for rows in (self._images, self._references))
        return frame, reference, self._groups[index]

    @property
    def groups(self) -> NDArray[np.int64]:
        """(N,)"""
        return np.array(self._groups, np.int64)

    @property
    def digest(self) -> str:
        """Of all images."""
        return self._digest.hexdigest()[:12]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_digest': None}  # cannot be pickled; a worker only reads

    def add_reference(self, image: Image) -> int:
        """Its row, for `add`; raises DataError for a full disk."""
        try:
            row = self._pixels.append(image)
        except OSError as error:
            raise DataError(f'{self._pixels.folder}: {error.strerror} after {counted(len(self._pixels), "image")} of '
                            f'{image.nbytes / 1e3:.0f} KB; make room, set TMPDIR to another folder, or raise --every'
                            ) from error
        self._digest.update(np.ascontiguousarray(image).data)
        return row

    def add(self, image: Image, reference: int, group: int) -> None:
        """reference: the row of one; raises DataError for a full disk."""
        self._images.append(self.add_reference(image))
        self._references.append(reference)
        self._groups.append(group)

    def parts(self, share: float, seed: int) -> tuple[Subset[Example], Subset[Example]]:
        """Images for training and for validation, of other recordings: about this share of them; at least one trains.
        """
        recordings = np.random.default_rng(seed).permutation(np.unique(self.groups))
        held = recordings[:min(round(share * len(recordings)), len(recordings) - 1)]
        is_held = np.isin(self.groups, held)
        train, validation = (Subset(self, np.flatnonzero(rows).tolist()) for rows in (~is_held, is_held))
        return train, validation


class Numbered(Dataset[Example]):
    """`frames` with their number in the place of the label."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Example:
        frame, reference, _ = self.frames[index]
        return frame, reference, index


def read_recordings(source: Recordings, preprocessing: PreprocessingConfig, progress: bool) -> RecordedTouches:
    """Every `every`-th image of the recordings in which at least three patches are touched.

    The reference is `reference_image`; in a folder of images, its reference.png or that of a folder above; otherwise
    the mean of the first 5 images of the recording, as in the node. Raises DataError for a path that is none of these,
    images that cannot be read, and recordings without a touch.
    """
    found = list(dict.fromkeys(each for path in source.paths for each in _find(path)))
    threshold = token_threshold(source.touched, preprocessing)
    fixed = None if source.reference_image is None else fit(read_image(source.reference_image), preprocessing)
    store = RecordedTouches(preprocessing.image_size)
    empty = []
    for number, (path, top) in enumerate(tqdm(found, 'reading recordings', unit='recording', leave=False,
                                              file=sys.stderr, disable=not (progress and sys.stderr.isatty()))):
        before = len(store)
        reference, images = _read(path, top, source, fixed, preprocessing)
        row = store.add_reference(reference)
        for batch in _chunks(images, BATCH):
            for image in _touched(batch, reference, preprocessing, threshold):
                store.add(image, row, number)
        if len(store) == before:
            empty.append(path)
    told = ' '.join(map(str, source.paths))
    if not len(store):
        raise DataError(f'{told}: no image of {len(found)} recordings shows a touch of more than {source.touched:g} '
                        'grey levels; lower --touched, or give the reference with --reference_image')
    if empty:
        logger.warning('%d of %d recordings show no touch, the first is %s', len(empty), len(found), empty[0])
    return store


def _find(path: Path) -> Iterator[tuple[Path, Path]]:
    """The recordings at a path, with the folder that the user gave: bags, videos, folders that hold images."""
    if not path.exists():
        raise DataError(f'{path} does not exist; must be a video, a bag, a folder of images, or a folder of these')
    if is_recording(path) or path.is_file():
        yield path, path
        return
    inside = list(_inside(path, path))
    if not inside:
        raise DataError(f'{path} holds no video ({", ".join(VIDEOS)}), image ({", ".join(IMAGE_SUFFIXES)}) or bag')
    yield from inside


def _inside(folder: Path, top: Path) -> Iterator[tuple[Path, Path]]:
    if any(is_picture(file) and file.stem.lower() != 'reference' for file in folder.iterdir()):
        yield folder, top
    for child in sorted(folder.iterdir(), key=natural):
        if child.name.startswith('.'):
            continue
        if is_recording(child) or (child.is_file() and child.suffix.lower() in VIDEOS):
            yield child, top
        elif child.is_dir():
            yield from _inside(child, top)


def _read(path: Path, top: Path, source: Recordings, fixed: Image | None, preprocessing: PreprocessingConfig,
          ) -> tuple[Image, Iterator[Image]]:
    """The reference of a recording, and every `every`-th of its images, fitted."""
    every = source.every
    topic = recorded_topic(path, source.topic if is_recording(path) else '')
    images = (recorded.image for recorded in recorded_images(path, topic))
    if fixed is None and path.is_dir() and not is_recording(path):
        inside = [folder for folder in (path, *path.parents) if folder == top or top in folder.parents]
        named = next((found for folder in inside if (found := reference_in(folder))), None)
        fixed = fit(read_image(named.path), preprocessing) if named else None
    if fixed is None:
        first = [fit(image, preprocessing) for image in itertools.islice(images, REFERENCE_FRAMES)]
        fixed = np.asarray(np.round(np.mean(first, axis=0)), np.uint8)
    return fixed, (fit(image, preprocessing) for image in itertools.islice(images, 0, None, every))


def _touched(images: Sequence[Image], reference: Image, preprocessing: PreprocessingConfig, threshold: float,
             ) -> list[Image]:
    """Those of the images in which at least `LEAST_TOUCHED` patches differ from the reference."""
    frames, subtracted = (torch.from_numpy(array).permute(0, 3, 1, 2).float()
                          for array in (np.stack(images), reference[None]))
    differences, _grid = patch_differences(to_input(frames, subtracted, preprocessing), CELL, threshold)
    return [image for image, touched in zip(images, (differences > threshold).sum(axis=1), strict=True)
            if touched >= LEAST_TOUCHED]


def _chunks(images: Iterator[Image], size: int) -> Iterator[list[Image]]:
    while chunk := list(itertools.islice(images, size)):
        yield chunk
