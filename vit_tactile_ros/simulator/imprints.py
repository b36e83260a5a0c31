"""Objects that are told apart by their whole imprint: letters, sizes, counts of bumps, pairs, fine textures.

A class is seldom decided by a part of the image: a stroke belongs to many letters, a hexagon differs from a pentagon by
one corner, and two bars by their angle. Each object has an unlimited number of versions (`pattern`): sizes, fonts,
distances and heights vary within the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import cv2
import numpy as np

from .contact import IMPRINT_NAMES, Contact
from .height_map import CENTRE, PX_MM, SIZE, U, V, along_and_across, px, raised
from .sensor import SensorConfig

Heights = np.ndarray  # as `height_map.U`: float32, mm behind the foremost point
_MOST_RELIEF_MM = 1.0  # a taller object is not pressed in up to its base
_LIGHTEST, _DEEPEST = 0.35, 0.9  # presses, share of the relief


def sample_imprint(class_name: str, config: SensorConfig, rng: np.random.Generator) -> Contact:
    """Draw a touch of `IMPRINT_NAMES` that is in view; raises ValueError for another name."""
    if class_name not in _KINDS:
        raise ValueError(f'class_name is {class_name!r}; must be one of {", ".join(_KINDS)}')
    pattern = int(rng.integers(1, 2**31))
    heights = imprint_map(class_name, pattern)
    relief = min(float(heights.max()), _MOST_RELIEF_MM)
    reach = float(np.sqrt((U * U + V * V)[heights < 0.9 * relief].max()))
    room = [max(half - 0.85 * reach, 0.08 * half) for half in config.half_size_mm]
    # Letters are read upright; augmentation mirrors them, so none of them is the mirror image of another.
    angle = float(np.clip(rng.normal(0.0, 0.2), -0.5, 0.5)) if class_name in _SIGNS else rng.uniform(-math.pi, math.pi)
    tilt = 0.02 / max(reach, 1.0)
    return Contact(class_name, depth_mm=min(relief * rng.uniform(_LIGHTEST, _DEEPEST), config.gel.max_depth_mm),
                   x_mm=rng.uniform(-room[0], room[0]), y_mm=rng.uniform(-room[1], room[1]), angle_rad=angle,
                   tilt_x=rng.normal(0.0, tilt), tilt_y=rng.normal(0.0, tilt), radius_mm=reach, pattern=pattern,
                   skin_mm=math.exp(rng.uniform(math.log(0.004), math.log(0.03))) if rng.random() < 0.3 else 0.0)


@lru_cache(maxsize=8)
def imprint_map(class_name: str, pattern: int) -> Heights:
    """How far (mm) each point of the object lies behind its foremost one; a function of the arguments alone."""
    heights = _KINDS[class_name](np.random.default_rng(pattern))
    heights = heights - heights.min()
    result: Heights = cv2.GaussianBlur(np.ascontiguousarray(heights, np.float32), (0, 0), 0.8)
    return result


def _punch(mask: np.ndarray, rng: np.random.Generator) -> Heights:
    return raised(mask, rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.3))


def _sign(text: str, rng: np.random.Generator) -> Heights:
    """A letter or digit, 4.5 to 7.5 mm high."""
    height = rng.uniform(4.5, 7.5)
    font = int(rng.choice((cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX)))
    scale, thickness = height / PX_MM / 22, px(height * rng.uniform(0.09, 0.15))
    (wide, tall), _ = cv2.getTextSize(text, font, scale, thickness)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.putText(mask, text, (int((SIZE - wide) / 2), int((SIZE + tall) / 2)), font, scale, 255, thickness, cv2.LINE_AA)
    return _punch(mask, rng)


def _distance() -> np.ndarray:
    return np.sqrt(U * U + V * V)


def _disc(diameter: float, rng: np.random.Generator) -> Heights:
    return _punch((_distance() < diameter / 2 * _about(rng)).astype(np.uint8), rng)


def _ring(diameter: float, rng: np.random.Generator) -> Heights:
    across = np.abs(_distance() - diameter / 2 * _about(rng))
    return _punch((across < rng.uniform(0.3, 0.45)).astype(np.uint8), rng)


def _about(rng: np.random.Generator) -> float:
    """A tolerance of 8 %: the sizes of a kind differ by 70 %, and sensors' scales by 12 %."""
    return float(math.exp(rng.uniform(-0.08, 0.08)))


def _outline(radii: np.ndarray, rng: np.random.Generator) -> Heights:
    """A punch with corners at these distances from the centre, in mm, evenly around it."""
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    points = CENTRE + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] / PX_MM
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return _punch(mask, rng)


def _polygon(corners: int, rng: np.random.Generator) -> Heights:
    return _outline(np.full(corners, rng.uniform(2.4, 4.2)), rng)


def _star(points: int, rng: np.random.Generator) -> Heights:
    outer = rng.uniform(3.0, 4.6)
    return _outline(np.where(np.arange(2 * points) % 2, outer, outer * rng.uniform(0.42, 0.55)), rng)


def _bumps(count: int, rng: np.random.Generator) -> Heights:
    """Equal round bumps, at least 2.2 mm apart."""
    centres: list[np.ndarray] = []
    while len(centres) < count:
        place = rng.uniform(-4.2, 4.2, 2)
        if np.hypot(*place) < 4.2 and all(np.hypot(*(place - other)) > 2.2 for other in centres):
            centres.append(place)
    radius, relief = rng.uniform(0.7, 1.2), rng.uniform(0.5, 0.9)
    heights = np.full_like(U, relief)
    for x, y in centres:
        heights = np.minimum(heights, ((U - np.float32(x))**2 + (V - np.float32(y))**2) / np.float32(2 * radius))
    return heights


def _ball_at(x: float, y: float, rng: np.random.Generator) -> np.ndarray:
    return np.hypot(U - np.float32(x), V - np.float32(y)) - np.float32(rng.uniform(0.8, 1.2))


def _ring_at(x: float, y: float, rng: np.random.Generator, radius: float | None = None) -> np.ndarray:
    radius = radius or rng.uniform(1.3, 1.7)
    return np.abs(np.hypot(U - np.float32(x), V - np.float32(y)) - np.float32(radius)) - np.float32(0.35)


def _bar_at(x: float, y: float, rng: np.random.Generator, angle: float | None = None,
            half: float | None = None) -> np.ndarray:
    angle = rng.uniform(0, math.pi) if angle is None else angle
    half = half or rng.uniform(1.2, 1.7)
    along, across = along_and_across(x, y, angle)
    return np.hypot(np.maximum(np.abs(along) - np.float32(half), 0), across) - np.float32(0.4)


def _together(outside: list[np.ndarray], rng: np.random.Generator) -> Heights:
    """Several bodies, each given by the distance (mm) outside its outline, at slightly different heights."""
    relief, slope = rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.35)
    heights = np.full_like(U, relief)
    for body in outside:
        step = np.float32(rng.uniform(0.0, 0.08))
        heights = np.minimum(heights, step + relief * np.clip(1 + body / np.float32(slope), 0, 1))
    return heights


def _pair(first: Callable[..., np.ndarray], second: Callable[..., np.ndarray], rng: np.random.Generator) -> Heights:
    apart = rng.uniform(2.2, 3.2)
    return _together([first(-apart, 0.0, rng), second(apart, 0.0, rng)], rng)


def _bars(angle: float, rng: np.random.Generator) -> Heights:
    apart, turn = rng.uniform(2.0, 2.8), rng.uniform(0, math.pi)
    return _together([_bar_at(-apart, 0.0, rng, turn),
                      _bar_at(apart, 0.0, rng, turn + angle + rng.uniform(-0.12, 0.12))], rng)


def _inside(body: Callable[..., np.ndarray], rng: np.random.Generator) -> Heights:
    x, y = rng.uniform(-0.4, 0.4, 2)
    return _together([_ring_at(0.0, 0.0, rng, rng.uniform(2.9, 3.6)), body(x, y, rng)], rng)


def _plate(texture: np.ndarray, relief: float, rng: np.random.Generator) -> Heights:
    """A texture, 0 (foremost) to 1, of this relief on a round or square plate of 9 to 14 mm."""
    half = rng.uniform(4.5, 7.0)
    far = np.maximum(np.abs(U), np.abs(V)) if rng.random() < 0.5 else _distance()
    return np.float32(relief) * texture + np.float32(5.0) * np.clip(far - np.float32(half), 0, 1)


def _wave(position: np.ndarray, pitch: float) -> np.ndarray:
    return (1 - np.cos(position * np.float32(2 * math.pi / pitch))) / 2


def _ridges(pitch: float, rng: np.random.Generator) -> Heights:
    pitch *= _about(rng)
    return _plate(_wave(V, pitch), pitch * rng.uniform(0.4, 0.5), rng)


def _grid(pitch: float, rng: np.random.Generator) -> Heights:
    """Crossing ridges: holes in a square lattice."""
    pitch *= _about(rng)
    return _plate(np.minimum(_wave(U, pitch), _wave(V, pitch)), pitch * rng.uniform(0.35, 0.45), rng)


def _dots(pitch: float, rng: np.random.Generator) -> Heights:
    pitch *= _about(rng)
    return _plate(np.maximum(_wave(U, pitch), _wave(V, pitch)), pitch * rng.uniform(0.35, 0.45), rng)


def _hexagonal(pitch: float, rng: np.random.Generator) -> Heights:
    """Dots in a hexagonal lattice."""
    pitch *= _about(rng)
    waves = [_wave(U * np.float32(math.cos(turn)) + V * np.float32(math.sin(turn)), pitch * math.sqrt(3) / 2)
             for turn in (0.0, math.pi / 3, 2 * math.pi / 3)]
    return _plate(np.clip(sum(waves) / 2, 0, 1), pitch * rng.uniform(0.35, 0.45), rng)


def _herringbone(pitch: float, rng: np.random.Generator) -> Heights:
    """Ridges whose direction alternates from one column to the next."""
    pitch *= _about(rng)
    column = 3.2 * pitch * _about(rng)
    zigzag = np.abs((U / np.float32(column) + np.float32(rng.uniform(0, 1))) % 1 - np.float32(0.5)) * np.float32(column)
    return _plate(_wave(V + zigzag, pitch), pitch * rng.uniform(0.4, 0.5), rng)


def _rings(pitch: float, rng: np.random.Generator) -> Heights:
    pitch *= _about(rng)
    return _plate(_wave(_distance() + np.float32(rng.uniform(0, pitch)), pitch), pitch * rng.uniform(0.4, 0.5), rng)


_SIGNS = tuple('ABEFHKLPRTXY23468')
_PITCHES = {'fine': 0.8, 'medium': 1.3, 'coarse': 2.1}  # mm
_DIAMETERS = {'small': 2.6, 'medium': 4.4, 'large': 7.5}  # mm
_KINDS: dict[str, Callable[[np.random.Generator], Heights]] = {
    **{f'disc_{size}': partial(_disc, diameter) for size, diameter in _DIAMETERS.items()},
    **{f'ring_{size}': partial(_ring, diameter) for size, diameter in _DIAMETERS.items()},
    'triangle': partial(_polygon, 3), 'square': partial(_polygon, 4), 'pentagon': partial(_polygon, 5),
    'hexagon': partial(_polygon, 6), 'star_5': partial(_star, 5), 'star_6': partial(_star, 6),
    **{f'bumps_{count}': partial(_bumps, count) for count in range(2, 7)},
    'ball_and_bar': partial(_pair, _ball_at, _bar_at), 'ball_and_ring': partial(_pair, _ball_at, _ring_at),
    'bar_and_ring': partial(_pair, _bar_at, _ring_at), 'bars_parallel': partial(_bars, 0.0),
    'bars_crosswise': partial(_bars, math.pi / 2), 'ball_in_ring': partial(_inside, _ball_at),
    'bar_in_ring': partial(_inside, partial(_bar_at, half=1.0)),
    **{sign: partial(_sign, sign) for sign in _SIGNS},
    **{f'ridges_{size}': partial(_ridges, pitch) for size, pitch in _PITCHES.items()},
    **{f'dots_{size}': partial(_dots, pitch) for size, pitch in list(_PITCHES.items())[1:]},
    'dots_hexagonal': partial(_hexagonal, 2.1), 'grid_medium': partial(_grid, 1.3), 'grid_coarse': partial(_grid, 2.1),
    'herringbone': partial(_herringbone, 1.3), 'rings_medium': partial(_rings, 1.3),
}
assert tuple(_KINDS) == IMPRINT_NAMES[1:]
