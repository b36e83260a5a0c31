"""A uint8 RGB frame to the network's input, as the checkpoint describes: the one preprocessing in the project."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.model import PreprocessingConfig

Image = NDArray[np.uint8]
Input = NDArray[np.float32]


def fit(image: Image, config: PreprocessingConfig) -> Image:
    """Rotate, crop and resize a frame, uint8 (H, W, 3), to the input's size, uint8 (h, w, 3).

    Raises ValueError for anything but a uint8 (H, W, 3) array.
    """
    whole, is_bgr = _view(image, config)
    return _sized(whole, config, is_bgr)


def enlarge(image: Image, config: PreprocessingConfig, window: Window) -> Image:
    """A part of a frame, uint8 (H, W, 3), at the input's size, uint8 (h, w, 3); `window` is of `camera_size`."""
    whole, is_bgr = _view(image, config)
    return _sized(whole[window.top:window.top + window.height, window.left:window.left + window.width], config, is_bgr)


class Window(NamedTuple):
    """A part of a frame that is rotated and cropped, but not resized; px."""

    top: int
    left: int
    height: int
    width: int


def camera_size(shape: tuple[int, ...], config: PreprocessingConfig) -> tuple[int, int]:
    """(height, width) of a frame, (H, W, 3), that is rotated and cropped, but not resized."""
    height, width = (shape[1], shape[0]) if _turns(shape, config) else (shape[0], shape[1])
    if config.crop == 'center':
        return _centered(height, width, config.image_size[0] / config.image_size[1])
    return height, width


def _view(image: Image, config: PreprocessingConfig) -> tuple[Image, bool]:
    """The frame rotated and cropped, and whether its channels are BGR."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f'image is {image.dtype} {image.shape}; must be uint8 (H, W, 3)')
    # `decode` returned BGR data as a reversed view: reordering the channels is cheaper once the image is small.
    is_bgr = image.strides[2] < 0
    if is_bgr:
        image = image[:, :, ::-1]
    if _turns(image.shape, config):
        image = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)  # like np.rot90, whose copy takes ten times as long
    if config.crop == 'center':
        image = _center_crop(image, config.image_size[0] / config.image_size[1])
    return image, is_bgr


def _turns(shape: tuple[int, ...], config: PreprocessingConfig) -> bool:
    height, width = config.image_size
    return config.orientation == 'match' and (shape[0] - shape[1]) * (height - width) < 0


def _sized(image: Image, config: PreprocessingConfig, is_bgr: bool) -> Image:
    height, width = config.image_size
    if image.shape[:2] != (height, width):
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        # OpenCV reads rows with gaps (of a crop or of a padded message) without a copy.
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if is_bgr else np.ascontiguousarray(image)


def normalise(frame: Image, reference: NDArray[np.floating] | Image | None, config: PreprocessingConfig,
              out: Input | None = None, previous: Image | None = None, gain: float = 1.0) -> Input:
    """A fitted frame, uint8 (h, w, 3), to the network's input, float32 (channels, h, w), in `out` where that is given.

    With `reference='difference'` the fitted no-contact `reference`, (h, w, 3) in grey levels 0..255, is subtracted
    as in Sparsh: clip(gain * (frame - reference) / 255 + 0.5, 0, 1), where `gain` is 1 unless the contrast of the
    sensor is far below that of the training images. It is fastest with one channel after the other in memory, as in
    `Reference.frame`. With a `motion_interval`, three channels follow with the motion:
    clip((frame - previous) / 255 + 0.5, 0, 1), where `previous` is an earlier fitted frame (`motion.Motion`), and so on
    with each of several, (h, w, 3 * motion_views). Raises ValueError if any of them is missing or has a wrong shape.
    """
    if frame.shape != (*config.image_size, 3):
        raise ValueError(f'frame is {frame.shape}; must be fitted to {(*config.image_size, 3)}')
    whole = np.empty((config.channels, *config.image_size), np.float32) if out is None else out
    values = whole[:3]
    scale, shift = scale_and_shift(tuple(config.mean), tuple(config.std), config.reference)
    if config.reference == 'difference':
        if reference is None or reference.shape != frame.shape:
            raise ValueError(f'reference is {None if reference is None else reference.shape}; this checkpoint needs '
                             f'a no-contact reference of {frame.shape}')
        # In float32 whatever their types: uint8 minus uint8 wraps.
        np.subtract(frame.transpose(2, 0, 1), reference.transpose(2, 0, 1), out=values, dtype=np.float32)
        if gain != 1.0:
            values *= np.float32(gain)
        np.clip(values, -127.5, 127.5, out=values)
        values *= scale
    else:
        np.multiply(frame.transpose(2, 0, 1), scale, out=values)
    values -= shift
    if config.motion_interval:
        if previous is None or previous.shape != (*frame.shape[:2], config.channels - 3):
            raise ValueError(f'previous is {None if previous is None else previous.shape}; this checkpoint needs '
                             f'earlier frames of {(*frame.shape[:2], config.channels - 3)}')
        motion = whole[3:]
        now, before = frame.transpose(2, 0, 1), previous.transpose(2, 0, 1)
        for first in range(0, len(motion), 3):
            np.subtract(now, before[first:first + 3], out=motion[first:first + 3], dtype=np.float32)
        np.clip(motion, -127.5, 127.5, out=motion)
        motion *= motion_scale(config)
    return whole


def motion_scale(config: PreprocessingConfig) -> np.float32:
    """The factor for the motion in grey levels."""
    return np.float32(1.0 / (255.0 * config.motion_std))


@lru_cache(maxsize=8)
def scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], reference: str) -> tuple[Input, Input]:
    """The factor for grey levels or their differences, and what is subtracted afterwards, (3, 1, 1) each."""
    middle = 0.5 if reference == 'difference' else 0.0
    mean_, std_ = (np.array(values, np.float64).reshape(3, 1, 1) for values in (mean, std))
    return (1.0 / (255.0 * std_)).astype(np.float32), ((mean_ - middle) / std_).astype(np.float32)


def _center_crop(image: Image, aspect: float) -> Image:
    """The largest centred window with height / width = `aspect`."""
    height, width = image.shape[:2]
    rows, columns = _centered(height, width, aspect)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top:top + rows, left:left + columns]


def _centered(height: int, width: int, aspect: float) -> tuple[int, int]:
    return min(height, max(1, round(width * aspect))), min(width, max(1, round(height / aspect)))
