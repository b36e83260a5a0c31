"""Recorded clips: video files, and the contacts that a person labelled in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.video import VIDEOS
from vit_tactile_ros.foundation.errors import UserError


def find_clips(paths: Sequence[Path]) -> list[Path]:
    """Videos, and those in folders, sorted; raises UserError for a path without a video."""
    found: list[Path] = []
    for path in paths:
        clips = sorted(p for p in path.iterdir() if p.suffix.lower() in VIDEOS) if path.is_dir() else [path]
        wrong = [clip for clip in clips if not clip.is_file()] if clips else [path]
        if wrong:
            raise UserError(f'{wrong[0]} is not a video or a folder with a video ({", ".join(VIDEOS)})')
        found += clips
    return found


def message_of(image: NDArray[np.uint8]) -> SimpleNamespace:
    """The fields of a sensor_msgs/Image that `decode` reads, of a uint8 RGB (H, W, 3) image."""
    return SimpleNamespace(encoding='rgb8', height=image.shape[0], width=image.shape[1], step=image.shape[1] * 3,
                           is_bigendian=0, data=image.tobytes())


def contacts_of(file: Path) -> dict[str, list[tuple[int, int]]]:
    """First and last frame of each contact by clip, from a CSV of clip,first,last; raises DataError."""
    columns, rows = read_rows(file)
    if missing := [name for name in ('clip', 'first', 'last') if name not in columns]:
        raise DataError(f'{file} has no column {missing[0]!r}; must have clip,first,last')
    found: dict[str, list[tuple[int, int]]] = {}
    for line, row in rows:
        try:
            found.setdefault(row['clip'], []).append((int(row['first']), int(row['last'])))
        except ValueError:
            raise DataError(f'{file}, line {line}: first is {row["first"]!r} and last is {row["last"]!r}; must be '
                            'numbers of frames') from None
    return found
