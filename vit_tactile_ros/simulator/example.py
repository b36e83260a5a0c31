"""Training examples that vary far more than real units, so that networks trained on them are robust."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from .contact import CLASS_NAMES
from .sampling import sample_contact
from .sensor import Light, Markers, SensorConfig
from .sensor_file import load_sensor, sensor_names
from .unit import SensorUnit


def sample_example(rng: np.random.Generator, config: SensorConfig | None = None,
                   class_name: str | None = None,
                   sensors: Sequence[SensorConfig] | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """One training example: (image, reference, class_id), both images uint8 (H, W, 3) RGB of the same unit.

    The reference is an earlier no-contact image with its own noise; light and gel have drifted slightly since.
    config: if None, one of `sensors` (default: those of the package) at one of the usual camera resolutions, so H
    and W vary between calls. class_name: if None, drawn uniformly from CLASS_NAMES; ValueError if unknown.
    """
    if class_name is None:
        class_id = int(rng.integers(len(CLASS_NAMES)))
    elif class_name in CLASS_NAMES:
        class_id = CLASS_NAMES.index(class_name)
    else:
        raise ValueError(f'class_name is {class_name!r}; it must be one of {", ".join(CLASS_NAMES)}')
    if config is None:
        sensors = _sensors() if sensors is None else sensors
        config = _resized(sensors[int(rng.integers(len(sensors)))], float(rng.choice(_RESOLUTIONS)))
    varied = randomise(config, rng)
    unit = SensorUnit(varied, rng, variation=rng.uniform(0.5, 2.0))
    contact = None
    if class_id:
        contact = sample_contact(CLASS_NAMES[class_id], varied, rng)
        pull = rng.normal(0.0, 0.3, 2)
        contact = dataclasses.replace(contact, shear_x_mm=float(pull[0]), shear_y_mm=float(pull[1]))
    creep = rng.normal(0.0, 0.08, 2)  # the gel has not fully recovered from the previous touch
    image = unit.render(contact, rng, lighting=_drift(unit, rng), creep_mm=(float(creep[0]), float(creep[1])))
    reference = unit.reference
    if rng.random() < 0.3:
        image = _moved(image, unit.mm_per_px, rng)
    if rng.random() < 0.3:
        # image streams are often compressed; then the reference is too
        quality = int(rng.integers(60, 96))
        image, reference = _compressed(image, quality), _compressed(reference, quality)
    return image, reference, class_id


# Half the resolution costs a quarter of the time, and is what several drivers publish.
_RESOLUTIONS = (0.5, 0.5, 0.5, 0.75, 1.0)


@lru_cache(maxsize=1)
def _sensors() -> tuple[SensorConfig, ...]:
    return tuple(load_sensor(name) for name in sensor_names())


def _resized(config: SensorConfig, factor: float) -> SensorConfig:
    """The same sensor with its camera at another resolution."""
    return dataclasses.replace(config, height=round(config.height * factor), width=round(config.width * factor),
                               mm_per_px=config.mm_per_px / factor, lens_blur_px=config.lens_blur_px * factor)


def randomise(config: SensorConfig, rng: np.random.Generator) -> SensorConfig:
    """A random but plausible sensor: other lights, paint, gel, lens, markers and noise."""
    strength = math.exp(rng.uniform(-0.5, 0.4))
    # half of the sensors keep their lights; in the other half, the lights are anywhere and their colours are swapped
    strange = rng.random() < 0.5
    turn = rng.uniform(-math.pi, math.pi) if strange else rng.normal(0.0, 0.15)
    order = rng.permutation(3) if strange else np.arange(3)
    lights = tuple(
        Light(azimuth_rad=light.azimuth_rad + turn,
              elevation_rad=light.elevation_rad * math.exp(rng.normal(0.0, 0.2)),
              rgb=tuple(strength * light.rgb[channel] for channel in order), falloff=light.falloff)
        for light in config.lights)
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
    gel = dataclasses.replace(
        config.gel, spread_mm=tuple(spread * thickness for spread in spreads),
        skin_mm=config.gel.skin_mm * math.exp(rng.normal(0.0, 0.3)))
    paint = [level * math.exp(rng.normal(0.0, 0.15)) for level in config.background_rgb]
    return dataclasses.replace(
        config, lights=lights, glows=glows, markers=markers, gel=gel,
        background_rgb=tuple(paint[channel] for channel in order),
        depth_rgb=tuple((np.array(config.depth_rgb) + rng.normal(0.0, 5.0, 3)).tolist()),
        mm_per_px=config.mm_per_px * math.exp(rng.uniform(-0.12, 0.12)),
        vignette=rng.uniform(0.1, 0.6), shadow=rng.uniform(0.0, 0.6),
        lens_blur_px=config.lens_blur_px * rng.uniform(0.0, 2.5),
        noise=rng.uniform(0.4, 2.5), texture=rng.uniform(0.2, 2.0))


def _drift(unit: SensorUnit, rng: np.random.Generator) -> np.ndarray:
    """Brightness relative to the reference, (3, H, W): flicker and a smooth colour gradient.

    A press moves the whole gel slightly. Real sensors show this far from the contact: up to 6 grey levels around
    Taxim's ball presses. Networks trained without it classified these balls as cylinders.
    """
    height, width = unit.config.height, unit.config.width
    flicker = 1 + 0.015 * rng.standard_normal((3, 1, 1))
    strength = rng.uniform(0.0, 0.04)
    corners = 1 + strength * rng.standard_normal((3, 4, 3))
    gradient = cv2.resize(corners.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return flicker.astype(np.float32) * gradient.transpose(2, 0, 1)


def _moved(image: np.ndarray, mm_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """The image after the camera or the whole gel moved by a few hundredths of a millimetre."""
    shift = rng.normal(0.0, 0.03 / mm_per_px, 2)
    move = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    return cv2.warpAffine(image, move, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    # OpenCV assumes BGR in both directions, so the swap cancels, apart from the weights of chroma
    _, data = cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    restored = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert restored is not None
    return restored
