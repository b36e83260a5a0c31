"""Toy data for the tests of the data layer: images, class folders and CSVs in a temporary folder."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np


def picture(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_picture(path: Path, seed: int = 0) -> Path:
    """An RGB image that is unique for its seed; PNG stores it exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(picture(seed), cv2.COLOR_RGB2BGR))
    return path


def write_folders(top: Path, files: list[str]) -> Path:
    """A different image for each of the files, named relative to `top`."""
    for seed, file in enumerate(files):
        write_picture(top / file, seed)
    return top


def write_csv(path: Path, rows: list[dict[str, object]], pictures: bool = True) -> Path:
    """The rows as a CSV; with `pictures` also the files of their columns image and reference."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if pictures:
        for seed, row in enumerate(rows):
            write_picture(path.parent / str(row['image']), seed)
            if row.get('reference'):
                write_picture(path.parent / str(row['reference']), 10_000)
    return path
