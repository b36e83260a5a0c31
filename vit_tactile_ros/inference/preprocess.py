"""A uint8 RGB frame to the network's input, as the checkpoint describes: the one preprocessing in the project."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.model import PreprocessingConfig

Image = NDArray[np.uint8]
Input = NDArray[np.float32]


def fit(image: Image, config: PreprocessingConfig) -> Image:
    """Turn, crop and resize a frame, uint8 (H, W, 3), to the input's size, uint8 (h, w, 3).

    Raises ValueError for anything but a uint8 (H, W, 3) array.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f'image is {image.dtype} {image.shape}; must be uint8 (H, W, 3)')
    height, width = config.image_size
    if config.orientation == 'match' and (image.shape[0] - image.shape[1]) * (height - width) < 0:
        image = np.rot90(image)
    if config.crop == 'center':
        image = _center_crop(image, height / width)
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=interpolation)


def normalise(frame: Image, reference: NDArray[np.floating] | Image | None, config: PreprocessingConfig) -> Input:
    """A fitted frame, uint8 (h, w, 3), to the network's input, float32 (3, h, w).

    With `reference='difference'` the fitted no-contact `reference`, (h, w, 3) in grey levels 0..255, is subtracted
    as in Sparsh: clip((frame - reference) / 255 + 0.5, 0, 1). Raises ValueError when either is missing or misshaped.
    """
    if frame.shape != (*config.image_size, 3):
        raise ValueError(f'frame is {frame.shape}; must be fitted to {(*config.image_size, 3)}')
    values = frame.astype(np.float32)  # never subtract uint8 from uint8: it wraps
    if config.reference == 'difference':
        if reference is None or reference.shape != frame.shape:
            raise ValueError(f'reference is {None if reference is None else reference.shape}; this checkpoint needs '
                             f'a no-contact reference of {frame.shape}')
        values -= reference
        values += 127.5
        np.clip(values, 0.0, 255.0, out=values)
    scale = 1.0 / (255.0 * np.asarray(config.std, np.float32))
    values *= scale
    values -= np.asarray(config.mean, np.float32) / np.asarray(config.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _center_crop(image: Image, aspect: float) -> Image:
    """The largest centred window with height / width = `aspect`."""
    height, width = image.shape[:2]
    rows, columns = min(height, max(1, round(width * aspect))), min(width, max(1, round(height / aspect)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top:top + rows, left:left + columns]
