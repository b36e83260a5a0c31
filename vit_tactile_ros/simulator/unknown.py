"""Touches by objects that are none of the indenters: text, grains, rough and creased surfaces, tools, several at once.

A network that has seen such touches can report them as unknown, instead of as the indenter that they resemble most
(outlier exposure: Hendrycks et al. 2019, Deep anomaly detection with outlier exposure, arXiv 1812.04606).
"""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from .contact import UNKNOWN, Contact
from .height_map import CENTRE, HALF_MM, PX_MM, SIZE, U, V, along_and_across, px, raised
from .sensor import SensorConfig


def sample_unknown(config: SensorConfig, rng: np.random.Generator, depth_fraction: float | None = None) -> Contact:
    """Draw a touch by an object that is not one of the indenters; it is clearly visible on this sensor.

    depth_fraction: 0 presses a little more than 5 % of what is in view against the gel, 1 half of it; drawn if None.
    """
    contact = Contact(UNKNOWN, 1.0, pattern=int(rng.integers(1, 2**31)), angle_rad=rng.uniform(-math.pi, math.pi),
                      tilt_x=rng.normal(0.0, 0.015), tilt_y=rng.normal(0.0, 0.015))
    half_x, half_y = config.half_size_mm
    x_mm, y_mm = rng.uniform(-0.45, 0.45) * half_x, rng.uniform(-0.45, 0.45) * half_y
    # pressed until a share of what is in view touches
    heights = height_map(contact.pattern)
    reach = max(int(min(half_x, half_y, HALF_MM) / PX_MM), 8)
    middle = slice(max(SIZE // 2 - reach, 0), SIZE // 2 + reach)
    share = 0.05 * 10 ** (rng.uniform() if depth_fraction is None else depth_fraction)
    depth = float(np.quantile(heights[middle, middle], share)) + rng.uniform(0.05, 0.3)
    depth = min(max(depth, 0.2), config.gel.max_depth_mm)
    return dataclasses.replace(contact, depth_mm=depth, x_mm=x_mm, y_mm=y_mm)


@lru_cache(maxsize=8)
def height_map(pattern: int) -> np.ndarray:
    """How far (mm) each point lies behind the foremost one: float32, square, HALF_MM to each side of the centre.

    A function of `pattern` alone.
    """
    rng = np.random.default_rng(pattern)
    heights = _KINDS[int(rng.integers(len(_KINDS)))](rng)
    if rng.random() < 0.3:  # on a curved body
        radius = math.exp(rng.uniform(math.log(5.0), math.log(40.0)))
        flat = rng.random() < 0.3  # a rod, not a ball
        heights = heights + (U * U + (0 if flat else 1) * V * V) / np.float32(2 * radius)
    # The foremost point is among those that the sensor can see.
    seen = heights[SIZE // 4:-SIZE // 4, SIZE // 4:-SIZE // 4]
    heights = heights - np.float32(np.quantile(seen, 0.002))
    result: np.ndarray = cv2.GaussianBlur(np.ascontiguousarray(heights, np.float32), (0, 0), 0.8)
    return result


@lru_cache(maxsize=8)
def skin_map(pattern: int) -> np.ndarray:
    """The unevenness of a real object's surface, standard deviation 1, of the size of `height_map`."""
    rng = np.random.default_rng(pattern)
    finest = math.exp(rng.uniform(math.log(0.3), math.log(1.5)))
    return _noise(rng, finest, finest * rng.uniform(2.0, 8.0), rng.uniform(0.5, 2.5))


def _noise(rng: np.random.Generator, finest_mm: float, coarsest_mm: float, slope: float) -> np.ndarray:
    """Random surface, standard deviation 1, with waves from finest_mm to coarsest_mm; higher slopes are smoother."""
    frequency = np.hypot(np.fft.fftfreq(SIZE, PX_MM)[:, None], np.fft.rfftfreq(SIZE, PX_MM)[None, :])
    stretch = np.where((frequency >= 1 / coarsest_mm) & (frequency <= 1 / finest_mm), 1.0, 0.0)
    spectrum = np.zeros(frequency.shape, complex)
    kept = stretch > 0
    spectrum[kept] = frequency[kept] ** -slope * np.exp(2j * np.pi * rng.random(int(kept.sum())))
    surface = np.fft.irfft2(spectrum, (SIZE, SIZE))
    result: np.ndarray = (surface / (surface.std() + 1e-12)).astype(np.float32)
    return result


def _text(rng: np.random.Generator) -> np.ndarray:
    """Raised or engraved letters."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    height = rng.uniform(1.5, 6.0)  # mm, of a letter
    scale, thickness = height / PX_MM / 22, px(height * rng.uniform(0.08, 0.2))
    font = int(rng.choice((cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX,
                           cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)))
    letters = list(string.ascii_letters + string.digits)
    lines = int(rng.integers(1, 4)) if rng.random() < 0.7 else 20
    first = SIZE / 2 - (lines - 1) * 0.75 * height / PX_MM
    for line in range(lines):
        row = ''.join(rng.choice(letters, int(rng.integers(2, 9)) if lines < 9 else 24))
        wide = cv2.getTextSize(row, font, scale, thickness)[0][0]
        y = int(first + line * 1.5 * height / PX_MM)
        cv2.putText(mask, row, (int(SIZE / 2 - wide / 2), y), font, scale, 255, thickness, cv2.LINE_AA)
    relief, slope = rng.uniform(0.25, 0.9), rng.uniform(0.1, 0.4)
    return raised(mask, relief, slope) if rng.random() < 0.7 else -raised(mask, relief, slope)


def _grains(rng: np.random.Generator) -> np.ndarray:
    """Irregular grains: rice, gravel, bumps of a skin."""
    heights = np.full((SIZE, SIZE), rng.uniform(0.4, 1.5), np.float32)
    size = math.exp(rng.uniform(math.log(0.5), math.log(2.5)))
    aspect = rng.uniform(1.0, 3.5)
    spread = HALF_MM * rng.uniform(0.25, 0.8)
    for _ in range(int(rng.integers(4, int(12 + 90 / size**2)))):
        x, y = rng.normal(0.0, spread / 2, 2) if rng.random() < 0.5 else rng.uniform(-spread, spread, 2)
        angle, own = rng.uniform(0, math.pi), size * math.exp(rng.normal(0.0, 0.35))
        long = own * math.exp(rng.uniform(0.0, math.log(aspect)))
        reach = px(long) + 2
        column, row = int(x / PX_MM + CENTRE), int(y / PX_MM + CENTRE)
        window = tuple(slice(max(middle - reach, 0), max(middle + reach, 0)) for middle in (row, column))
        du, dv = U[window] - np.float32(x), V[window] - np.float32(y)
        along, across = du * math.cos(angle) + dv * math.sin(angle), dv * math.cos(angle) - du * math.sin(angle)
        square = (along / long) ** 2 + (across / own) ** 2
        bump = np.float32(own * rng.uniform(0.5, 1.0)) * (1 - np.sqrt(np.clip(1 - square, 0, None)))
        top = np.float32(rng.uniform(0.0, 0.25 * own))
        heights[window] = np.where(square < 1, np.minimum(heights[window], bump + top), heights[window])
    return heights


def _rough(rng: np.random.Generator) -> np.ndarray:
    """A rough surface: stone, bread, towels, carpets."""
    finest = math.exp(rng.uniform(math.log(0.3), math.log(1.2)))
    surface = _noise(rng, finest, finest * rng.uniform(2.0, 12.0), rng.uniform(0.5, 2.5))
    kind = rng.random()
    if kind < 0.3:
        surface = np.abs(surface)  # creases
    elif kind < 0.5:
        surface = -np.abs(surface)  # ridges: foil, wrinkled skin
    elif kind < 0.7:
        surface = np.clip(surface, rng.uniform(-1.0, 0.5), None)  # plateaus
    return np.float32(math.exp(rng.uniform(math.log(0.12), math.log(0.6)))) * surface


def _strokes(rng: np.random.Generator) -> np.ndarray:
    """Curved strands that cross, or grooves: wires, hair, cracks, seams."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    width = math.exp(rng.uniform(math.log(0.15), math.log(0.9)))
    turn = rng.uniform(0.2, 1.5)
    for _ in range(int(rng.integers(3, 6) if rng.random() < 0.6 else rng.integers(6, 25))):
        steps = 40
        turns = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0.0, turn, 6)).repeat(steps // 6 + 1)[:steps]
        heading = np.convolve(np.pad(turns, 4, 'edge'), np.ones(9) / 9, 'valid')
        length = rng.uniform(0.3, 1.2) * HALF_MM * 1.5 / steps
        path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * length, 0)
        path += rng.uniform(-0.5, 0.5, 2) * HALF_MM - path.mean(0)
        points = np.round(path / PX_MM + CENTRE).astype(np.int32)
        cv2.polylines(mask, [points], False, 255, px(2 * width * math.exp(rng.normal(0.0, 0.2))), cv2.LINE_AA)
    relief = width * rng.uniform(0.7, 1.6)
    if rng.random() < 0.2:
        return -raised(mask, relief, 0.7 * width)
    return raised(mask, relief, width)


def _parts(rng: np.random.Generator) -> np.ndarray:
    """Pieces with straight or round outlines, with holes and notches: keys, keypads, gears, tools."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(int(rng.integers(2, 6))):
        centre = rng.uniform(-0.35, 0.35, 2) * HALF_MM / PX_MM + CENTRE
        size = np.exp(rng.uniform(math.log(1.0), math.log(8.0), 2)) / PX_MM
        box = cv2.boxPoints(((float(centre[0]), float(centre[1])), (float(size[0] * 2), float(size[1])),
                             float(rng.choice((0.0, 90.0)) if rng.random() < 0.6 else rng.uniform(0, 180))))
        kind = rng.random()
        if kind < 0.6:
            cv2.fillPoly(mask, [np.round(box).astype(np.int32)], 255)
        elif kind < 0.8:
            cv2.circle(mask, (int(centre[0]), int(centre[1])), int(size[0] * 0.8), 255, -1)
        else:  # a gear, a star
            teeth = int(rng.integers(5, 16)) * 2
            angles = np.arange(teeth) * 2 * np.pi / teeth
            radii = np.where(np.arange(teeth) % 2, size.max(), size.max() * rng.uniform(0.5, 0.85))
            points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
            cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    for _ in range(int(rng.integers(1, 5))):
        centre = np.round(rng.uniform(-0.35, 0.35, 2) * HALF_MM / PX_MM + CENTRE).astype(int)
        reach = math.exp(rng.uniform(math.log(0.4), math.log(4.0))) / PX_MM
        if rng.random() < 0.5:
            cv2.circle(mask, (int(centre[0]), int(centre[1])), int(reach), 0, -1)
        else:
            cv2.rectangle(mask, (int(centre[0] - reach), int(centre[1] - reach / 2)),
                          (int(centre[0] + reach), int(centre[1] + reach / 2)), 0, -1)
    return raised(mask, rng.uniform(0.3, 1.4), rng.uniform(0.1, 0.8))


def _several(rng: np.random.Generator) -> np.ndarray:
    """Two to four simple bodies of different shape and height at once."""
    heights = np.full((SIZE, SIZE), 3.0, np.float32)
    for _ in range(int(rng.integers(2, 5))):
        x, y = (rng.uniform(-0.3, 0.4, 2) * HALF_MM).astype(np.float32)
        angle = rng.uniform(0, math.pi)
        along, across = along_and_across(x, y, angle)
        kind, radius = rng.random(), rng.uniform(0.6, 2.5)
        if kind < 0.35:
            body = (along**2 + across**2) / np.float32(2 * radius)
        elif kind < 0.65:
            length = rng.uniform(1.0, 5.0)
            body = (across**2 + np.clip(np.abs(along) - length, 0, None)**2) / np.float32(2 * radius)
        elif kind < 0.85:
            length = rng.uniform(1.0, 5.0)
            body = np.float32(rng.uniform(0.4, 1.0)) * np.abs(across) + 2 * np.clip(np.abs(along) - length, 0, None)
        else:
            outside = np.maximum(np.abs(along) - rng.uniform(0.6, 2.5), np.abs(across) - rng.uniform(0.6, 2.5))
            body = 4 * np.clip(outside, 0, None)
        heights = np.minimum(heights, body.astype(np.float32) + np.float32(rng.uniform(0.0, 0.12)))
    return heights


def _marred(rng: np.random.Generator) -> np.ndarray:
    """A simple body with a rough skin, a crease or notches: fruit, seams, screws, pens."""
    radius = math.exp(rng.uniform(math.log(2.0), math.log(12.0)))
    squeeze = np.float32(rng.choice((1.0, 0.0, rng.uniform(0.05, 0.5))))  # ball, rod, or between
    body = (U**2 + squeeze * V**2) / np.float32(2 * radius)
    kind = rng.random()
    if kind < 0.5:
        finest = rng.uniform(0.3, 0.9)
        skin = _noise(rng, finest, finest * rng.uniform(2.0, 5.0), rng.uniform(0.5, 2.0))
        skin = np.abs(skin) if rng.random() < 0.4 else skin
        return body + np.float32(rng.uniform(0.12, 0.35)) * skin
    if kind < 0.75:  # steps or notches along it, at uneven distances: even ones would be ridges
        pitch, depth = rng.uniform(1.0, 3.0), rng.uniform(0.2, 0.6)
        along = V + np.float32(rng.uniform(0.0, 0.4)) * U
        saw = (along + np.float32(0.35 * pitch) * _noise(rng, 3.0, 12.0, 1.0)) / np.float32(pitch) % 1
        saw = np.abs(2 * saw - 1) if rng.random() < 0.5 else (saw < rng.uniform(0.15, 0.5)).astype(np.float32)
        return body + np.float32(depth) * saw.astype(np.float32)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        ends = np.round(rng.uniform(-0.5, 0.5, (2, 2)) * HALF_MM / PX_MM + CENTRE).astype(int)
        cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 255, px(rng.uniform(0.3, 1.0)), cv2.LINE_AA)
    return body - raised(mask, rng.uniform(0.3, 0.8), 0.3)


_KINDS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    _text, _grains, _grains, _rough, _rough, _strokes, _parts, _parts, _parts, _several, _several, _marred, _marred)
