"""Units whose images a learned generator draws, from the same contacts: the optics of a real GelSight Mini.

The generator is passed in. That of `data.picture_generator` has learned from touches whose foremost point lies 2.125 mm
below the surface, whatever was pressed in. Of these it shows only what lies less than about half a millimetre behind
that point, so `press_depth` maps a contact of ours to that range. It draws an image that is pressed in everywhere as if
it were untouched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from .contact import Contact
from .faint import Faint
from .sensor import SensorConfig
from .sensor_file import load_sensor
from .shapes import penetration
from .unit import SensorUnit

SIDE_PX = 256  # of the generator's square images, which show VIEW_MM
VIEW_MM = (18.88, 14.16)  # along x and y
PRESS_MM = 2.125  # depth of the foremost point in all touches that the generator has learned from
SHOWN_MM = 0.5  # height behind the foremost point that the generator shows
GAP_FACTOR = 4.0  # makes what does not touch disappear; to scale, the plate behind the ridges would touch too
LEAST_SHOWN = 6.0  # grey levels at the peak of a change that is an image of the contact

# Shares of full scale (255), measured on recordings of real sensors by the authors of the generator.
FRAME_NOISE, FRAME_EXPONENT = 0.0038, 1.4
PATTERN, PATTERN_EXPONENT = 0.0093, 4.0
GAIN, OFFSET = 0.047, 0.0094
CHANNELS_ALIKE = 0.3  # correlation between the colour channels of noise and pattern

# From the depth as a share of PRESS_MM, float32 (SIDE_PX, SIDE_PX), to grey levels, float32 (SIDE_PX, SIDE_PX, 3) RGB.
Generator = Callable[[np.ndarray], np.ndarray]


class ContactNotShown(ValueError):
    """The generator does not show the contact: it touches everywhere, or too lightly."""


def generated_config() -> SensorConfig:
    """The geometry of the sensor that the generator draws: a GelSight Mini without markers, 240x320 px."""
    mini = load_sensor('gelsight')
    return dataclasses.replace(mini, name='gelsight_mini_generated', mm_per_px=VIEW_MM[0] / mini.width, markers=None,
                               noise=255 * FRAME_NOISE, source='tactile-mnist 0.13.0 (MIT)')


def press_depth(penetration_mm: np.ndarray) -> np.ndarray:
    """What the generator takes, float32 (H, W), 0 (untouched) to 1, of the depths of `shapes.penetration`.

    True to scale behind the foremost point; contacts deeper than SHOWN_MM are flattened to it.
    """
    deepest = float(penetration_mm.max())
    if deepest <= 0:
        return np.zeros_like(penetration_mm)
    behind = deepest - np.where(penetration_mm > 0, penetration_mm, GAP_FACTOR * penetration_mm)
    return np.clip(1 - behind * np.float32(min(1.0, SHOWN_MM / deepest) / PRESS_MM), 0, 1).astype(np.float32)


class GeneratedUnit(SensorUnit):
    """As `SensorUnit`, with images of the generator; units differ in gain, offset and a smooth pattern, not in lights.

    Touch and reference are of the same unit: the reference is the generator's untouched image. Raises ContactNotShown
    from `render`, for a contact with hardly any effect on the image.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator, variation: float = 1.0, *,
                 generator: Generator) -> None:
        super().__init__(config, rng, variation)
        self._generator = generator
        self._untouched = generator(np.zeros((SIDE_PX, SIDE_PX), np.float32))
        self._contrast = np.float32(1 + GAIN * variation * rng.standard_normal())
        self.noise = 255 * FRAME_NOISE  # as measured, whatever `randomise` drew for the simulator
        size = (config.height, config.width)
        still = self._seen(self._untouched)
        mean = still.mean()
        pattern = 255 * PATTERN * variation * power_field(size, PATTERN_EXPONENT, rng)
        level = mean + np.float32(255 * OFFSET * variation * rng.standard_normal())
        self.background = np.clip((still - mean) * self._contrast + level + pattern, 4, 250)
        self.reference = self.render(None, rng)

    def _seen(self, picture: np.ndarray) -> np.ndarray:
        """(SIDE_PX, SIDE_PX, 3) at the camera's resolution, (3, H, W)."""
        seen = cv2.resize(picture, (self.config.width, self.config.height), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(seen.transpose(2, 0, 1))

    def _add_shading(self, contact: Contact, image: np.ndarray, faint: Faint | None = None) -> None:
        reached = cv2.resize(penetration(contact, self.x_mm, self.y_mm), (SIDE_PX, SIDE_PX))
        changes = self._seen(self._generator(press_depth(reached)) - self._untouched) * self._contrast
        if (peak := float(np.abs(changes).max())) < LEAST_SHOWN:
            raise ContactNotShown(f'the image of the {contact.class_name} changes by {peak:.1f} grey levels at most')
        if faint is not None:
            changes = self._weakened(changes, faint)
        image += changes
        np.maximum(image, 0, out=image)

    def _add_noise(self, image: np.ndarray, rng: np.random.Generator) -> None:
        # another part of one stored field, mirrored or not: drawing a field takes 15 ms
        stored = _stored_field(image.shape[1:], FRAME_EXPONENT)
        rows, columns = rng.integers(0, image.shape[1]), rng.integers(0, image.shape[2])
        image += np.float32(self.noise * rng.choice((-1, 1))) * np.roll(stored, (rows, columns), axis=(1, 2))


def power_field(size: tuple[int, int], exponent: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian random field of standard deviation 1, float32 (3, H, W), periodic, with power 1 / frequency**exponent.

    The colour channels correlate by CHANNELS_ALIKE.
    """
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height, 1 / height)[:, None], np.fft.rfftfreq(width, 1 / width)[None])
    amplitude = np.divide(1.0, frequency ** (exponent / 2), out=np.zeros_like(frequency), where=frequency > 0)
    planes = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((4, height, width))) * amplitude, s=size)
    planes /= planes.std(axis=(1, 2), keepdims=True)
    mixed = np.sqrt(1 - CHANNELS_ALIKE) * planes[:3] + np.sqrt(CHANNELS_ALIKE) * planes[3]
    field: np.ndarray = mixed.astype(np.float32)
    return field


@lru_cache(maxsize=8)  # sizes
def _stored_field(size: tuple[int, int], exponent: float) -> np.ndarray:
    field = power_field(size, exponent, np.random.default_rng(20240301))
    field.setflags(write=False)
    return field
