"""Random light touches: wide and shallow ones, large and soft objects, contacts at the border of the gel."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .contact import Contact
from .sampling import BALL_MM, sample_contact
from .sensor import SensorConfig


@dataclasses.dataclass(frozen=True)
class Faint:
    """How weak the image of a contact is: in this range, brightness changes in proportion to the gel's slope."""

    levels: float  # grey levels at the peak of the change, in the most changed channel
    soft_mm: float = 0.0  # a soft object rounds off its own shape: standard deviation


def sample_faint(least: float, rng: np.random.Generator) -> Faint:
    """Draw a strength from `least` to 60 grey levels, half of them below about 14; a quarter of the objects is soft."""
    levels = math.exp(rng.uniform(math.log(least), math.log(60.0)))
    return Faint(levels, soft_mm=rng.uniform(0.1, 0.5) if rng.random() < 0.25 else 0.0)


def sample_faint_contact(class_name: str, config: SensorConfig, rng: np.random.Generator,
                         smallest_ball_mm: float = BALL_MM) -> Contact:
    """Draw a light touch by an indenter of the class; its class may not be recognisable.

    The sizes are those of household objects pressed against a real gel: a tomato touches 11 mm of it, only the rim of a
    ruler touches, a grain of rice touches less than a millimetre. smallest_ball_mm: radius.
    """
    shape = sample_contact(class_name, config, rng, depth_fraction=0.0)
    half_x, half_y = config.half_size_mm
    deepest = config.gel.max_depth_mm
    reach = math.exp(rng.uniform(math.log(0.7), math.log(0.9 * half_y)))  # half the width that touches
    if class_name in ('sphere', 'cylinder'):
        radius = math.exp(rng.uniform(math.log(smallest_ball_mm if class_name == 'sphere' else 1.4), math.log(30.0)))
        reach = min(reach, 0.7 * radius, math.sqrt(deepest * radius))
        tilt = rng.normal(0.0, 0.03) if class_name == 'cylinder' else 0.0
        shape = dataclasses.replace(shape, radius_mm=radius, depth_mm=reach**2 / (2 * radius), tilt_x=tilt)
    elif class_name in ('edge', 'corner'):
        slope = math.exp(rng.uniform(math.log(0.06), math.log(0.9)))
        reach = min(reach, deepest / slope) if class_name == 'edge' else min(reach, 0.6 * deepest / slope)
        shape = dataclasses.replace(shape, slope=slope, depth_mm=reach * slope)
    elif class_name in ('flat', 'ring'):
        # tilted, so that only a side of many touches
        radius = rng.uniform(1.7, 1.1 * half_x) if class_name == 'flat' else rng.uniform(1.7, 0.9 * half_y)
        tilt_x, tilt_y = rng.normal(0.0, 0.12 / radius, 2).tolist()
        shape = dataclasses.replace(shape, radius_mm=radius, tilt_x=tilt_x, tilt_y=tilt_y,
                                    depth_mm=rng.uniform(0.04, 0.3))
    else:
        # finer patterns than those whose class must be recognisable: sponges, cloth, leather
        fine = rng.uniform(0.4, 1.0) if rng.random() < 0.5 else 1.0
        relief = shape.relief_mm * fine
        shape = dataclasses.replace(shape, pitch_mm=shape.pitch_mm * fine, width_mm=shape.width_mm * fine,
                                    relief_mm=relief, depth_mm=rng.uniform(0.1, 0.6) * relief,
                                    backing_mm=shape.backing_mm * rng.uniform(0.3, 1.0))
    room_x, room_y = half_x - 0.5, half_y - 0.5  # the border of the gel cuts many of them off
    return dataclasses.replace(shape, x_mm=rng.uniform(-room_x, room_x), y_mm=rng.uniform(-room_y, room_y))
