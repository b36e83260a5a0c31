"""16-bit samples to 8 bits: by the full range, 0..65535 to 0..255, as cv_bridge does."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.image_header import DecodeError

# Below it no pixel reaches 16 of 255, so the image would be black: it has 8, 10 or 12 bits in the low bits.
LEAST_MAXIMUM = 4096


def to_eight_bits(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Each sample / 257, rounded; (H, W) or (H, W, C) without alpha, native byte order.

    Raises DecodeError('range') for an image that uses a small part of the range. Guessing the bits image by image would
    give an image and its reference different scales.
    """
    maximum = int(samples.max())
    if maximum < LEAST_MAXIMUM:
        raise DecodeError('range', f'16-bit image has no value above {maximum} and would become black; values must use '
                                   'the full range to 65535: scale 10-bit data by 64, 12-bit data by 16, or save 8 '
                                   'bits')
    return cv2.convertScaleAbs(np.ascontiguousarray(samples), alpha=1 / 257)
