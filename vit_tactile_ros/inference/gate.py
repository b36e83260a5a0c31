"""What the difference to the reference shows without the network: no touch, so that no block needs to run, or one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.float32]  # (rows, columns, 3), grey levels

GATE_EXIT_INDEX, GATE_EXIT_BLOCK = -1, 0  # in results: no block of the network ran
# Share of the frames that the gate lets exit that show no touch to a person, on 24 clips of a real sensor; the others
# are presses that change the image by less than 5 grey levels. See docs/results/gate.md.
GATE_CONFIDENCE = 0.95

_CELLS = 12  # along the shorter side: 8x8 px of a 96x128 input. A press is larger; 4 px are mostly noise of the codec.
# In units of the cell's noise. On the real clips, 94 % of the untouched frames are below, and no touched frame whose
# difference peaks at 5 grey levels or more. With 3.5 it is 97 %, but first contact is seen later in three clips.
THRESHOLD = 3.0
LARGEST_SHIFT = 3.0  # grey levels of a smooth change of light; a larger one is left to the network
# With a reference that fits, a local difference far above the noise is a touch, although the network, which sees one
# frame, may take a wide and smooth one for drift. The odds of a touch rise with the score, from 1 at THRESHOLD to
# TOUCH_ODDS, which a network that is certain of no contact overrides. See docs/results/gate.md.
TOUCHED_SCORE, TOUCH_ODDS = 8.0, 100.0
# A difference in few cells may be stray light of an object beside the gel, which a network that is certain of no
# contact knows: its odds are at most these. Up to the first share of the cells; from the second on it counts as wide.
NARROW_ODDS, _WIDE = 10.0, (0.02, 0.04)
# Share of the cells from which on the odds fall, and at which there are none: only a touch of the whole gel, or another
# light or reference, differs so widely.
_EVERYWHERE = 0.8, 0.95
STARTING_NOISE, _STARTING_WEIGHT = 1.0, 8  # grey levels of a cell's mean, and the number of frames that it counts for
_LOWEST_NOISE, _HIGHEST_NOISE = 0.3, 3.0  # grey levels; a noisier cell would hide faint contacts
_MEMORY = 250  # frames over which noise is learned: long enough for the codecs that write a whole image now and then
_TINY = 1e-6 * np.eye(3, dtype=np.float32)  # cells in one row do not define a plane
_OUTLIER = 4.0  # squares count at most this many times the variance, so that a missed faint touch hardly raises it


def constants() -> dict[str, float | tuple[float, float]]:
    """What a program needs that judges frames as `Gate` does; in grey levels, frames, shares and units of the noise."""
    return {
        'cells_along_shorter_side': _CELLS, 'threshold': THRESHOLD, 'largest_shift': LARGEST_SHIFT,
        'starting_noise': STARTING_NOISE, 'starting_weight': _STARTING_WEIGHT, 'lowest_noise': _LOWEST_NOISE,
        'highest_noise': _HIGHEST_NOISE, 'memory': _MEMORY, 'outlier': _OUTLIER, 'confidence': GATE_CONFIDENCE,
        'touched_score': TOUCHED_SCORE, 'touch_odds': TOUCH_ODDS, 'narrow_odds': NARROW_ODDS,
        'wide': _WIDE, 'everywhere': _EVERYWHERE}


class Verdict(NamedTuple):
    """How a frame differs from the reference."""

    score: float  # largest local difference in units of the noise
    shift: float  # grey levels, largest smooth difference
    touched_share: float  # of the cells whose local difference is above THRESHOLD, 0..1

    @property
    def is_still(self) -> bool:
        """No local difference above the noise; the light may have changed smoothly."""
        return self.score < THRESHOLD

    @property
    def is_untouched(self) -> bool:
        return self.is_still and self.shift <= LARGEST_SHIFT

    @property
    def touch_odds(self) -> float:
        """Probability of this difference with a touch over that without, 1 to TOUCH_ODDS, if the reference fits."""
        narrow = math.log(NARROW_ODDS, TOUCH_ODDS)
        most = narrow + (1 - narrow) * _rise(self.touched_share, *_WIDE)
        is_local = 1 - _rise(self.touched_share, *_EVERYWHERE)
        return float(TOUCH_ODDS ** (is_local * min(_rise(self.score, THRESHOLD, TOUCHED_SCORE), most)))


def _rise(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


class Gate:
    """Judges the frames of one sensor and learns the noise of every cell from those that are untouched.

    Only the frames count, never the network's results, so that the live node and replay, which classifies in batches
    later, come to the same decisions.
    """

    def __init__(self) -> None:
        self.variance: NDArray[np.float32] | None = None  # (rows, columns), grey levels squared; a new array each time
        self._frames = 0.0  # that the variance is the mean of, at most _MEMORY

    def restart(self, spread: NDArray[np.float32] | None = None) -> None:
        """Forget the noise: another reference, or another time. spread: variance of the cells, if it is known.

        A cell has at least the noise of the start, since a reference of another time is off by more than the noise.
        What is learned now soon counts more: with the weight of 100 frames a stored noise hid faint touches.
        """
        self.variance = None if spread is None else np.maximum(spread, STARTING_NOISE**2).astype(np.float32)
        self._frames = _STARTING_WEIGHT

    def judge(self, difference: Cells) -> Verdict:
        """difference: cells of the frame minus those of the reference."""
        rows, columns = difference.shape[:2]
        flat = difference.reshape(rows * columns, 3)
        plane = _plane(rows, columns)
        smooth = plane @ (plane.T @ flat)  # least squares
        rest = flat - smooth
        squares = _squares(rest, rows, columns)
        if self.variance is None or self.variance.shape != squares.shape:
            self.restart(np.zeros((rows, columns), np.float32))
        limits = self._limits()
        assert self.variance is not None
        ratios = squares / limits
        score = math.sqrt(ratios.max())
        if score >= THRESHOLD:  # the touch distorts the least squares: it would seem to be everywhere
            smooth, ratios = _without_touch(plane, flat, limits)
            score = max(score, math.sqrt(ratios.max()))
        verdict = Verdict(score, float(np.abs(smooth).max()), np.count_nonzero(ratios > THRESHOLD**2) / ratios.size)
        if verdict.is_untouched:
            self._frames = min(self._frames + 1, _MEMORY)
            self.variance = self.variance + (np.minimum(squares, _OUTLIER * self.variance)
                                             - self.variance) / self._frames
        return verdict

    def change(self, difference: Cells) -> float:
        """The largest cell of a difference between two judged frames, in units of the noise; light counts too."""
        rows, columns = difference.shape[:2]
        squares = _squares(difference.reshape(rows * columns, 3), rows, columns)
        return math.sqrt((squares / self._limits()).max())

    def _limits(self) -> NDArray[np.float32]:
        """The variance of the noise of every cell, in its range; a frame must have been judged."""
        assert self.variance is not None
        return np.minimum(np.maximum(self.variance, _LOWEST_NOISE**2), _HIGHEST_NOISE**2)

    @property
    def noise(self) -> float:
        """Grey levels, root mean square over the cells."""
        return float(np.sqrt(self.variance.mean())) if self.variance is not None else STARTING_NOISE


def _squares(rest: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Mean over the colours, (rows, columns), of the squares of (rows * columns, 3)."""
    return (np.einsum('ij,ij->i', rest, rest) / 3).reshape(rows, columns)


def noise_of(frames: Sequence[NDArray[np.uint8]], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Variance of every cell, (rows, columns), of untouched fitted frames around their reference; of light, none."""
    still = to_cells(reference)
    rows, columns = still.shape[:2]
    plane = _plane(rows, columns)
    total = np.zeros((rows, columns), np.float32)
    for frame in frames:
        flat = (to_cells(frame) - still).reshape(rows * columns, 3)
        total += _squares(flat - plane @ (plane.T @ flat), rows, columns)
    return total / np.float32(max(len(frames) - 1, 1))


def _without_touch(plane: NDArray[np.float32], flat: NDArray[np.float32], limits: NDArray[np.float32],
                   ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The smooth difference, fitted to the half of the cells that it fits best, and the ratios of all cells to it."""
    half = len(flat) // 2  # the fit is not repeated: that changes hardly anything and takes as long again
    smooth = np.partition(flat, half, axis=0)[half]  # a median: least squares would start within the touch
    ratios = _squares(flat - smooth, *limits.shape) / limits
    kept = (ratios <= np.partition(ratios, half, axis=None)[half]).ravel()
    basis = plane[kept]
    smooth = plane @ np.linalg.solve(basis.T @ basis + _TINY, basis.T @ flat[kept])
    return smooth, _squares(flat - smooth, *limits.shape) / limits


def to_cells(image: NDArray[np.uint8] | NDArray[np.float32]) -> Cells:
    """Means over about square cells, 12 along the shorter side, of an (h, w, 3) image."""
    if image.dtype != np.float32:  # OpenCV rounds the means of integers
        image = np.array(image, np.float32, order='C')
    elif not image.flags.c_contiguous:  # of a reference; np.array takes 5 to 10 times as long
        image = cv2.merge(tuple(image.transpose(2, 0, 1)))
    height, width = image.shape[:2]
    cell = max(1.0, min(height, width) / _CELLS)
    return cv2.resize(image, (max(2, round(width / cell)), max(2, round(height / cell))),
                      interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=8)
def _plane(rows: int, columns: int) -> NDArray[np.float32]:
    """An orthonormal basis of the planes over rows x columns cells, (rows * columns, 3)."""
    y, x = np.mgrid[-1:1:rows * 1j, -1:1:columns * 1j]
    basis = np.stack([np.ones(rows * columns), x.ravel(), y.ravel()], axis=1)
    return (basis / np.linalg.norm(basis, axis=0)).astype(np.float32)
