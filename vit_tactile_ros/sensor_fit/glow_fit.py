"""Fit a sensor's no-contact image with a uniform background and glows, as the simulator paints them."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.optimize import least_squares

from vit_tactile_ros.simulator.sensor import Glow

_SIDE = 32  # px: the image's longer side during the fit; glows are smooth
_RIDGE = 4.0  # keeps two glows from growing against each other
_LOWEST, _HIGHEST = (-0.3, -0.3, 0.06, 0.06), (1.3, 1.3, 0.8, 0.8)  # x, y, width_x, width_y


def fit_background(reference: np.ndarray, num_glows: int = 6, starts: int = 4
                   ) -> tuple[tuple[float, ...], tuple[Glow, ...], float]:
    """(background_rgb, glows, mean absolute error in grey levels) of a no-contact image uint8 (H, W, 3) RGB.

    The glows' positions are searched; their colours are solved for at each step (ridge regression). Printed markers
    are not modelled: they darken the background.
    """
    height, width = reference.shape[:2]
    factor = _SIDE / max(height, width)
    small = cv2.resize(reference, (max(round(width * factor), 4), max(round(height * factor), 4)),
                       interpolation=cv2.INTER_AREA).astype(np.float64)
    y, x = np.mgrid[0:1:small.shape[0] * 1j, 0:1:small.shape[1] * 1j].reshape(2, -1)
    wanted = small.reshape(-1, 3)
    ridge = np.diag([0.0] + [_RIDGE] * num_glows)

    def columns(values: np.ndarray) -> np.ndarray:
        left, top, wide, high = values.reshape(-1, 4, 1).transpose(1, 0, 2)
        glows = np.exp(-0.5 * (((x - left) / wide) ** 2 + ((y - top) / high) ** 2))
        return np.vstack([np.ones_like(x), glows]).T

    def colours(made: np.ndarray) -> np.ndarray:
        return np.linalg.solve(made.T @ made + ridge, made.T @ wanted)

    def residual(values: np.ndarray) -> np.ndarray:
        made = columns(values)
        return (made @ colours(made) - wanted).ravel()

    best = None
    for seed in range(starts):
        rng = np.random.default_rng(seed)
        start = np.column_stack([rng.uniform(0, 1, (num_glows, 2)), rng.uniform(0.15, 0.4, (num_glows, 2))]).ravel()
        found = least_squares(residual, start, bounds=(np.tile(_LOWEST, num_glows), np.tile(_HIGHEST, num_glows)),
                              max_nfev=40)
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    made = columns(best.x)
    found_colours = colours(made)
    glows = tuple(Glow(left, top, wide, high, tuple(colour)) for (left, top, wide, high), colour
                  in zip(best.x.reshape(-1, 4).tolist(), found_colours[1:].tolist()))
    return tuple(found_colours[0].tolist()), glows, float(np.abs(made @ found_colours - wanted).mean())
