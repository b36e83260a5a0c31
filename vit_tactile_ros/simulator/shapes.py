"""The indenters as height fields: distance of each point behind the foremost point."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from .contact import IMPRINT_NAMES, UNKNOWN, Contact
from .height_map import at_points
from .imprints import imprint_map
from .unknown import height_map, skin_map

WALL_SLOPE = 5.0  # side walls of punches; steeper ones would alias on the pixel grid
FAR_MM = 50.0  # 'no material here'


def penetration(contact: Contact, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
    """Depth of the indenter below the flat gel, in mm, at the points x_mm and y_mm.

    x_mm and y_mm: float32 (H, W). Returns float32 (H, W), positive where the indenter is inside the gel's
    resting volume and negative where there is a gap.
    """
    cosine, sine = math.cos(contact.angle_rad), math.sin(contact.angle_rad)
    u = cv2.addWeighted(x_mm, cosine, y_mm, sine, -contact.x_mm * cosine - contact.y_mm * sine)
    v = cv2.addWeighted(x_mm, -sine, y_mm, cosine, contact.x_mm * sine - contact.y_mm * cosine)
    depth = contact.depth_mm - _PROFILES[contact.class_name](contact, u, v)
    if contact.skin_mm:
        depth -= np.float32(contact.skin_mm) * at_points(skin_map(contact.pattern), u, v)
    if contact.tilt_x or contact.tilt_y:
        depth -= np.float32(contact.tilt_x) * u + np.float32(contact.tilt_y) * v
    return depth


def _round_body(distance_sq: np.ndarray, radius: float) -> np.ndarray:
    """The lower side of a ball or rod; beyond its equator, a steep wall."""
    under = np.float32(radius**2) - distance_sq
    body = np.float32(radius) - np.sqrt(cv2.max(under, 0.0))
    return body + np.float32(WALL_SLOPE / radius) * cv2.max(-under, 0.0)


def _sphere(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _round_body(u * u * np.float32(c.aspect**-2) + v * v, c.radius_mm)


def _cylinder(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # rounded ends: the distance to a line segment, not to a line
    beyond = cv2.max(np.abs(u) - np.float32(c.length_mm), 0.0)
    return _round_body(beyond * beyond + v * v, c.radius_mm)


def _edge(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    ramp = cv2.max(np.float32(c.slope) * v, np.float32(-c.slope * c.aspect) * v)
    return ramp + np.float32(WALL_SLOPE) * cv2.max(np.abs(u) - np.float32(c.length_mm), 0.0)


def _corner(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    surface = np.zeros_like(u)
    for facet in range(c.sides):
        direction = 2 * math.pi * facet / c.sides
        # one facet differs, because a corner rarely meets the gel upright
        slope = c.slope * (c.aspect if facet == 0 else 1.0)
        plane = cv2.addWeighted(u, slope * math.cos(direction), v, slope * math.sin(direction), 0)
        cv2.max(surface, plane, dst=surface)
    return surface


def _polygon_distance(u: np.ndarray, v: np.ndarray, radius: float, sides: int) -> np.ndarray:
    """Distance outside a regular polygon of that inner radius (a disc if sides is 0); negative inside."""
    if sides == 0:
        return np.sqrt(u * u + v * v) - np.float32(radius)
    if sides == 4:
        return cv2.max(np.abs(u), np.abs(v)) - np.float32(radius)
    far = np.full_like(u, -FAR_MM)
    for side in range(sides):
        direction = 2 * math.pi * side / sides
        cv2.max(far, cv2.addWeighted(u, math.cos(direction), v, math.sin(direction), 0), dst=far)
    return far - np.float32(radius)


def _flat(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    outside = _polygon_distance(u * np.float32(1 / c.aspect), v, c.radius_mm, c.sides)
    return np.float32(WALL_SLOPE) * cv2.max(outside, 0.0)


def _ring(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    across = np.sqrt(u * u + v * v) - np.float32(c.radius_mm)
    return _round_body(across * across, c.width_mm)


def _carrier(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The dome or plate that carries a pattern, with an outline of half size radius_mm."""
    outside = _polygon_distance(u, v, c.radius_mm, c.sides if c.sides == 4 else 0)
    carrier = np.float32(WALL_SLOPE) * cv2.max(outside, 0.0)
    if c.backing_mm:
        carrier += np.float32(0.5 / c.backing_mm) * (u * u + v * v)
    return carrier


def _to_nearest(position: np.ndarray, pitch: float) -> np.ndarray:
    """Signed distance to the nearest multiple of the pitch."""
    return position - np.float32(pitch) * np.rint(position * np.float32(1 / pitch))


def _dots(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    if c.sides == 6:
        # a hexagonal lattice is two rectangular ones, shifted by half a cell
        tall = c.pitch_mm * math.sqrt(3)
        here = _to_nearest(u, c.pitch_mm) ** 2 + _to_nearest(v, tall) ** 2
        half_u, half_v = u + np.float32(c.pitch_mm / 2), v + np.float32(tall / 2)
        distance_sq = cv2.min(here, _to_nearest(half_u, c.pitch_mm) ** 2 + _to_nearest(half_v, tall) ** 2)
    else:
        distance_sq = _to_nearest(u, c.pitch_mm) ** 2 + _to_nearest(v, c.pitch_mm) ** 2
    return cv2.min(_round_body(distance_sq, c.width_mm), c.relief_mm) + _carrier(c, u, v)


def _ridges(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    waves = np.cos(v * np.float32(2 * math.pi / c.pitch_mm))
    return np.float32(c.relief_mm / 2) * (1 - waves) + _carrier(c, u, v)


def _weave(c: Contact, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # a plain weave: each thread passes over one crossing and under the next; its neighbours do the opposite
    along_u = _to_nearest(v, c.pitch_mm)
    along_v = _to_nearest(u, c.pitch_mm)
    swing = np.float32(0.22 * c.width_mm)
    phase = np.float32(math.pi / c.pitch_mm)
    # a thread along u follows cos(phase * u) with the sign of the other cosine, which alternates between threads;
    # the thread that crosses it has the opposite sign
    wave_u, wave_v = np.cos(phase * u), np.cos(phase * v)
    product = wave_u * wave_v
    threads = cv2.min(_round_body(along_u * along_u, c.width_mm) - np.copysign(swing * wave_u, product),
                      _round_body(along_v * along_v, c.width_mm) + np.copysign(swing * wave_v, product))
    return cv2.min(threads + swing, c.relief_mm) + _carrier(c, u, v)


_PROFILES: dict[str, Callable[[Contact, np.ndarray, np.ndarray], np.ndarray]] = {
    'sphere': _sphere, 'cylinder': _cylinder, 'edge': _edge, 'corner': _corner, 'flat': _flat, 'ring': _ring,
    'dots': _dots, 'ridges': _ridges, 'weave': _weave,
    UNKNOWN: lambda c, u, v: at_points(height_map(c.pattern), u, v),
    **dict.fromkeys(IMPRINT_NAMES[1:], lambda c, u, v: at_points(imprint_map(c.class_name, c.pattern), u, v)),
}
