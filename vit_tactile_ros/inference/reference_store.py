"""The no-contact reference of a sensor and its noise in a file, kept across restarts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference.arrays import read_arrays
from vit_tactile_ros.model import PreprocessingConfig

MAX_GAIN = 3.0  # of the difference; more would show mainly noise


class StoreError(UserError):
    """A stored reference that cannot be used."""


@dataclass(frozen=True)
class StoredReference:
    frame: NDArray[np.float32]  # (h, w, 3), fitted, in grey levels
    variance: NDArray[np.float32]  # of every cell of the gate, (rows, columns), grey levels squared
    camera_size: tuple[int, int]  # (height, width) of the images before they were fitted
    gain: float = 1.0  # of the difference to the reference, for the checkpoint with this digest (`Checkpoint.digest`)
    gain_for: str = ''


def stored_path(folder: Path, image_topic: str) -> Path:
    """The file of the sensor whose images are on this topic, fully qualified; raw and compressed are one sensor.

    Different topics have different files: /left/image_raw has left, /left has %2Fleft, /image_raw has _unnamed, which
    no topic gives otherwise, because a name of ROS that starts with _ is hidden.
    """
    name = image_topic.removesuffix('/compressed') or image_topic
    if name.endswith('/image_raw'):
        name = name.removesuffix('image_raw').strip('/')
    return folder / f'{quote(name, safe="") or "_unnamed"}.reference.npz'


def write_reference(path: Path, stored: StoredReference, config: PreprocessingConfig) -> None:
    """Raises WriteError. Without a sync, which may take a second on an SD card: a damaged file is reported."""
    with written_whole(path, sync=False) as temporary, temporary.open('wb') as file:
        np.savez(file, frame=stored.frame, variance=stored.variance, camera_size=np.array(stored.camera_size),
                 fit=np.array(_fit(config)), gain=np.array(stored.gain), gain_for=np.array(stored.gain_for))


def read_reference(path: Path, config: PreprocessingConfig) -> StoredReference | None:
    """None if there is none yet; raises StoreError for one that is damaged or of another input."""
    try:
        data = read_arrays(path)
        fit = str(data['fit'])
        stored = StoredReference(data['frame'].astype(np.float32), data['variance'].astype(np.float32),
                                 (int(data['camera_size'][0]), int(data['camera_size'][1])),
                                 float(data.get('gain', 1.0)), str(data.get('gain_for', '')))  # files before 0.2.0
        is_sound = (stored.variance.ndim == 2 and stored.frame.ndim == 3 and stored.frame.shape[2] == 3
                    and bool(np.isfinite(stored.frame).all()) and bool(np.isfinite(stored.variance).all())
                    and 1.0 <= stored.gain <= MAX_GAIN)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise StoreError(f'{path} cannot be read: it is damaged, or not a stored reference') from error
    if not is_sound:
        raise StoreError(f'{path} is damaged')
    if stored.frame.shape[:2] != tuple(config.image_size) or fit != _fit(config):
        height, width = stored.frame.shape[:2]
        raise StoreError(f'{path} is of input {width}x{height} ({fit}); this checkpoint needs '
                         f'{config.image_size[1]}x{config.image_size[0]} ({_fit(config)})')
    return stored


def written_at(path: Path) -> float:
    """When it was written, s since 1970; now if that is unknown."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _fit(config: PreprocessingConfig) -> str:
    return f'orientation {config.orientation}, crop {config.crop}'
