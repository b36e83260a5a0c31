"""The grid of the objects that are stored as height maps: how far each point lies behind the foremost one."""

from __future__ import annotations

import math

import cv2
import numpy as np

HALF_MM = 13.0  # half the side of a height map
PX_MM = 0.065
SIZE = round(2 * HALF_MM / PX_MM)
CENTRE = (SIZE - 1) / 2
V, U = ((np.mgrid[0:SIZE, 0:SIZE] - CENTRE) * PX_MM).astype(np.float32)


def at_points(surface: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """`height_map` or `skin_map` at the points (u, v) in mm; beyond it, that of its border."""
    scale = np.float32(1 / PX_MM)
    return cv2.remap(surface, u * scale + np.float32(CENTRE), v * scale + np.float32(CENTRE),
                     cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def along_and_across(x_mm: float, y_mm: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (mm) of all points of the grid about (x_mm, y_mm), along the direction `angle` and across it."""
    u, v = U - np.float32(x_mm), V - np.float32(y_mm)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return u * cos + v * sin, v * cos - u * sin


def px(mm: float) -> int:
    return max(round(mm / PX_MM), 1)


def raised(mask: np.ndarray, relief_mm: float, slope_mm: float) -> np.ndarray:
    """A height map with the mask (uint8, above 0 inside) raised by relief_mm, with sides slope_mm wide."""
    inside = cv2.distanceTransform((mask > 0).astype(np.uint8), cv2.DIST_L2, 3) * np.float32(PX_MM)
    return np.float32(relief_mm) * (1 - np.clip(inside / np.float32(slope_mm), 0, 1))
