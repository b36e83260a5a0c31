"""The images of a video file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.table import DataError

VIDEOS = ('.avi', '.mkv', '.mov', '.mp4')


def rate_of(clip: Path) -> float:
    """Images per s that the file names, 0 if it names none that can be right."""
    video = cv2.VideoCapture(str(clip))
    rate = float(video.get(cv2.CAP_PROP_FPS))
    video.release()
    return rate if 0 < rate <= 1000 else 0.0


def images_of(clip: Path) -> Iterator[NDArray[np.uint8]]:
    """uint8 RGB (H, W, 3) each; raises DataError for a file without an image that can be decoded."""
    video = cv2.VideoCapture(str(clip))
    try:
        if not (read := video.read())[0]:
            problem = 'has no image that can be decoded' if clip.exists() else 'does not exist'
            raise DataError(f'{clip} {problem}; must be a video')
        while read[0]:
            yield np.ascontiguousarray(read[1][:, :, ::-1])
            read = video.read()
    finally:
        video.release()
