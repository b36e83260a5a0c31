"""Random contacts that a person could classify: large, deep, in view and unambiguous."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .contact import CLASS_NAMES, UNKNOWN, Contact
from .sensor import SensorConfig
from .unknown import sample_unknown

BALL_MM = 1.4  # radius of the smallest ball by default
SMALLEST_BALL_MM = 0.35  # the tip of a probe or pen; without these in training, a network takes them for corners


def sample_contact(class_name: str, config: SensorConfig, rng: np.random.Generator,
                   depth_fraction: float | None = None, smallest_ball_mm: float = BALL_MM) -> Contact:
    """Draw a contact of the class that is visible and unambiguous on this sensor.

    depth_fraction: 0 for the shallowest press that still shows the class, 1 for the deepest sensible one; drawn if
    None. smallest_ball_mm: its radius. Raises ValueError for an unknown class, for 'no_contact' (render None instead),
    and for a fraction outside 0 to 1.
    """
    if class_name not in (*_SAMPLERS, UNKNOWN):
        raise ValueError(f'class_name is {class_name!r}; must be one of {", ".join((*CLASS_NAMES[1:], UNKNOWN))}'
                         + (' (for no contact, render None)' if class_name == 'no_contact' else ''))
    if depth_fraction is None:
        depth_fraction = rng.uniform()
    elif not 0 <= depth_fraction <= 1:
        raise ValueError(f'depth_fraction is {depth_fraction!r}; must be between 0 (shallowest) and 1 (deepest)')
    if class_name == UNKNOWN:
        return sample_unknown(config, rng, depth_fraction)
    shape = _sphere(config, rng, smallest_ball_mm) if class_name == 'sphere' else _SAMPLERS[class_name](config, rng)
    shallowest, deepest = depth_range(shape, config)
    shape = dataclasses.replace(shape, depth_mm=shallowest + depth_fraction * (deepest - shallowest),
                                angle_rad=rng.uniform(-math.pi, math.pi))
    x_mm, y_mm = place(shape, config, rng)
    return dataclasses.replace(shape, x_mm=x_mm, y_mm=y_mm)


def depth_range(contact: Contact, config: SensorConfig) -> tuple[float, float]:
    """The shallowest press (mm) that still shows this shape's class, and the deepest sensible one."""
    c = contact
    if c.class_name == 'sphere':
        # the contact disc's radius is sqrt(2 R d - d^2): at least 1 mm, or nine tenths of a smaller ball's; small balls
        # are pressed in up to their equator, like the 4 mm ball of Taxim's calibration, and tips of probes deeper
        shallowest = min(max(0.28, 0.5 / c.radius_mm), 0.6 * c.radius_mm + 0.1)
        deepest = c.radius_mm if c.radius_mm >= BALL_MM else min(c.radius_mm + 0.8, 1.5)
    elif c.class_name == 'cylinder':
        # at least 0.9 mm to each side: a narrower strip would look like an edge
        shallowest, deepest = max(0.28, 0.4 / c.radius_mm), 0.7 * c.radius_mm
    elif c.class_name == 'edge':
        shallowest, deepest = 0.35, 1.1
    elif c.class_name == 'corner':
        shallowest, deepest = max(0.55, 0.95 * c.slope), 1.4
    elif c.class_name in ('flat', 'ring'):
        shallowest, deepest = 0.3, 0.95
    elif c.class_name == UNKNOWN:
        shallowest, deepest = 0.7 * c.depth_mm, c.depth_mm
    else:
        # a pattern pressed in down to its base would look like a flat punch
        shallowest, deepest = 0.3, 0.85 * c.relief_mm
    deepest = min(deepest, config.gel.max_depth_mm)
    return min(shallowest, deepest), deepest


def place(contact: Contact, config: SensorConfig, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a position (x, y in mm) at which enough of the contact is in view."""
    half_x, half_y = config.half_size_mm
    if contact.class_name == UNKNOWN:
        margin = 0.55 * min(half_x, half_y)
    elif contact.class_name in ('sphere', 'corner', 'flat', 'ring'):
        # entirely in view, except for the rim of large ones
        margin = 0.85 * touched_radius(contact) + 0.4
    elif contact.class_name in ('cylinder', 'edge'):
        margin = 3.0  # a long piece of the line is in view at any angle
    else:
        margin = max(2.5 * contact.pitch_mm, 0.6 * contact.radius_mm)  # several periods are in view
    room_x, room_y = max(half_x - margin, 0.3), max(half_y - margin, 0.3)
    return rng.uniform(-room_x, room_x), rng.uniform(-room_y, room_y)


def touched_radius(contact: Contact) -> float:
    """How far from its origin a contact touches the gel, in mm; across its axis if it is long."""
    if contact.class_name in ('sphere', 'cylinder'):
        depth = min(contact.depth_mm, contact.radius_mm)  # beyond the equator it grows no wider
        return math.sqrt(depth * (2 * contact.radius_mm - depth))
    if contact.class_name == 'edge':
        return contact.depth_mm / contact.slope
    if contact.class_name == 'corner':
        return 1.4 * contact.depth_mm / contact.slope
    if contact.class_name == 'flat':
        return contact.radius_mm * contact.aspect * _corner_reach(contact.sides)
    return contact.radius_mm + contact.width_mm


def _corner_reach(sides: int) -> float:
    """How much farther a polygon's corners are from its centre than its sides; 1 for a disc (sides 0)."""
    return 1 / math.cos(math.pi / sides) if sides else 1.0


def _tilt(rng: np.random.Generator, most: float) -> dict[str, Any]:
    return {'tilt_x': rng.uniform(-most, most), 'tilt_y': rng.uniform(-most, most)}


# `sample_contact` sets depth, position and angle; the depth of 1 is a placeholder.

def _sphere(config: SensorConfig, rng: np.random.Generator, smallest_mm: float = BALL_MM) -> Contact:
    # pressed this little, a ball above 5 mm has hardly any slope and would look like a flat punch
    return Contact('sphere', 1.0, radius_mm=math.exp(rng.uniform(math.log(smallest_mm), math.log(5.0))))


def _cylinder(config: SensorConfig, rng: np.random.Generator) -> Contact:
    radius = math.exp(rng.uniform(math.log(1.4), math.log(3.5)))  # thinner ones would look like an edge
    through = 2 * max(config.half_size_mm)
    length = through if rng.random() < 0.5 else rng.uniform(1.8 * radius + 1.2, 1.8 * radius + 4.0)
    return Contact('cylinder', 1.0, radius_mm=radius, length_mm=length, tilt_x=rng.uniform(-0.02, 0.02))


def _edge(config: SensorConfig, rng: np.random.Generator) -> Contact:
    length = 2 * max(config.half_size_mm) if rng.random() < 0.6 else rng.uniform(3.5, 6.0)
    slope = rng.uniform(0.45, 0.95)
    return Contact('edge', 1.0, length_mm=length, slope=slope, aspect=math.exp(rng.uniform(-0.4, 0.4)),
                   tilt_x=rng.uniform(-0.015, 0.015))


def _corner(config: SensorConfig, rng: np.random.Generator) -> Contact:
    return Contact('corner', 1.0, slope=rng.uniform(0.45, 0.85), sides=int(rng.choice((3, 4))),
                   aspect=math.exp(rng.uniform(-0.3, 0.3)))


def _flat(config: SensorConfig, rng: np.random.Generator) -> Contact:
    sides = int(rng.choice((0, 3, 4, 4, 5, 6)))
    # a triangle's corners reach twice as far: at the size of the others it would look like edges
    radius = rng.uniform(1.3, 2.0) if sides == 3 else rng.uniform(1.7, 3.6)
    return Contact('flat', 1.0, radius_mm=radius, sides=sides, aspect=rng.uniform(1.0, 1.4),
                   **_tilt(rng, 0.12 / (radius * _corner_reach(sides))))


def _ring(config: SensorConfig, rng: np.random.Generator) -> Contact:
    radius = rng.uniform(1.7, 4.4)
    # the hole is wide enough for the gel to recover inside it
    width = rng.uniform(0.45, min(0.9, radius - 1.1))
    return Contact('ring', 1.0, radius_mm=radius, width_mm=width, **_tilt(rng, 0.10 / radius))


def _pattern(class_name: str, rng: np.random.Generator, pitch: float, relief: float,
             **sizes: Any) -> Contact:
    # at least 2.2 periods to each side of the centre: five ridges, or a lattice of five by five
    radius = rng.uniform(max(2.2 * pitch, 3.2), max(3.2 * pitch, 8.5))
    # at 2.2 periods the dome reduces the shallowest press (0.3 mm) by at most two thirds
    dome = rng.uniform(0.0, 0.2)
    backing = (2.2 * pitch) ** 2 / (2 * dome) if dome > 0.02 else 0.0
    return Contact(class_name, 1.0, pitch_mm=pitch, relief_mm=relief, radius_mm=radius, backing_mm=backing,
                   **_tilt(rng, 0.06 / (2.2 * pitch)), **sizes)


def _dots(config: SensorConfig, rng: np.random.Generator) -> Contact:
    pitch = rng.uniform(1.5, 2.6)
    width = rng.uniform(0.24, 0.38) * pitch
    return _pattern('dots', rng, pitch, relief=rng.uniform(0.8, 1.3) * width, width_mm=width,
                    sides=int(rng.choice((4, 6))))


def _ridges(config: SensorConfig, rng: np.random.Generator) -> Contact:
    pitch = rng.uniform(1.1, 2.4)
    return _pattern('ridges', rng, pitch, relief=rng.uniform(0.40, 0.55) * pitch,
                    sides=int(rng.choice((0, 4))))


def _weave(config: SensorConfig, rng: np.random.Generator) -> Contact:
    pitch = rng.uniform(1.2, 2.4)
    width = rng.uniform(0.24, 0.34) * pitch  # open meshes: with closed ones the crossings look like dots
    return _pattern('weave', rng, pitch, relief=rng.uniform(1.2, 1.4) * width, width_mm=width,
                    sides=int(rng.choice((0, 4))))


_SAMPLERS: dict[str, Callable[[SensorConfig, np.random.Generator], Contact]] = {
    'sphere': _sphere, 'cylinder': _cylinder, 'edge': _edge, 'corner': _corner, 'flat': _flat, 'ring': _ring,
    'dots': _dots, 'ridges': _ridges, 'weave': _weave,
}
