"""The gel's surface under an indenter: displaced where it touches, smoothly stretched around it."""

from __future__ import annotations

import cv2
import numpy as np

from .sensor import Gel

# a blur is computed on a coarser, cheaper grid while it is at least this wide in px of that grid
_ENOUGH_PX = 1.0


def deform(penetration_mm: np.ndarray, gel: Gel, mm_per_px: float) -> np.ndarray:
    """Displacement of the surface towards the camera, in mm: float32 (H, W), at least 0.

    penetration_mm: float32 (H, W) from shapes.penetration. The contact region is blurred from coarse to fine. After
    each blur, the surface is raised to the indenter where it is below it, because the gel cannot be inside it.
    """
    pressed = cv2.max(penetration_mm, 0.0)
    surface = pressed
    for spread_mm in gel.spread_mm:
        surface = wide_blur(surface, spread_mm, mm_per_px)
        surface = cv2.max(surface, pressed)
    return _blur(surface, gel.skin_mm / mm_per_px)


def wide_blur(image: np.ndarray, sigma_mm: float, mm_per_px: float) -> np.ndarray:
    """Gaussian blur of float32 (H, W), on a coarser grid if it is wide."""
    height, width = image.shape
    step = 1
    while sigma_mm / (mm_per_px * step) >= 2 * _ENOUGH_PX and step < 8:
        step *= 2
    if step == 1:
        return _blur(image, sigma_mm / mm_per_px)
    coarse = cv2.resize(image, (width // step, height // step), interpolation=cv2.INTER_AREA)
    coarse = _blur(coarse, sigma_mm / (mm_per_px * step))
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def slopes(surface_mm: np.ndarray, mm_per_px: float) -> tuple[np.ndarray, np.ndarray]:
    """The surface's slopes along x and along y (mm per mm), two float32 (H, W)."""
    scale = 1 / (32 * mm_per_px)  # Scharr's kernel adds up to 32 per unit of slope
    return (cv2.Scharr(surface_mm, cv2.CV_32F, 1, 0, scale=scale, borderType=cv2.BORDER_REPLICATE),
            cv2.Scharr(surface_mm, cv2.CV_32F, 0, 1, scale=scale, borderType=cv2.BORDER_REPLICATE))


def _blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    if sigma_px < 0.3:
        return image
    size = 2 * int(np.ceil(2.5 * sigma_px)) + 1
    return cv2.GaussianBlur(image, (size, size), sigma_px, borderType=cv2.BORDER_REPLICATE)
