"""Example-based tables of colour by gradient (Taxim, Si and Yuan 2022): a baseline, and data to fit lights to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.inference.arrays import read_arrays

_KEYS = ('bins', 'grad_r', 'grad_g', 'grad_b')


@dataclass(frozen=True)
class ExampleTable:
    """For every bin of tilt and direction, the change of colour as a quadratic polynomial of the position."""

    coefficients: np.ndarray  # float64 (bins, bins, 3, 6): RGB; of x^2, y^2, xy, x, y, 1 in px

    def change(self, slope_x: np.ndarray, slope_y: np.ndarray, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
        """Colour change, grey levels (n, 3) RGB, of surface points with these slopes (mm per mm, towards the camera).

        Conventions, found by trying all of them on real presses: the tilt ranges from 0 to pi/2, the direction from
        -pi to pi. The direction is that of the surface's ascent, so a ball's left side has direction 0.
        """
        bins = len(self.coefficients)
        tilt, direction = np.arctan(np.hypot(slope_x, slope_y)), np.arctan2(slope_y, slope_x)
        row = np.clip((tilt / (math.pi / 2 / (bins - 1))).astype(int), 0, bins - 1)
        column = np.clip(((direction + math.pi) / (2 * math.pi / (bins - 1))).astype(int), 0, bins - 1)
        x, y = np.asarray(x_px, np.float64), np.asarray(y_px, np.float64)
        place = np.stack([x * x, y * y, x * y, x, y, np.ones_like(x)], axis=-1)
        return np.einsum('nck,nk->nc', self.coefficients[row, column], place)


def load_table(path: Path, channels: str = 'bgr') -> ExampleTable:
    """A .npz with bins, grad_r, grad_g and grad_b, each (bins, bins, 6).

    channels: 'bgr' if grad_r holds the blue channel, as in Taxim's GelSight tables (made with OpenCV); 'rgb'
    if the names are correct. Raises DataError for any other file.
    """
    if channels not in ('bgr', 'rgb'):
        raise DataError(f'channels is {channels!r}; must be bgr or rgb')
    try:
        arrays = read_arrays(path)
        if missing := [key for key in _KEYS if key not in arrays]:
            raise DataError(f'{path} has no {missing[0]!r}; a Taxim table has {", ".join(_KEYS)}')
        planes = [np.asarray(arrays[key], np.float64) for key in _KEYS[1:]]
        bins = int(arrays['bins'])
    except DataError:
        raise
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f'{path} cannot be read as a table (.npz): {error}') from error
    if bins < 2:
        raise DataError(f'{path}: bins is {bins}; must be at least 2')
    for key, plane in zip(_KEYS[1:], planes):
        if plane.shape != (bins, bins, 6):
            raise DataError(f'{path}: {key} has the shape {plane.shape}; must be ({bins}, {bins}, 6) with bins {bins}')
    return ExampleTable(np.stack(planes if channels == 'rgb' else planes[::-1], axis=2))
