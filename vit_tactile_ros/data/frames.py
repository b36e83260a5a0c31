"""The images of a table as a torch dataset, fitted to the input of the network once and stored."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vit_tactile_ros.data.bags.touches import read_pictures
from vit_tactile_ros.data.pixel_file import PixelFile
from vit_tactile_ros.data.table import DataError, Source, TouchTable, UnreadableImages, previous_of
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.closer import Closer, find_spot, look_closer
from vit_tactile_ros.inference.colour import is_grey
from vit_tactile_ros.inference.image_file import ImageFileError, read_image
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig

Image = NDArray[np.uint8]
# Frame and reference, uint8 (h, w, 3) each, and label; with motion, the frame is (h, w, 6) or more, with earlier ones.
Frames = Dataset[tuple[Tensor, Tensor, int]]


class TouchFrames(Dataset[tuple[Tensor, Tensor, int]]):
    """Touches as (frame, reference, label): uint8 (h, w, 3) twice, fitted by `preprocess.fit`, and the class index.

    Where the preprocessing asks for it, both are the part around a small contact (`closer.look_closer`).
    The reference is zeros if the preprocessing does not use one. With motion, the frame is (h, w, 6) or more, with
    earlier images: the touch's `previous`, or what the stamps of a bag give. With `cache` every image is read and
    fitted at construction into a temporary file, which the workers of a DataLoader share; without, at every access.
    The file is removed with the dataset; TMPDIR sets its folder.

    Raises DataError at construction for a touch without the images that the preprocessing needs, and for images that
    cannot be read (UnreadableImages for all of them, at construction with `cache`, otherwise at access).
    """

    def __init__(self, table: TouchTable, preprocessing: PreprocessingConfig, cache: bool = True,
                 progress: bool | None = None) -> None:
        """progress: show a bar on stderr while images are read; None shows one in a terminal."""
        self.table = table
        self.preprocessing = preprocessing
        self.labels = table.labels
        references = [touch.reference for touch in table.touches]
        if preprocessing.reference == 'none':
            references = [None] * len(table)
        elif None in references:
            missing = table.touches[references.index(None)].image
            raise DataError(
                f'{table.origin}: {references.count(None)} of {len(table)} images have no reference, among them '
                f'{missing}, and the input of this network is the difference from it. Give an image of the same sensor '
                'without contact: reference.png in the class or top folder, a reference column, or reference_image '
                'for all; or train without a reference')
        previous = previous_of(table, preprocessing.motion_interval, preprocessing.motion_views)
        # Many touches share a reference: every image is stored once.
        sources = dict.fromkeys([touch.image for touch in table.touches]
                                + [source for source in references if source is not None]
                                + [source for sources in previous for source in sources])
        self._sources = list(sources)
        row_of = {source: row for row, source in enumerate(self._sources)}
        self._image_rows = np.array([row_of[touch.image] for touch in table.touches], np.int64)
        self._reference_rows = np.array([-1 if source is None else row_of[source] for source in references], np.int64)
        self._previous_rows = np.array([[row_of[source] for source in sources] for sources in previous], np.int64)
        self._pixels: PixelFile | None = None
        self._closer: dict[tuple[int, int], Closer] = {}  # of rows of an image and its reference
        if cache and len(table):
            self._fill(progress)
            if preprocessing.zoom_below:
                self._look_closer()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; must be 0 to {len(self) - 1}')
        image_row, row = int(self._image_rows[index]), int(self._reference_rows[index])
        if self.preprocessing.zoom_below and (closer := self._closer_of(image_row, row)):
            return torch.from_numpy(closer.image.copy()), torch.from_numpy(closer.reference.copy()), int(
                self.labels[index])
        frame = torch.from_numpy(self._picture(image_row))
        reference = torch.zeros_like(frame) if row < 0 else torch.from_numpy(self._picture(row))
        views = [torch.from_numpy(self._picture(int(row))) for row in self._previous_rows[index]]
        frame = torch.cat((frame, *views), dim=2)
        return frame, reference, int(self.labels[index])

    def _picture(self, row: int) -> Image:
        # A copy, because the cache and the messages of bags must not be modified.
        if self._pixels is not None:
            return self._pixels[row]
        return np.array(next(iter(read_fitted([self._sources[row]], self.preprocessing)))[1])

    def _closer_of(self, image_row: int, reference_row: int) -> Closer | None:
        if self._pixels is not None:
            return self._closer.get((image_row, reference_row))
        image = np.array(next(iter(read_fitted([self._sources[image_row]], None)))[1])
        return look_closer(image, fit(image, self.preprocessing), self._picture(reference_row), self.preprocessing)

    def _look_closer(self) -> None:
        """Read the images of small contacts again, and keep the parts around them."""
        assert self._pixels is not None
        references: dict[int, set[int]] = {}
        for image_row, row in dict.fromkeys(zip(self._image_rows.tolist(), self._reference_rows.tolist(), strict=True)):
            spot = find_spot(self._pixels[image_row], self._pixels[row])
            if spot is not None and spot.spread < self.preprocessing.zoom_below:
                references.setdefault(image_row, set()).add(row)
        images = list(references)
        for position, image in read_fitted([self._sources[row] for row in images], None):
            for row in references[images[position]]:
                closer = look_closer(image, self._picture(images[position]), self._picture(row), self.preprocessing)
                if closer is not None:
                    self._closer[images[position], row] = closer

    def check(self, progress: bool | None = None) -> None:
        """Read every image without storing it; raises UnreadableImages."""
        self._read_all(progress, 'checking images', lambda row, picture: None)

    def _read_all(self, progress: bool | None, title: str, take: Callable[[int, Image], None]) -> None:
        broken: list[UserError] = []
        with tqdm(total=len(self._sources), desc=title, mininterval=1.0, leave=False,
                  disable=not (sys.stderr.isatty() if progress is None else progress)) as bar:
            for row, picture in read_fitted(self._sources, self.preprocessing, broken):
                take(row, picture)
                bar.update()
        if broken:
            raise UnreadableImages(self.table.origin, broken, len(self._sources))

    def _fill(self, progress: bool | None) -> None:
        pixels = PixelFile('touch_frames_', self.preprocessing.image_size)
        count = len(self._sources)
        try:
            pixels.reserve(count)
        except OSError as error:
            pixels.remove()
            size = 3 * math.prod(self.preprocessing.image_size) * count
            raise DataError(f'{self.table.origin}: the fitted images take {size / 1e6:.0f} MB in {pixels.folder}: '
                            f'{error.strerror}; make room, or set TMPDIR to another folder') from error
        try:
            self._read_all(progress, 'reading images', pixels.__setitem__)
        except BaseException:
            pixels.remove()
            raise
        self._pixels = pixels


def read_fitted(sources: Sequence[Source], preprocessing: PreprocessingConfig | None,
                broken: list[UserError] | None = None) -> Iterator[tuple[int, Image]]:
    """(position in `sources`, fitted image uint8 (h, w, 3)) of all of them, in any order.

    preprocessing: None gives the images of the camera, (H, W, 3), as they are.
    Raises UserError naming an image that cannot be read; with `broken`, such errors are collected there and the other
    files are read (after a bag that cannot be read, no further messages).
    """
    files = [row for row, source in enumerate(sources) if not source.topic]

    def read(row: int) -> Image | None:
        try:
            image = read_image(sources[row].path)
            return image if preprocessing is None else fit(image, preprocessing)
        except ImageFileError as error:
            if broken is None:
                raise
            broken.append(error)
            return None

    if len(files) == 1:
        picture = read(files[0])
        if picture is not None:
            yield files[0], picture
    elif files:
        # Decoding releases the GIL. In chunks, because the pool would otherwise run ahead and fill the memory.
        workers = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(files), 32 * workers):
                chunk = files[start:start + 32 * workers]
                yield from ((row, picture) for row, picture in zip(chunk, pool.map(read, chunk)) if picture is not None)
    messages = [row for row, source in enumerate(sources) if source.topic]
    try:
        for position, picture in read_pictures([sources[row] for row in messages], preprocessing):
            yield messages[position], picture if preprocessing is None else fit(picture, preprocessing)
    except DataError as error:
        if broken is None:
            raise
        broken.append(error)


def grey_shares(frames: Frames, most: int = 200) -> tuple[float, float | None]:
    """The share of grey images, and of grey references (None without references), in up to `most` examples."""
    count = len(frames)  # type: ignore[arg-type]
    images, references = [], []
    for index in sorted({round(i) for i in np.linspace(0, count - 1, min(most, count))}):
        image, reference, _ = frames[index]
        images.append(is_grey(image[..., :3].numpy()))
        if reference.any():
            references.append(is_grey(reference.numpy()))
    return _share(images) or 0.0, _share(references)


def _share(found: list[bool | None]) -> float | None:
    """The share of grey ones among those where it could be determined."""
    known = [grey for grey in found if grey is not None]
    return sum(known) / len(known) if known else None
