"""Fitted images in a temporary file, which the workers of a DataLoader share."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class PixelFile:
    """uint8 images (h, w, 3) of one size, by row: appended one by one, or set in any order in rows that are reserved.

    A row is a copy. Pickled, it is the same file, for a process that only reads. The process that made the file removes
    it, with this object; TMPDIR sets its folder.
    """

    def __init__(self, prefix: str, size: tuple[int, int]) -> None:
        """prefix: of the folder's name; size: (h, w) in px."""
        self._shape = (0, *size, 3)
        self._pixels: Image | None = None
        self.folder = tempfile.mkdtemp(prefix=prefix)
        self._path = Path(self.folder) / 'pixels'
        self._file = self._path.open('wb', 0)
        self._remove = weakref.finalize(self, _remove_own, self.folder, os.getpid(), self._file)

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, row: int) -> Image:
        return np.array(self._mapped()[row])

    def __setitem__(self, row: int, image: Image) -> None:
        self._mapped()[row] = image

    def append(self, image: Image) -> int:
        """The row of the image; raises OSError for a full disk."""
        left = memoryview(np.ascontiguousarray(image).data).cast('B')
        while left:
            left = left[self._file.write(left):]
        self._shape = (len(self) + 1, *self._shape[1:])
        self._pixels = None
        return len(self) - 1

    def reserve(self, count: int) -> None:
        """So many rows; raises OSError for a full disk, which would kill a process that writes to the mapping."""
        self._shape = (count, *self._shape[1:])
        size = int(np.prod(self._shape))
        if hasattr(os, 'posix_fallocate'):
            os.posix_fallocate(self._file.fileno(), 0, size)
        else:
            self._file.truncate(size)

    def remove(self) -> None:
        """Before this object goes."""
        self._remove()

    def _mapped(self) -> Image:
        if self._pixels is None:
            self._pixels = np.memmap(self._path, np.uint8, 'r' if self._file is None else 'r+', shape=self._shape)
        return self._pixels

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_pixels': None, '_file': None, '_remove': None}


def _remove_own(folder: str, process: int, file: IO[bytes]) -> None:
    """Close the file, and remove the folder if this is still the process that made it."""
    file.close()
    if os.getpid() == process:  # a forked worker has inherited the finalizer
        shutil.rmtree(folder, ignore_errors=True)
