"""Capture settings of GelSight Mini, DIGIT and any other camera, and what is cut off and turned before publishing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # BGR (H, W, 3)

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Profile:
    """Settings of one kind of sensor; every field is also a parameter of the node, which overrides it."""

    width: int = 0  # px to ask the camera for; 0: its default
    height: int = 0
    rate: float = 0.0  # Hz; 0: the camera's default, or the rate stored in a video
    pixel_format: str = ''  # four characters, MJPG for instance; '': the one that OpenCV picks
    least_width: int = 0  # px: reduce images by 2, 4 or 8 while they stay at least this wide; 0: never
    crop: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # share cut off at the left, top, right and bottom
    rotation: int = 0  # degrees clockwise, after the crop: 0, 90, 180 or 270
    exposure: float = 0.0  # ms; 0: leave the control as it is
    lighting: int = -1  # for the camera's zoom control, which sets the LEDs of a DIGIT; -1: leave it as it is


PROFILES = {
    'generic': Profile(),
    # gelsightinc/gsrobotics issue 36: the only format is MJPG 3280x2464 at 25 Hz; decoded at full size it does not
    # reach that rate (issue 6). The SDK cuts off 15 % at each edge (utilities/gelsightmini.py).
    'gelsight_mini': Profile(width=3280, height=2464, rate=25.0, pixel_format='MJPG', least_width=640,
                             crop=(0.15, 0.15, 0.15, 0.15)),
    # facebookresearch/digit-interface: QVGA at 60 Hz, turned upright, LEDs at full power (4 bits each of red, green and
    # blue, from firmware 2.00 on).
    'digit': Profile(width=320, height=240, rate=60.0, rotation=270, lighting=0xFFF),
}


def reduction(width: int, least_width: int) -> int:
    """1, 2, 4 or 8: what libjpeg can reduce by while it decodes."""
    return next((n for n in (8, 4, 2) if least_width and width // n >= least_width), 1)


def prepared(image: Image, profile: Profile) -> Image:
    """Reduced, cropped to at least one pixel, and rotated as in the profile."""
    by = reduction(image.shape[1], profile.least_width)
    if by > 1:
        image = np.asarray(cv2.resize(image, None, fx=1 / by, fy=1 / by, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = image.shape[:2]
    left, top, right, bottom = profile.crop
    image = image[_kept(height, top, bottom), _kept(width, left, right)]
    return np.asarray(cv2.rotate(image, _TURNS[profile.rotation]), np.uint8) if profile.rotation else image


def _kept(size: int, before: float, after: float) -> slice:
    """Of `size` pixels those that remain if shares are cut off before and after them; at least one."""
    start = min(round(before * size), size - 1)
    return slice(start, max(size - round(after * size), start + 1))
