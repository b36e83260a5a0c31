"""Training examples that vary far more than real units, so that networks trained on them are robust."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from .contact import CLASS_NAMES, UNKNOWN, Contact
from .drift import Change
from .faint import sample_faint, sample_faint_contact
from .sampling import BALL_MM, SMALLEST_BALL_MM, sample_contact
from .sensor import Light, Markers, SensorConfig
from .sensor_file import load_sensor, sensor_names
from .unit import SensorUnit

# Light touches are more frequent than a network that was trained without them would need to classify the clear ones:
# it missed all real presses that peak at less than 8 grey levels and 43 % of those from 12 to 20.
FAINT_SHARE = 0.3
LEAST_UNKNOWN = 5.0  # grey levels above the least visible; weaker, other objects look like the indenters
# Half of the examples, because a reference that no longer fits turned a quarter of untouched frames into touches; the
# other half keeps what a fresh reference shows.
DRIFT_SHARE = 0.5
LIGHTEST_BALL_MM = 0.6  # radius of the smallest ball that touches lightly, of wide examples


def sample_example(rng: np.random.Generator, config: SensorConfig | None = None,
                   class_name: str | None = None,
                   sensors: Sequence[SensorConfig] | None = None, *, faint_share: float = FAINT_SHARE,
                   drift_share: float = DRIFT_SHARE, wide: bool = False,
                   make_unit: Callable[..., SensorUnit] = SensorUnit) -> tuple[np.ndarray, np.ndarray, int]:
    """One training example: (image, reference, class_id), both images uint8 (H, W, 3) RGB of the same unit.

    The reference is an earlier no-contact image with its own noise. Since then, light and gel have drifted, by up to
    15 grey levels in drift_share of the examples, whether touched or not. faint_share of the contacts are light ones.
    config: if None, one of `sensors` (default: those of the package) at one of the usual camera resolutions, so H
    and W vary between calls. class_name: if None, drawn uniformly from CLASS_NAMES; ValueError if unknown. wide: more
    different sensors, as `randomise`, and balls from SMALLEST_BALL_MM on. make_unit: called as SensorUnit is.
    """
    if class_name is None:
        class_id = int(rng.integers(len(CLASS_NAMES)))
    elif class_name in (names := (*CLASS_NAMES, UNKNOWN)):
        class_id = names.index(class_name)
    else:
        raise ValueError(f'class_name is {class_name!r}; it must be one of {", ".join(names)}')
    varied = randomise(any_sensor(sensors, rng) if config is None else config, rng, wide)
    unit = make_unit(varied, rng, variation=rng.uniform(0.5, 2.0))
    change = Change.draw(unit, drift_share, rng)
    contact, faint = None, None
    if class_id:
        if class_name == UNKNOWN:
            contact = sample_contact(UNKNOWN, varied, rng)
            if rng.random() < faint_share:
                faint = sample_faint(change.least_visible + LEAST_UNKNOWN, rng)
        elif rng.random() < faint_share:
            contact = sample_faint_contact(CLASS_NAMES[class_id], varied, rng, LIGHTEST_BALL_MM if wide else BALL_MM)
            faint = sample_faint(change.least_visible, rng)
        else:
            contact = sample_contact(CLASS_NAMES[class_id], varied, rng,
                                     smallest_ball_mm=SMALLEST_BALL_MM if wide else BALL_MM)
        if class_name != UNKNOWN:
            contact = uneven(contact, varied.gel.max_depth_mm, rng)
        pull = rng.normal(0.0, 0.3, 2)
        contact = dataclasses.replace(contact, shear_x_mm=float(pull[0]), shear_y_mm=float(pull[1]))
    return change.frame(unit, contact, rng, faint), change.reference(unit), class_id


def uneven(contact: Contact, deepest_mm: float, rng: np.random.Generator) -> Contact:
    """The contact as real objects would make it: often with a rough surface, balls not quite round, patterns coarser.

    A network that has only seen perfect indenters reported an apple as unknown, and bumps 4 mm apart.
    """
    if contact.class_name in ('dots', 'ridges', 'weave') and rng.random() < 0.3:
        larger = math.exp(rng.uniform(0.0, math.log(2.2)))
        contact = dataclasses.replace(
            contact, pitch_mm=larger * contact.pitch_mm, width_mm=larger * contact.width_mm,
            relief_mm=larger * contact.relief_mm, radius_mm=larger * contact.radius_mm,
            backing_mm=larger * contact.backing_mm, depth_mm=min(larger * contact.depth_mm, deepest_mm),
            tilt_x=contact.tilt_x / larger, tilt_y=contact.tilt_y / larger)
    if rng.random() < 0.5:
        contact = dataclasses.replace(contact, pattern=int(rng.integers(1, 2**31)),
                                      skin_mm=math.exp(rng.uniform(math.log(0.004), math.log(0.05))))
    if contact.class_name == 'sphere' and rng.random() < 0.4:
        contact = dataclasses.replace(contact, aspect=rng.uniform(1.0, 1.4))
    return contact


# Half the resolution costs a quarter of the time, and is what several drivers publish.
_RESOLUTIONS = (0.5, 0.5, 0.5, 0.75, 1.0)


@lru_cache(maxsize=1)
def _sensors() -> tuple[SensorConfig, ...]:
    return tuple(load_sensor(name) for name in sensor_names())


def any_sensor(sensors: Sequence[SensorConfig] | None, rng: np.random.Generator) -> SensorConfig:
    """One of the sensors, or of those of the package, at one of the usual camera resolutions."""
    return resized(sensor_of(sensors, rng), float(rng.choice(_RESOLUTIONS)))


def sensor_of(sensors: Sequence[SensorConfig] | None, rng: np.random.Generator) -> SensorConfig:
    """One of the sensors, or of those of the package."""
    sensors = _sensors() if sensors is None else sensors
    return sensors[int(rng.integers(len(sensors)))]


def resized(config: SensorConfig, factor: float) -> SensorConfig:
    """The same sensor with its camera at another resolution."""
    return dataclasses.replace(config, height=round(config.height * factor), width=round(config.width * factor),
                               mm_per_px=config.mm_per_px / factor, lens_blur_px=config.lens_blur_px * factor)


def randomise(config: SensorConfig, rng: np.random.Generator, wide: bool = False) -> SensorConfig:
    """A random but plausible sensor: other lights, paint, gel, lens, markers and noise.

    wide: also dimmer lights, of weaker colours and uneven, tauter gels, and 0.8 to 1.4 times the view.
    """
    strength = math.exp(rng.uniform(-0.9, 0.5) if wide else rng.uniform(-0.5, 0.4))
    white = rng.uniform(0.0, 0.6) if wide and rng.random() < 0.3 else 0.0
    # half of the sensors keep their lights; in the other half, the lights are anywhere and their colours are swapped
    strange = rng.random() < 0.5
    turn = rng.uniform(-math.pi, math.pi) if strange else rng.normal(0.0, 0.15)
    order = rng.permutation(3) if strange else np.arange(3)

    def varied(light: Light) -> Light:
        # wide, each light that is anywhere also has its own place and brightness, so that one side may be dark
        brighter, aside = (strange * rng.normal(0.0, spread) if wide else 0.0 for spread in (0.3, 0.45))
        bright = strength * math.exp(brighter)
        return Light(azimuth_rad=light.azimuth_rad + turn + aside,
                     elevation_rad=light.elevation_rad * math.exp(rng.normal(0.0, 0.2)),
                     rgb=tuple(bright * ((1 - white) * light.rgb[channel] + white * sum(light.rgb) / 3)
                               for channel in order), falloff=light.falloff)

    lights = tuple(varied(light) for light in config.lights)
    glows = tuple(
        dataclasses.replace(glow, x=1 - glow.x if strange and turn > 0 else glow.x,
                            rgb=tuple(glow.rgb[channel] for channel in order))
        for glow in config.glows)
    markers = None
    if rng.random() < 0.35:
        pitch = rng.uniform(1.3, 2.6)
        markers = Markers(pitch_mm=pitch, radius_mm=pitch * rng.uniform(0.1, 0.22), darkness=rng.uniform(0.5, 0.95))
    thickness = math.exp(rng.normal(0.0, 0.15))
    spreads = config.gel.spread_mm
    if rng.random() < 0.4:  # a thick soft gel deforms far around the contact
        spreads = (2.0 * spreads[0], *spreads)
    if wide:
        # A taut skin leaves a small tip more gradually: relaxed three times, the slope around a ball of 0.4 mm falls
        # off as around the one that is pressed against a real GelSight Mini (docs/results/learning.md)
        times = int(rng.choice((1, 1, 2, 3, 5)))
        spreads = tuple(spread for spread in spreads for _ in range(times))
    gel = dataclasses.replace(
        config.gel, spread_mm=tuple(spread * thickness for spread in spreads),
        skin_mm=config.gel.skin_mm * math.exp(rng.normal(0.0, 0.3)))
    paint = [level * math.exp(rng.normal(0.0, 0.15)) for level in config.background_rgb]
    return dataclasses.replace(
        config, lights=lights, glows=glows, markers=markers, gel=gel,
        background_rgb=tuple(paint[channel] for channel in order),
        depth_rgb=tuple((np.array(config.depth_rgb) + rng.normal(0.0, 5.0, 3)).tolist()),
        mm_per_px=config.mm_per_px * math.exp(rng.uniform(-0.2, 0.35) if wide else rng.uniform(-0.12, 0.12)),
        vignette=rng.uniform(0.1, 0.6), shadow=rng.uniform(0.0, 0.6),
        lens_blur_px=config.lens_blur_px * rng.uniform(0.0, 2.5),
        noise=rng.uniform(0.4, 2.5), texture=rng.uniform(0.2, 2.0))
