"""The dots printed on a gel: their positions, and how shear and pressure move them."""

from __future__ import annotations

import cv2
import numpy as np

from .contact import Contact
from .sampling import touched_radius
from .sensor import Markers

_SUBPIXEL_BITS = 4
_WIDEST_MM = 6.0  # larger contacts reach beyond the image


def marker_shade(markers: Markers, contact: Contact | None, centre_px: tuple[float, float], mm_per_px: float,
                 shape: tuple[int, ...], creep_mm: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The share of light that the dots let through, float32 (H, W) in 0 to 1.

    centre_px: pixel of the point (0, 0) mm. creep_mm: offset of all dots from their rest positions, because a gel
    that was dragged recovers slowly.
    """
    height, width = shape
    # two rows more than are in view, for dots that shear moves into view
    reach_x = int(width * mm_per_px / 2 / markers.pitch_mm) + 2
    reach_y = int(height * mm_per_px / 2 / markers.pitch_mm) + 2
    grid = np.mgrid[-reach_x:reach_x + 1, -reach_y:reach_y + 1].reshape(2, -1).T * markers.pitch_mm
    if contact is not None:
        reach = markers.reach_mm
        offset = grid - (contact.x_mm, contact.y_mm)
        distance = np.sqrt(np.sum(offset**2, axis=1, keepdims=True))
        near = np.exp(-distance**2 / (2 * reach**2))
        # where it sticks, the surface moves with the indenter as one piece
        loose = np.maximum(distance - contact.stuck * min(touched_radius(contact), _WIDEST_MM), 0.0)
        dragged = np.exp(-loose**2 / (2 * reach**2))
        across = offset[:, ::-1] * (-1.0, 1.0)
        # pressing pushes the surface outwards, friction drags it along and turns it
        grid = grid + near * 0.12 * contact.depth_mm * offset / reach + dragged * (
            contact.twist_rad * across + (contact.shear_x_mm, contact.shear_y_mm))
    grid = grid + creep_mm
    pixels = (grid / mm_per_px + centre_px) * 2**_SUBPIXEL_BITS
    mask = np.zeros(shape, np.uint8)
    radius = int(round(markers.radius_mm / mm_per_px * 2**_SUBPIXEL_BITS))
    for x, y in np.rint(pixels).astype(int).tolist():
        cv2.circle(mask, (x, y), radius, 255, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return 1 - mask * np.float32(markers.darkness / 255)
