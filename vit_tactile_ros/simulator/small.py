"""Training examples of small contacts, seen by a camera of enough px that they can be shown enlarged.

The cameras of `sample_example` have at most 320x240 px, and hardly any of its contacts is small enough for
`inference/closer.py`. A network that has only seen large ones calls a ball of 0.4 mm a corner or unknown
(docs/results/learning.md, A small ball).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from .contact import CLASS_NAMES, IMPRINT_NAMES, UNKNOWN, Contact
from .drift import Change
from .example import randomise, resized, sensor_of
from .imprints import sample_imprint
from .sampling import depth_range, place, sample_contact
from .sensor import SensorConfig
from .unit import SensorUnit

# Of the small contacts: most are tips, and those of balls and corners differ least.
UNKNOWN_SHARE = 0.25
DRIFT_SHARE = 0.25  # of the examples; a reference that fits worse hides most of what is small
INDENTERS = ('sphere', 'sphere', 'sphere', 'corner', 'corner', *(name for name in CLASS_NAMES[1:] if name not in (
    'sphere', 'corner')))
BALL_MM = (0.3, 1.2)  # radii
LESS = (3.0, 6.0)  # the other shapes are smaller than those of `sample_contact` by such factors
CORNERS_LESS = (1.5, 4.0)
LONGEST_MM = 5.0  # half the length of cylinders and edges, before they are made smaller
PERIODS = 2.3  # of a pattern, to each side of its centre
_FACTORS = (1.6, 2.0)  # cameras of 512x384 and 640x480 px
# Pieces that are none of the nine shapes and have an outline, so that all of them is small.
PIECES = tuple(name for name in IMPRINT_NAMES[1:]
               if len(name) == 1 or name.startswith(('star', 'bumps', 'ball_', 'bar_', 'bars')))


def draw_small(rng: np.random.Generator) -> str:
    """The class of a small contact."""
    return UNKNOWN if rng.random() < UNKNOWN_SHARE else str(rng.choice(INDENTERS))


def sample_small_example(rng: np.random.Generator, class_name: str, sensors: Sequence[SensorConfig] | None = None,
                         ) -> tuple[np.ndarray, np.ndarray, int]:
    """One example of a small contact: (image, reference, class_id), as `sample_example`; class_name: not 'no_contact'.

    Images have 1.6 or 2 times the px of the sensor along each side. The gel is relaxed one to three times (a tauter one
    leaves a tip more gradually), and the contact isn't a light one, because those are not enlarged.
    """
    config = taut(randomise(resized(sensor_of(sensors, rng), float(rng.choice(_FACTORS))), rng),
                  int(rng.integers(1, 4)))
    config = dataclasses.replace(config, markers=None)
    config, contact = sample_small(class_name, config, rng)
    unit = SensorUnit(config, rng, variation=rng.uniform(0.5, 2.0))
    change = Change.draw(unit, DRIFT_SHARE, rng)
    return change.frame(unit, contact, rng), change.reference(unit), (*CLASS_NAMES, UNKNOWN).index(class_name)


def sample_small(class_name: str, config: SensorConfig, rng: np.random.Generator) -> tuple[SensorConfig, Contact]:
    """Draw a small contact of the class: (sensor, contact), to be rendered together.

    A ball has a radius of BALL_MM. Any other contact is one of `sample_contact`, or of `sample_imprint` if unknown,
    made smaller by a factor: instead of its sizes, the sensor's view is scaled, which shows the same. The gel is scaled
    by the factor's root, so the smaller contact is on a finer gel than the ball.
    """
    if class_name == 'sphere':
        ball = Contact('sphere', 1.0, radius_mm=math.exp(rng.uniform(*np.log(BALL_MM))),
                       aspect=rng.uniform(1.0, 1.4) if rng.random() < 0.3 else 1.0,
                       angle_rad=rng.uniform(-math.pi, math.pi))
        ball = dataclasses.replace(ball, depth_mm=rng.uniform(*depth_range(ball, config)))
        x_mm, y_mm = place(ball, config, rng)
        return config, dataclasses.replace(ball, x_mm=x_mm, y_mm=y_mm)
    factor = math.exp(rng.uniform(*np.log(CORNERS_LESS if class_name == 'corner' else LESS)))
    finer = math.sqrt(factor)
    gel = dataclasses.replace(config.gel, spread_mm=tuple(finer * spread for spread in config.gel.spread_mm),
                              skin_mm=finer * config.gel.skin_mm)
    config = dataclasses.replace(config, mm_per_px=factor * config.mm_per_px, gel=gel,
                                 depth_rgb=tuple(level / factor for level in config.depth_rgb))
    if class_name == UNKNOWN:
        return config, sample_imprint(str(rng.choice(PIECES)), config, rng)
    contact = sample_contact(class_name, config, rng)
    most = PERIODS * contact.pitch_mm if contact.pitch_mm else contact.radius_mm
    return config, dataclasses.replace(contact, length_mm=min(contact.length_mm, LONGEST_MM),
                                       radius_mm=min(contact.radius_mm, most))


def taut(config: SensorConfig, times: int) -> SensorConfig:
    """The sensor with a gel that is relaxed so many times."""
    spreads = tuple(spread for spread in config.gel.spread_mm for _ in range(times))
    return dataclasses.replace(config, gel=dataclasses.replace(config.gel, spread_mm=spreads))
