"""Short videos, and tables of them, for the tests of what plays them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np


def write_clip(path: Path, images: int, rate: float = 20.0, size: tuple[int, int] = (64, 48)) -> Path:
    """A Motion-JPEG .avi whose image n is of the grey level 8 * (n % 30); `size` is width and height."""
    return write_video(path, (np.full((size[1], size[0], 3), 8 * (number % 30), np.uint8) for number in range(images)),
                       rate)


def write_video(path: Path, images: Iterable[np.ndarray], rate: float = 25.0, codec: str = 'MJPG') -> Path:
    """Images are uint8 BGR, (h, w, 3), all of one size."""
    writer = None
    for image in images:
        if writer is None:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, image.shape[1::-1])
        writer.write(np.ascontiguousarray(image))
    assert writer is not None, 'a video needs an image'
    writer.release()
    return path


def write_grasps(folder: Path, images: Callable[[int, bool], Iterable[np.ndarray]], count: int = 12) -> Path:
    """A grasps.csv of one finger, two grasps of each object, the second of which slips; `images` of (number, slips)."""
    rows = [['grasp', 'object', 'outcome', 'finger', 'file']]
    for number in range(count):
        slips = number % 2 == 1
        write_video(folder / f'{number}.avi', images(number, slips))
        rows.append([f'g{number}', f'object{number // 2}', 'slip' if slips else 'stable', 'a', f'{number}.avi'])
    with (folder / 'grasps.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(rows)
    return folder / 'grasps.csv'
