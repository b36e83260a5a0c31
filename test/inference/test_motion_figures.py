"""Figures of the motion of the gel: right for motions that are known, whatever the size of the images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vit_tactile_ros.inference.motion_figures import FIGURES, MotionMaps, figures_of

STEP = 40_000_000  # ns


def dots(right: float = 0.0, turn: float = 0.0, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A gel with dots, moved by px of 128 and turned about the middle, in degrees."""
    image = np.full((96, 128, 3), 120, np.uint8)
    for row in range(-20, 130, 14):
        for column in range(-20, 160, 14):
            cv2.circle(image, (column, row), 3, (30, 30, 30), -1, cv2.LINE_AA)
    move = cv2.getRotationMatrix2D((63.5, 47.5), turn, 1.0)
    move[0, 2] += right
    return cv2.resize(cv2.warpAffine(image, move, (128, 96), borderMode=cv2.BORDER_REFLECT), size[::-1])


def figures(images: list[np.ndarray]) -> list[dict[str, float]]:
    """px and grey levels, of each image; the first one is the reference."""
    maps = MotionMaps()
    found = figures_of(np.stack([maps.update(image, 10**9 + n * STEP, images[0].astype(np.float32))
                                 for n, image in enumerate(images)]))
    assert found.shape == (len(images), len(FIGURES)) and found.dtype == np.float32
    return [dict(zip(FIGURES, np.sign(row) * np.expm1(np.abs(row)) / 4)) for row in found]


@pytest.mark.parametrize('size', [(96, 128), (240, 320)])
def test_a_gel_that_moves_is_told_from_one_that_turns(size):
    """0.25 px per image to the right: 0.5 px in 0.08 s, 2 px in 0.32 s, all of it since the reference."""
    moved = figures([dots(0.25 * n, size=size) for n in range(13)])[-1]
    assert moved['fast_mean'] == pytest.approx(0.5, rel=0.3) and moved['slow_mean'] == pytest.approx(2, rel=0.3)
    assert moved['reference_mean'] == pytest.approx(3, rel=0.3) and moved['fast_along'] == pytest.approx(0.5, rel=0.3)
    turned = figures([dots(turn=0.4 * n, size=size) for n in range(13)])[-1]
    assert turned['slow_turn'] > 5 * moved['slow_turn'] and turned['slow_mean'] < 0.3 * moved['slow_mean']


def test_a_gel_that_is_still():
    """Motion at the start of a stream, or because there are no earlier images."""
    for found in figures([dots()] * 3):
        assert max(map(abs, found.values())) < 0.05
