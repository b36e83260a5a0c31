"""Simulated touches stored in a file after rendering, shared by all processes and later runs."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vit_tactile_ros import simulator
from vit_tactile_ros.data import simulated
from vit_tactile_ros.data.picture_generator import generator_key
from vit_tactile_ros.data.simulated import SimulatedTouches, sensor_key
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.inference import closer, preprocess

_CHECKSUM, _LABEL = 4, 1  # bytes before the images of an example


class RenderedTouches(Dataset[tuple[Tensor, Tensor, int]]):
    """The examples of `touches`, each rendered at its first use and read from a file in `folder` after that.

    Rendering an example takes about as long as training four blocks on it, so a training that repeats examples takes
    half the time. The file name is a hash of everything that the images depend on, including the code of the
    simulator. Only examples with a valid checksum count, so a killed process or several processes on one file do no
    harm. The file is sparse: it takes the space of the rendered examples, about 74 KB each at 96x128.

    Raises DataError if the folder cannot be written.
    """

    def __init__(self, touches: SimulatedTouches, folder: Path) -> None:
        self.touches = touches
        height, width = touches.preprocessing.image_size
        # The frame, with motion the earlier ones, the reference.
        self._picture = (touches.preprocessing.channels // 3 + 1, height, width, 3)
        record = _CHECKSUM + _LABEL + int(np.prod(self._picture))
        self.path = folder / f'touches_{_key(touches)}.u8'
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), 'r+b') as file:
                # A file with more examples can be used for fewer.
                records = max(len(touches), os.fstat(file.fileno()).st_size // record)
                file.truncate(records * record)
            disk = os.statvfs(folder)
        except OSError as error:
            raise DataError(f'{self.path} cannot be written: {error.strerror}; give another folder') from error
        missing = len(touches) * record - self.path.stat().st_blocks * 512
        if missing > disk.f_bavail * disk.f_frsize:
            # A full disk would kill the process while it writes to the mapping.
            raise DataError(f'{self.path} needs {missing / 1e9:.1f} GB more and {folder} has '
                            f'{disk.f_bavail * disk.f_frsize / 1e9:.1f} GB left; make room, or use fewer examples')
        self._shape = (records, record)
        self._file: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.touches)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; must be 0 to {len(self) - 1}')
        if self._file is None:  # once in every worker
            self._file = np.memmap(self.path, np.uint8, 'r+', shape=self._shape)
        record = np.array(self._file[index])
        if record[:_CHECKSUM].tobytes() != _checksum(record):
            frame, reference, label = self.touches[index]
            record[_CHECKSUM] = label
            record[_CHECKSUM + _LABEL:] = torch.stack([*frame.split(3, dim=2), reference]).numpy().ravel()
            record[:_CHECKSUM] = np.frombuffer(_checksum(record), np.uint8)
            self._file[index] = record
        *views, reference = torch.from_numpy(record[_CHECKSUM + _LABEL:].reshape(self._picture))
        return torch.cat(views, dim=2), reference, int(record[_CHECKSUM])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {'_file': None}


def _checksum(record: NDArray[np.uint8]) -> bytes:
    # The initial value is 1 because the checksum of an empty record (all zeros) must not be zero.
    return zlib.crc32(record[_CHECKSUM:].data, 1).to_bytes(_CHECKSUM, 'little')


def _key(touches: SimulatedTouches) -> str:
    """A name of the examples that changes with everything that they depend on, except their number."""
    digest = hashlib.sha256(repr((touches.seed, touches.preprocessing, touches.task)).encode())
    if touches.generated:
        digest.update(repr((touches.generated, generator_key())).encode())
    digest.update(repr(touches.sensors and [sensor_key(c) for c in touches.sensors]).encode())
    sources = Path(simulator.__file__).parent
    for path in sorted([*sources.glob('*.py'), *sources.glob('sensors/*.json'), Path(simulated.__file__),
                        Path(closer.__file__), Path(preprocess.__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
