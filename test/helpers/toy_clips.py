"""Short videos for the tests of what plays them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_clip(path: Path, images: int, rate: float = 20.0, size: tuple[int, int] = (64, 48)) -> Path:
    """A Motion-JPEG .avi whose image n is of the grey level 8 * (n % 30); `size` is width and height."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), rate, size)
    for number in range(images):
        writer.write(np.full((size[1], size[0], 3), 8 * (number % 30), np.uint8))
    writer.release()
    return path
