"""Whether an image is grey (three equal channels, as from mono8, a grey JPEG or a camera set to grey), or blank."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GREY_NOTE = 'the network was trained on colour images, so its predictions are unreliable, whatever their confidence'

_STRIDE = 16  # only every 16th row is checked
_DARK, _BRIGHT = 16, 239  # grey levels; darker and brighter pixels show no colour
_LEAST_LIT = 0.1  # share of the pixels
_BLANK = 0.02  # share of the pixels; markers on a dark gel are more
# The channels of a grey pixel differ by at most this many grey levels plus this share of its brightness (JPEG, and a
# white balance that is slightly off). In every real image of a colour sensor, a tenth of the pixels have channels that
# differ by at least 36.
_NOISE, _TINT = 3, 0.05
_COLOURFUL = 0.1  # share of the pixels of a grey image that may exceed that


def is_grey(image: NDArray[np.uint8]) -> bool | None:
    """For a fitted RGB image (h, w, 3); None if it is too dark or too bright to tell."""
    brightest, darkest, lit, num_lit = _lit(image)
    if num_lit < _LEAST_LIT * lit.size:
        return None
    beyond = cv2.subtract(cv2.subtract(brightest, darkest), cv2.convertScaleAbs(brightest, alpha=_TINT, beta=_NOISE))
    return cv2.countNonZero(cv2.bitwise_and(beyond, lit)) < _COLOURFUL * num_lit


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether a fitted RGB image (h, w, 3) shows nothing: black, overexposed, or all of one brightness."""
    brightest, _, lit, num_lit = _lit(image)
    return num_lit < _BLANK * lit.size or int(brightest.max()) == int(brightest.min())


def _lit(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], int]:
    """Of each pixel that is checked: the brightest and darkest channel, and 255 if it is lit, else 0; how many are."""
    red, green, blue = cv2.split(image[::_STRIDE])
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    lit = cv2.bitwise_and(_threshold(brightest, _DARK - 1, cv2.THRESH_BINARY),
                          _threshold(darkest, _BRIGHT, cv2.THRESH_BINARY_INV))
    return brightest, darkest, lit, cv2.countNonZero(lit)


def _threshold(values: NDArray[np.uint8], level: int, kind: int) -> NDArray[np.uint8]:
    return cv2.threshold(values, level, 255, kind)[1]
