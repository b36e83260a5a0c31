"""Which variation is added to the images of training, and how strong it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

from vit_tactile_ros.foundation.errors import UserError


@dataclass(frozen=True)
class AugmentConfig:
    """How strong each variation is; the defaults are for real data of one or two units ('gel')."""

    # Geometry, the same for frame and reference; outside the image it is mirrored.
    shift: float = 0.06  # largest, share of the image's height and width
    rotation_deg: float = 12.0  # largest, either way
    scale: float = 0.12  # largest, log of the magnification
    flip: float = 0.5  # probability, of each of left-right and up-down
    # Colour of the contact: the difference between frame and reference.
    hue_deg: float = 15.0  # largest turn about the grey axis: what lights moved around the gel do; 180: lights anywhere
    swap: float = 0.0  # probability of exchanging two channels: lights in the other order around the gel
    mixing: float = 0.1  # standard deviation of the entries added to the colour matrix
    contrast: float = 0.35  # largest, log of the difference's gain: brighter lights, softer gel
    uneven: float = 0.25  # standard deviation of the gain's slow change over the gel and per channel
    # Light of both.
    brightness: float = 0.15  # largest, log of the gain of both, per image and again per channel
    tone: float = 0.15  # largest curvature of the tone curve, 0 (linear) to 1; stands for gamma
    drift: float = 2.0  # standard deviation, grey levels: slow change over the gel and per channel since the reference
    # Lens and camera.
    blur: float = 0.5  # probability of blurring both, by up to a binomial of standard deviation 1 px of the input
    noise: float = 3.0  # largest standard deviation of a frame's noise, grey levels
    # Markers.
    markers: float = 0.3  # share of the images that get dark dots on both, including half of the erased ones
    marker_pitch: tuple[float, float] = (0.06, 0.16)  # from dot to dot, share of the width
    marker_radius: tuple[float, float] = (0.15, 0.32)  # share of the pitch
    marker_darkness: tuple[float, float] = (0.4, 0.9)  # share of the light that a dot absorbs
    erase_markers: float = 0.2  # share of the images whose dark spots are filled, as on a gel without markers
    marker_size: float = 0.055  # share of the width: smaller spots are filled
    shear: float = 0.012  # standard deviation of the surface's tangential shift, share of the width; moves dots

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                right = len(value) == 2 and 0 <= value[0] <= value[1] and math.isfinite(value[1])
                if field.name == 'marker_pitch':
                    right = right and value[0] > 0
                if field.name == 'marker_darkness':
                    right = right and value[1] <= 1
                wanted = 'two increasing numbers (smallest, largest)'
            else:
                right, wanted = math.isfinite(value) and value >= 0, 'a finite number of at least 0'
                if field.name in ('flip', 'swap', 'blur', 'markers', 'erase_markers', 'tone'):
                    right, wanted = right and value <= 1, 'between 0 and 1'
            if not right:
                raise ValueError(f'{field.name} is {value!r}; must be {wanted}')

    @classmethod
    def none(cls) -> AugmentConfig:
        """No variation: frames and references are only converted to float."""
        return cls(shift=0, rotation_deg=0, scale=0, flip=0, hue_deg=0, mixing=0, contrast=0, uneven=0, brightness=0,
                   tone=0, drift=0, blur=0, noise=0, markers=0, erase_markers=0, shear=0)

    @classmethod
    def simulated(cls) -> AugmentConfig:
        """For simulated touches, whose lights, markers and noise vary already: mostly geometry and marker filling."""
        return cls(shift=0.04, rotation_deg=8, scale=0.08, hue_deg=10, mixing=0.05, contrast=0.2, uneven=0.15,
                   brightness=0.1, tone=0.1, drift=1.0, blur=0.3, noise=1.5, markers=0.15, erase_markers=0.1,
                   shear=0.006)

    @classmethod
    def other_gel(cls) -> AugmentConfig:
        """Strong: for a network that must work on units unlike those of the training data."""
        return cls(shift=0.1, rotation_deg=25, scale=0.2, hue_deg=180, swap=0.3, mixing=0.15, contrast=0.6, uneven=0.4,
                   brightness=0.3, tone=0.3, drift=3.0, noise=5.0, markers=0.45, erase_markers=0.5, shear=0.015)


AugmentationName = Literal['auto', 'none', 'gel', 'simulated', 'other_gel']
AUGMENTATIONS: dict[AugmentationName, Callable[[], AugmentConfig]] = {
    'none': AugmentConfig.none, 'gel': AugmentConfig, 'simulated': AugmentConfig.simulated,
    'other_gel': AugmentConfig.other_gel}


@dataclass(frozen=True)
class Augmentation:
    """Which augmentation, and how strong; 'auto' depends on the data. Raises UserError naming the wrong field."""

    augment: AugmentationName = 'auto'
    augment_strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.augment_strength < math.inf:
            raise UserError(f'augment_strength is {self.augment_strength}; must be at least 0')
