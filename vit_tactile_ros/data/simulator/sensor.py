"""What a camera-based touch sensor is: its optics, lights, gel and camera, as plain numbers with units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Light:
    """A coloured light beside the gel, far enough away to be parallel, with a falloff across the gel.

    The azimuth is the direction towards the light in the image: 0 is right, pi/2 is down (y points down).
    """

    azimuth_rad: float
    elevation_rad: float  # above the gel's plane; grazing lights (0.3 to 0.7) show shape, steep ones do not
    rgb: tuple[float, ...]  # red, green, blue: grey levels that a surface facing the light receives, per channel
    falloff: float = 0.25  # brightness changes by exp(+-falloff) from the centre to the near or far border


@dataclass(frozen=True)
class Glow:
    """A smooth bright patch of the no-contact picture; positions and widths are fractions of the picture."""

    x: float  # 0 left to 1 right
    y: float  # 0 top to 1 bottom
    width_x: float  # standard deviation
    width_y: float
    rgb: tuple[float, ...]  # grey levels added at its centre; negative darkens


@dataclass(frozen=True)
class Markers:
    """Dark dots printed on the gel in a square grid, which move with shear."""

    pitch_mm: float = 1.9
    radius_mm: float = 0.28
    darkness: float = 0.8  # share of the light they swallow, 0 to 1


@dataclass(frozen=True)
class Gel:
    """How the gel follows an indenter: it stretches around the contact, coarse to fine."""

    # standard deviations of the blurs of the displaced surface, wide ones first (a pyramid as in Taxim)
    spread_mm: tuple[float, ...] = (0.75, 0.32, 0.13)
    skin_mm: float = 0.07  # the painted skin rounds off anything finer than this (standard deviation)
    max_depth_mm: float = 1.4  # deeper presses would reach the gel's backing


@dataclass(frozen=True)
class SensorConfig:
    """One model of sensor. A physical unit of it, with its tolerances, is a SensorUnit."""

    name: str
    height: int  # px
    width: int  # px
    mm_per_px: float
    lights: tuple[Light, ...]
    background_rgb: tuple[float, ...]  # grey levels, before glows and vignette
    glows: tuple[Glow, ...]
    vignette: float = 0.35  # share of the light lost in the corners, 0 to 1
    shadow: float = 0.35  # share of a light lost behind a steep bump, 0 to 1; 0 turns shadows off
    lens_blur_px: float = 0.6  # standard deviation
    noise: float = 1.2  # grey levels, standard deviation
    texture: float = 0.6  # grey levels, standard deviation of the fixed mottle of the gel's paint
    specks: int = 4  # dust grains and scratches of a unit, on average
    gel: Gel = field(default_factory=Gel)
    markers: Markers | None = None

    def __post_init__(self) -> None:
        for name in ('height', 'width'):
            if getattr(self, name) < 32:
                raise ValueError(f'{name} is {getattr(self, name)!r} px; a sensor needs at least 32')
        if not (math.isfinite(self.mm_per_px) and self.mm_per_px > 0):
            raise ValueError(f'mm_per_px is {self.mm_per_px!r}; it must be a positive number of mm')
        if not self.lights:
            raise ValueError('lights is empty; a sensor needs at least one Light')

    @property
    def half_size_mm(self) -> tuple[float, float]:
        """Half the visible width and half the visible height (x, y) in mm."""
        return self.width * self.mm_per_px / 2, self.height * self.mm_per_px / 2


# Colours and glows are set by eye after published pictures; a calibration to real units replaces them.
GELSIGHT = SensorConfig(
    name='gelsight',
    height=240,
    width=320,
    mm_per_px=0.058,  # 18.6 x 13.9 mm
    lights=(
        Light(azimuth_rad=-1.9, elevation_rad=0.45, rgb=(125.0, 28.0, 12.0), falloff=0.15),
        Light(azimuth_rad=2.75, elevation_rad=0.45, rgb=(14.0, 84.0, 22.0), falloff=0.30),
        Light(azimuth_rad=0.85, elevation_rad=0.45, rgb=(16.0, 30.0, 125.0), falloff=0.15),
    ),
    background_rgb=(34.0, 88.0, 92.0),
    glows=(
        Glow(0.50, 0.50, 0.24, 0.25, (88.0, 18.0, 52.0)),
        Glow(0.50, 0.28, 0.40, 0.26, (-6.0, 16.0, 42.0)),
        Glow(0.45, 1.00, 0.35, 0.30, (36.0, 8.0, -18.0)),
        Glow(0.00, 0.40, 0.18, 0.50, (0.0, 26.0, 6.0)),
    ),
)

DIGIT = SensorConfig(
    name='digit',
    height=320,
    width=240,
    mm_per_px=0.0625,  # 15 x 20 mm
    lights=(
        Light(azimuth_rad=3.0, elevation_rad=0.45, rgb=(130.0, 22.0, 24.0), falloff=0.35),
        Light(azimuth_rad=0.2, elevation_rad=0.45, rgb=(18.0, 120.0, 22.0), falloff=0.30),
        Light(azimuth_rad=-1.5, elevation_rad=0.45, rgb=(22.0, 26.0, 110.0), falloff=0.20),
    ),
    background_rgb=(42.0, 88.0, 74.0),
    glows=(
        Glow(0.18, 0.36, 0.26, 0.20, (122.0, -4.0, 22.0)),
        Glow(0.58, 0.38, 0.30, 0.28, (26.0, 46.0, 4.0)),
        Glow(0.45, 0.02, 0.40, 0.14, (46.0, 16.0, 76.0)),
        Glow(0.42, 0.76, 0.24, 0.12, (30.0, 6.0, 54.0)),
        Glow(0.00, 1.00, 0.35, 0.22, (26.0, -22.0, -4.0)),
    ),
    noise=1.5,
    vignette=0.30,
)
