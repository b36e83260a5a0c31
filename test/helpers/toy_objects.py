"""Presses of objects that are all different, in the files of the benchmark of touch: nothing is common to a class."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('smooth', 'rough')


def write_presses_of_objects(data: Path, objects: int = 8, frames: int = 2) -> Path:
    """gelsight_touches/labels.csv: two presses of each object, every second object is rough."""
    folder = data / 'gelsight_touches'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(objects):
        pattern = rng.integers(0, 100, (6, 8, 3)).astype(np.float32)
        for press in range(2):
            reference = np.full((48, 64, 3), 90 + press, np.uint8)
            cv2.imwrite(str(folder / f'{number}_{press}_reference.png'), reference)
            for frame in range(frames):
                touch = reference + cv2.resize(pattern, (64, 48), interpolation=cv2.INTER_NEAREST)
                touch += rng.normal(0, 2, touch.shape)
                name = f'{number}_{press}_{frame}.png'
                cv2.imwrite(str(folder / name), np.clip(touch, 0, 255).astype(np.uint8))
                rows.append([name, f'{number}_{press}_reference.png', f'object{number}', press, CLASSES[number % 2]])
    with (folder / 'labels.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([['image', 'reference', 'object', 'press', 'roughness'], *rows])
    return data
