"""Training examples of the states of a held object: frames of one unit, a short time apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from .contact import CLASS_NAMES
from .drift import Change
from .example import DRIFT_SHARE, FAINT_SHARE, any_sensor, randomise
from .faint import sample_faint, sample_faint_contact
from .friction import STATE_NAMES
from .handling import ACTIVITIES, sample_handling
from .sampling import sample_contact
from .sensor import Markers, SensorConfig
from .unit import SensorUnit

# Gels without markers show a slip only by the imprint; most gels that are used for it have them.
MARKERS_SHARE = 0.8

# what may have happened to an object that is in the state
_LEADING_TO = {
    'no_contact': ACTIVITIES, 'stable': ACTIVITIES,
    'moving': ('shake', 'shake', 'shake', 'shake', 'squeeze', 'pull', 'rest', 'loosen'),
    'slip': ('slip', 'slip', 'twist', 'pull', 'loosen', 'drop'),
}


def sample_state_example(rng: np.random.Generator, interval_s: float = 0.08, config: SensorConfig | None = None,
                         sensors: Sequence[SensorConfig] | None = None,
                         state_name: str | None = None,
                         views: int = 1) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, int]:
    """One training example: (frame, previous, reference, state_id), images uint8 (H, W, 3) RGB of the same unit.

    previous holds `views` images, taken 1, 2, 4, ... times interval_s before the frame; the state, an index of
    STATE_NAMES, is that of the motion since the first of them.
    The reference is an earlier no-contact image; light and gel have drifted since as in sample_example.
    config, sensors: as for sample_example. state_name: if None, drawn uniformly; ValueError if unknown.
    """
    if state_name is None:
        state_name = STATE_NAMES[int(rng.integers(len(STATE_NAMES)))]
    elif state_name not in STATE_NAMES:
        raise ValueError(f'state_name is {state_name!r}; it must be one of {", ".join(STATE_NAMES)}')
    if not (math.isfinite(interval_s) and interval_s > 0):
        raise ValueError(f'interval_s is {interval_s!r}; must be above 0 s')
    varied = randomise(any_sensor(sensors, rng) if config is None else config, rng)
    markers = None
    if rng.random() < MARKERS_SHARE:
        # as on GelSight Mini gels with dots: 1.9 and 2.6 mm apart, less than half as bright as the gel around them
        pitch = rng.uniform(1.6, 2.9)
        markers = Markers(pitch, pitch * rng.uniform(0.11, 0.18), rng.uniform(0.4, 0.8), reach_mm=rng.uniform(2.0, 7.0))
    varied = dataclasses.replace(varied, markers=markers)
    unit = SensorUnit(varied, rng, variation=rng.uniform(0.5, 2.0))
    change = Change.draw(unit, DRIFT_SHARE, rng)

    name = str(rng.choice(CLASS_NAMES[1:]))
    faint = None
    if rng.random() < FAINT_SHARE:
        contact = sample_faint_contact(name, varied, rng)
        # a motion changes the image by a share of what the contact does
        faint = sample_faint(2 * change.least_visible, rng)
    else:
        contact = sample_contact(name, varied, rng, depth_fraction=rng.uniform(0.2, 1.0))
    while True:
        activity = str(rng.choice(_LEADING_TO[state_name]))
        if activity == 'twist' and name == 'sphere':
            continue  # a ball that turns looks like one that does not
        handling = sample_handling(varied, rng, (activity,), contact)
        times = handling.times(state_name, interval_s)
        if len(times):
            break
        contact = sample_contact(name, varied, rng, depth_fraction=rng.uniform(0.2, 1.0))
        faint = None
    now = float(rng.choice(times))
    # light and gel change hardly at all within a tenth of a second
    flicker = (1 + 0.002 * rng.standard_normal((3, 1, 1))).astype(np.float32)
    frames = []
    for t, light in (*((now - interval_s * 2**view, 1.0) for view in range(views)), (now, flicker)):
        creep = handling.creep_mm(t)
        moment = dataclasses.replace(change, lighting=change.lighting * light,
                                     creep_mm=(change.creep_mm[0] + creep[0], change.creep_mm[1] + creep[1]))
        touch = handling.contact(t)
        weak = faint
        if faint and touch:  # as deep, as strong
            weak = dataclasses.replace(faint, levels=faint.levels * touch.depth_mm / contact.depth_mm)
        frames.append(moment.frame(unit, touch, rng, weak))
    *previous, frame = frames
    return frame, previous, change.reference(unit), STATE_NAMES.index(state_name)

