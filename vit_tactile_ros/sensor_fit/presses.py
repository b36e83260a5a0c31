"""Ball presses of a real sensor; the known shape of the ball gives the gel's surface."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.inference.image_file import read_image

COLUMNS = ('image', 'center_x_px', 'center_y_px', 'contact_radius_px', 'ball_radius_mm', 'mm_per_px')
MIN_PRESSES = 6
_FAR = 2.1  # contact radii: beyond, a press changes the image by no more than the light's drift
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Press:
    """A ball pressed into the gel, as labelled: the contact disc's centre and radius in px."""

    name: str  # file name of the image
    frame: np.ndarray  # uint8 (H, W, 3) RGB
    change: np.ndarray  # float32 (H, W, 3): frame minus reference, without the drift of the light
    x_px: float
    y_px: float
    radius_px: float  # of the contact, at most the ball's
    ball_radius_mm: float
    mm_per_px: float

    @property
    def depth_mm(self) -> float:
        """Depth of the ball, R - sqrt(R^2 - a^2) for a contact of radius a, as if the gel did not stretch."""
        contact_mm = self.radius_px * self.mm_per_px
        return self.ball_radius_mm - math.sqrt(max(self.ball_radius_mm**2 - contact_mm**2, 0.0))

    def distance_px(self) -> np.ndarray:
        """Of every pixel from the labelled centre, float32 (H, W)."""
        y, x = np.mgrid[:self.frame.shape[0], :self.frame.shape[1]].astype(np.float32)
        return np.hypot(x - np.float32(self.x_px), y - np.float32(self.y_px))


@dataclass(frozen=True)
class PressSet:
    """Presses of one sensor, and its reference."""

    presses: tuple[Press, ...]
    reference: np.ndarray  # uint8 (H, W, 3) RGB
    num_clipped: int = 0  # labels whose contact was larger than the ball

    @property
    def mm_per_px(self) -> float:
        return self.presses[0].mm_per_px

    def subset(self, indices: list[int]) -> PressSet:
        return dataclasses.replace(self, presses=tuple(self.presses[i] for i in indices))

    def split(self, hold_out: float) -> tuple[PressSet, PressSet]:
        """Presses to fit and presses held out, evenly spread over the list; DataError if one part is too small."""
        if not 0 < hold_out < 1:
            raise DataError(f'hold_out is {hold_out}; must be a share of the presses, above 0 and below 1')
        n = len(self.presses)
        held = [i for i in range(n) if math.floor((i + 1) * hold_out + 1e-9) > math.floor(i * hold_out + 1e-9)]
        fitted = [i for i in range(n) if i not in held]
        if not held or len(fitted) < MIN_PRESSES // 2:
            raise DataError(f'hold_out is {hold_out}: {len(fitted)} of {n} presses to fit and {len(held)} held out; '
                            f'must be at least {MIN_PRESSES // 2} and 1')
        return self.subset(fitted), self.subset(held)


def read_presses(path: Path, reference: Path) -> PressSet:
    """The presses of a CSV with the columns `COLUMNS` (more are ignored); image paths are relative to its folder.

    A contact larger than its ball is reduced to the ball's radius, with a warning.
    Raises DataError for missing columns, invalid values, fewer than `MIN_PRESSES` presses, and images that are missing,
    unreadable, of another size than the reference, or that do not contain the press.
    """
    columns, rows = read_rows(path)
    if missing := [name for name in COLUMNS if name not in columns]:
        raise DataError(f'{path} has no column {missing[0]!r}; it needs {", ".join(COLUMNS)}, and has '
                        f'{", ".join(columns)}')
    if len(rows) < MIN_PRESSES:
        raise DataError(f'{path} has {len(rows)} presses; must be at least {MIN_PRESSES}, better 20 spread '
                        'over the gel')
    no_contact = read_image(reference)
    height, width = no_contact.shape[:2]
    presses, clipped = [], 0
    scale = None
    for line, row in rows:
        where = f'{path}, line {line}'
        values = {name: _number(row[name], name, where) for name in COLUMNS[1:]}
        for name in COLUMNS[3:]:
            if values[name] <= 0:
                raise DataError(f'{where}: {name} is {row[name]}; must be above 0')
        scale = scale or values['mm_per_px']
        if values['mm_per_px'] != scale:
            raise DataError(f'{where}: mm_per_px is {row["mm_per_px"]}; must be {scale:g} as in the lines above')
        frame = read_image(path.parent / row['image'])
        if frame.shape != no_contact.shape:
            raise DataError(f'{where}: {row["image"]} is {frame.shape[1]}x{frame.shape[0]} px; must be '
                            f'{width}x{height} like the reference {reference}')
        x, y, radius = values['center_x_px'], values['center_y_px'], values['contact_radius_px']
        if not (0 <= x < width and 0 <= y < height):
            raise DataError(f'{where}: the press at ({x:g}, {y:g}) px is outside its image of {width}x{height} px')
        most = values['ball_radius_mm'] / scale
        if radius > most:
            clipped, radius = clipped + 1, most
        if radius < 3:
            raise DataError(f"{where}: the contact radius is {radius:g} px (the ball's is {most:g} px); must be at "
                            'least 3 px. Are contact_radius_px, ball_radius_mm and mm_per_px correct?')
        press = Press(row['image'], frame, frame.astype(np.float32) - no_contact, x, y, radius,
                      values['ball_radius_mm'], scale)
        presses.append(_without_drift(press))
    if clipped:
        logger.warning("%s: %d of %d contact radii are larger than the ball; reduced to the ball's radius", path,
                       clipped, len(presses))
    return PressSet(tuple(presses), no_contact, clipped)


def _number(text: str, name: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f'{where}: {name} is {text!r}; must be a number')
    return value


def _without_drift(press: Press) -> Press:
    """Subtract the change far from the contact: the light may have changed since the reference."""
    far = press.distance_px() > _FAR * press.radius_px
    if far.mean() < 0.1:
        return press
    return dataclasses.replace(press, change=press.change - np.median(press.change[far], axis=0).astype(np.float32))
