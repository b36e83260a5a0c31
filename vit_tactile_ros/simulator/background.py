"""The image of a unit without contact: background, glows, blemishes and camera noise."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from .sensor import SensorConfig

_SPARE_PX = 96  # the stored noise is this much larger than an image, so that each frame can use another crop


def paint_background(config: SensorConfig, rng: np.random.Generator, variation: float) -> np.ndarray:
    """The no-contact image of one unit without markers and noise: float32 (3, H, W), grey levels.

    variation: scale of the tolerances; 1 for real units, 0 for the nominal unit, above 1 for randomised training.
    """
    height, width = config.height, config.width
    # painted at a quarter of the resolution, which saves a millisecond per unit: the background is smooth
    y, x = np.mgrid[0:1:(height // 4) * 1j, 0:1:(width // 4) * 1j].astype(np.float32)
    base = np.array(config.background_rgb, np.float32) * (1 + 0.08 * variation * rng.standard_normal(3))
    image = np.ones((3,) + x.shape, np.float32) * base.astype(np.float32)[:, None, None]
    for glow in config.glows:
        centre_x, centre_y = ((glow.x, glow.y) + 0.04 * variation * rng.standard_normal(2)).tolist()
        wide = np.exp(0.12 * variation * rng.standard_normal(2)).tolist()  # not numpy's float64, which would promote
        colour = np.array(glow.rgb) * (1 + 0.15 * variation * rng.standard_normal(3))
        shape = np.exp(-0.5 * (((x - centre_x) / (glow.width_x * wide[0])) ** 2
                               + ((y - centre_y) / (glow.width_y * wide[1])) ** 2))
        image += colour.astype(np.float32)[:, None, None] * shape
    tilt = (0.05 * variation * rng.standard_normal((2, 3, 1, 1))).astype(np.float32)
    image *= 1 + tilt[0] * (x - 0.5) * 2 + tilt[1] * (y - 0.5) * 2
    image *= 1 - np.float32(config.vignette / 2) * ((2 * x - 1) ** 4 + (2 * y - 1) ** 4)
    full = np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in image])
    full += _mottle(config, rng)
    _add_specks(full, rng.poisson(config.specks * variation), rng)
    return np.clip(full, 4, 250)


def _mottle(config: SensorConfig, rng: np.random.Generator) -> np.ndarray:
    grain = rng.standard_normal((config.height // 3, config.width // 3)).astype(np.float32)
    # 3.5 restores the contrast that the blur removes
    grain = cv2.GaussianBlur(grain, (0, 0), 1.0) * np.float32(3.5 * config.texture)
    return cv2.resize(grain, (config.width, config.height), interpolation=cv2.INTER_LINEAR)


def _add_specks(image: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Draw dust grains and scratches into the image, in place."""
    mask = np.zeros(image.shape[1:], np.uint8)
    for _ in range(count):
        x, y = int(rng.integers(0, mask.shape[1])), int(rng.integers(0, mask.shape[0]))
        long_x, long_y = rng.integers(-4, 5, 2).tolist() if rng.random() < 0.4 else (0, 0)
        cv2.line(mask, (x, y), (x + long_x, y + long_y), int(rng.integers(30, 90)), int(rng.integers(1, 3)),
                 cv2.LINE_AA)
    if count:
        image *= 1 - mask * np.float32(1 / 255)


@lru_cache(maxsize=16)  # sizes: sensors at several resolutions
def _noise_store(height: int, width: int) -> np.ndarray:
    """Noise of standard deviation 1, (3, H + spare, W + spare), correlated between neighbours as after debayering."""
    rng = np.random.default_rng(20240229)
    white = rng.standard_normal((3, height + _SPARE_PX, width + _SPARE_PX)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 0.8) for plane in white])
    store = 0.6 * white + smooth
    store /= store.std()
    store.setflags(write=False)
    return store


def add_noise(image: np.ndarray, level: float, rng: np.random.Generator) -> None:
    """Add camera noise of standard deviation level (grey levels) to the float32 image (3, H, W), in place.

    Uses a random crop of stored noise with a random sign: drawing 230,000 normal numbers per frame would take 2 ms.
    """
    height, width = image.shape[1:]
    row, column = rng.integers(0, _SPARE_PX, 2).tolist()
    signed = level if rng.random() < 0.5 else -level
    for plane, stored in zip(image, _noise_store(height, width)):
        cv2.scaleAdd(stored[row:row + height, column:column + width], signed, plane, dst=plane)
