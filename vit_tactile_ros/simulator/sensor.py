"""A model of a camera-based touch sensor: optics, lights, gel and camera, as numbers with units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vit_tactile_ros.foundation.errors import UserError, shown


@dataclass(frozen=True)
class Light:
    """A coloured light beside the gel, far enough away to be parallel, with a falloff across the gel.

    The azimuth is the direction towards the light in the image: 0 is right, pi/2 is down (y points down).
    """

    azimuth_rad: float
    elevation_rad: float  # above the gel's plane; grazing lights (0.3 to 0.7) show shape, steep ones do not
    # red, green, blue: grey levels that a surface facing the light receives; a camera's colour correction may make one
    # negative
    rgb: tuple[float, ...]
    falloff: float = 0.25  # brightness changes by exp(+-falloff) from the centre to the near or far border


@dataclass(frozen=True)
class Glow:
    """A smooth bright patch of the no-contact image; positions and widths are fractions of its size."""

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
    darkness: float = 0.8  # share of the light that they absorb, 0 to 1
    reach_mm: float = 2.5  # distance from a contact over which it drags the gel's surface along


@dataclass(frozen=True)
class Gel:
    """How the gel follows an indenter: it stretches around the contact, coarse to fine."""

    # standard deviations of the blurs of the displaced surface, wide ones first (a pyramid as in Taxim)
    spread_mm: tuple[float, ...] = (0.75, 0.32, 0.13)
    skin_mm: float = 0.07  # the painted skin rounds off anything finer than this (standard deviation)
    max_depth_mm: float = 2.0  # a deeper press would reach the gel's backing


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
    depth_rgb: tuple[float, ...] = (0.0, 0.0, 0.0)  # grey levels per mm that the surface comes towards the camera
    vignette: float = 0.35  # share of the light lost in the corners, 0 to 1
    shadow: float = 0.35  # share of a light lost behind a steep bump, 0 to 1; 0 turns shadows off
    lens_blur_px: float = 0.6  # standard deviation
    noise: float = 1.2  # grey levels, standard deviation
    texture: float = 0.6  # grey levels, standard deviation of the fixed mottle of the gel's paint
    specks: int = 4  # dust grains and scratches of a unit, on average
    gel: Gel = field(default_factory=Gel)
    markers: Markers | None = None
    source: str = ''  # where the numbers come from; human-readable

    def __post_init__(self) -> None:
        for name in ('height', 'width'):
            if getattr(self, name) < 32:
                raise UserError(f'{name} is {shown(getattr(self, name))} px; a sensor needs at least 32')
        if not (math.isfinite(self.mm_per_px) and self.mm_per_px > 0):
            raise UserError(f'mm_per_px is {self.mm_per_px!r}; it must be a positive number of mm')
        if not self.lights:
            raise UserError('lights is empty; a sensor needs at least one Light')

    @property
    def half_size_mm(self) -> tuple[float, float]:
        """Half the visible width and half the visible height (x, y) in mm."""
        return self.width * self.mm_per_px / 2, self.height * self.mm_per_px / 2
