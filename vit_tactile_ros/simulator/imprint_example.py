"""Training examples of imprints: as varied as those of the shapes, but the class can be told by eye in most of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .contact import IMPRINT_NAMES
from .drift import Change
from .example import any_sensor, randomise
from .faint import sample_faint
from .imprints import sample_imprint
from .sensor import SensorConfig
from .unit import SensorUnit

LIGHT_SHARE = 0.2  # of the touches; half of them peak below about 20 grey levels
LEAST_LEVELS = 8.0  # grey levels above the least visible; weaker, a hexagon looks like a disc
DRIFT_SHARE = 0.25  # of the examples; see `example.DRIFT_SHARE`


def sample_imprint_example(rng: np.random.Generator, class_name: str,
                           sensors: Sequence[SensorConfig] | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """One example: (image, reference, class_id), as `sample_example`; class_name: one of IMPRINT_NAMES.

    On gels without markers, which hide strokes as wide as they are.
    """
    config = dataclasses.replace(randomise(any_sensor(sensors, rng), rng), markers=None)
    unit = SensorUnit(config, rng, variation=rng.uniform(0.5, 2.0))
    change = Change.draw(unit, DRIFT_SHARE, rng)
    contact, faint = None, None
    if class_name != IMPRINT_NAMES[0]:
        contact = sample_imprint(class_name, config, rng)
        if rng.random() < LIGHT_SHARE:
            faint = sample_faint(change.least_visible + LEAST_LEVELS, rng)
    return change.frame(unit, contact, rng, faint), change.reference(unit), IMPRINT_NAMES.index(class_name)
