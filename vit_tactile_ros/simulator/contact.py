"""A contact: the indenter that touches the gel, its position, depth and rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

CLASS_NAMES = ('no_contact', 'sphere', 'cylinder', 'edge', 'corner', 'flat', 'ring', 'dots', 'ridges',
               'weave')
UNKNOWN = 'unknown'  # the class of a touch by anything else
# The classes of `imprints`.
IMPRINT_NAMES = (
    'no_contact', 'disc_small', 'disc_medium', 'disc_large', 'ring_small', 'ring_medium', 'ring_large', 'triangle',
    'square', 'pentagon', 'hexagon', 'star_5', 'star_6', 'bumps_2', 'bumps_3', 'bumps_4', 'bumps_5', 'bumps_6',
    'ball_and_bar', 'ball_and_ring', 'bar_and_ring', 'bars_parallel', 'bars_crosswise', 'ball_in_ring', 'bar_in_ring',
    *'ABEFHKLPRTXY23468', 'ridges_fine', 'ridges_medium', 'ridges_coarse', 'dots_medium', 'dots_coarse',
    'dots_hexagonal', 'grid_medium', 'grid_coarse', 'herringbone', 'rings_medium')


@dataclass(frozen=True)
class Contact:
    """One rigid indenter pressed into the gel. For the class 'no_contact', None takes the place of a Contact.

    Position and depth are those of the indenter's origin (its tip, axis or centre), with (0, 0) at the centre
    of the image, x to the right and y down. Sizes that a shape does not use stay 0.
    Raises ValueError for an unknown class or an invalid number.
    """

    class_name: str
    depth_mm: float  # how far the origin lies below the flat gel, > 0
    x_mm: float = 0.0
    y_mm: float = 0.0
    angle_rad: float = 0.0  # from image x towards image y
    tilt_x: float = 0.0  # slope of the indenter along its own first axis, mm per mm
    tilt_y: float = 0.0  # along its second axis
    shear_x_mm: float = 0.0  # how far friction has dragged the gel's surface, along image x
    shear_y_mm: float = 0.0
    twist_rad: float = 0.0  # how far friction has turned the gel's surface around the origin
    stuck: float = 1.0  # share of the contact's radius inside which the surface sticks to the indenter
    radius_mm: float = 0.0  # sphere, cylinder: of the body; ring: of its centre line; others: half the patch
    length_mm: float = 0.0  # cylinder, edge: half the length
    width_mm: float = 0.0  # ring: half the tube's width; dots: radius of a bump; weave: radius of a thread
    pitch_mm: float = 0.0  # dots, ridges, weave: distance between neighbours
    relief_mm: float = 0.0  # dots, ridges, weave: height of the pattern above its base
    slope: float = 0.0  # edge, corner: steepness of the sides, mm per mm
    aspect: float = 1.0  # edge, corner: steepness of one side to the other; sphere, flat: length to width
    sides: int = 0  # flat: corners of the polygon; corner: facets; dots: 4 square or 6 hexagonal; 0 is a disc
    backing_mm: float = 0.0  # dots, ridges, weave: radius of the dome that carries the pattern, 0 is flat
    # number of the random surface: of the whole object if unknown or of `IMPRINT_NAMES`, and of its unevenness
    pattern: int = 0
    skin_mm: float = 0.0  # unevenness of the indenter's surface (standard deviation)

    def __post_init__(self) -> None:
        if self.class_name not in (possible := (*CLASS_NAMES[1:], UNKNOWN, *IMPRINT_NAMES[1:])):
            right = ', '.join(possible)
            raise ValueError(f'class_name is {self.class_name!r}; must be one of {right}')
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != 'class_name' and not math.isfinite(value):
                raise ValueError(f'{item.name} is {value!r}; it must be a finite number')
        if self.depth_mm <= 0:
            raise ValueError(f'depth_mm is {self.depth_mm!r}; must be above 0 (no contact is None)')
