"""What is adapted to a sensor without labels: its reference, and the gain of a sensor of low contrast.

docs/results/adapt.md has what was measured, and what was left out because it brought nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.gate import STARTING_NOISE, Cells, noise_of
from vit_tactile_ros.inference.reference_store import MAX_GAIN, StoredReference

Image = NDArray[np.uint8]

LEAST_IMAGES = 20  # untouched ones: half of them are adapted to, half judge that
_MOVED, _TIMES_NOISE = 4.0, 5.0  # grey levels, and units of the noise, by which no cell of an untouched image differs
_FRAMES_IN_A_ROW = 3  # that show a touch; fewer are noise
# Grey levels at which presses of simulated units peak: 90 % are from 18 to 49. Below, accuracy falls steeply.
LEAST_CONTRAST, TYPICAL_CONTRAST = 18.0, 32.0
LEAST_TOUCHED = 5  # images of presses
_STRONGEST = 90  # percentile of the touched images whose contrast counts: a light press says little about the sensor


def mean_of(frames: Sequence[Image]) -> NDArray[np.float32]:
    """(h, w, 3), grey levels."""
    return np.asarray(np.mean(frames, axis=0, dtype=np.float64), np.float32)


def adapted(frames: Sequence[Image], camera_size: tuple[int, int], gain: float, weights: str) -> StoredReference:
    """The mean of the fitted, untouched frames. weights: `Checkpoint.digest` of the network that the gain is for.

    Of the noise only what is not above that of every start: a higher one hid touches, and the gate learns it.
    """
    frame = mean_of(frames)
    noise = np.minimum(noise_of(frames, frame), np.float32(STARTING_NOISE**2))
    return StoredReference(frame, noise, camera_size, gain, weights if gain != 1 else '')


def check_untouched(cells: Sequence[Cells], seconds: Sequence[float]) -> None:
    """Raises UserError if something touches in these images (their cells), or the light or camera moves."""
    if len(cells) < LEAST_IMAGES:
        raise UserError(f'{len(cells)} untouched images in {seconds[-1] if seconds else 0:.1f} s; must be at least '
                        f'{LEAST_IMAGES}, better 250: record about ten seconds without a touch before the first '
                        'press, and set --untouched to their duration')
    change = np.abs(np.stack(cells) - np.median(cells, axis=0)).mean(axis=-1)
    limit = max(_MOVED, _TIMES_NOISE * float(np.median(change.max(axis=0)) / 3))
    moved = change.max(axis=(1, 2)) > limit
    runs = np.convolve(moved, np.ones(_FRAMES_IN_A_ROW), 'valid') == _FRAMES_IN_A_ROW
    if runs.any():
        at = int(np.argmax(runs))
        last = at + int(np.argmin([*moved[at:], False])) - 1
        raise UserError(f'the images from {seconds[at]:.1f} to {seconds[last]:.1f} s differ from the others by '
                        f'{float(change[at:last + 1].max()):.1f} grey levels in a part; of an untouched gel they may '
                        f'differ by {limit:.1f}. Something touches, or the light or the camera moves: record the gel '
                        'again, or set --untouched to the seconds before the first touch')


def contrast(frame: Image, reference: NDArray[np.float32]) -> float:
    """Grey levels at which the difference peaks: 99.5th percentile, blurred over 5x5 px, of the strongest colour."""
    return float(np.percentile(np.abs(cv2.blur(frame.astype(np.float32) - reference, (5, 5))).max(axis=2), 99.5))


def gain_of(contrasts: Sequence[float]) -> tuple[float, float]:
    """Of the touched images of several firm presses: their contrast in grey levels, and the gain of the difference.

    The gain is 1 from LEAST_CONTRAST on; a lower one than 1 was measured to harm.
    """
    strongest = float(np.percentile(contrasts, _STRONGEST))
    return strongest, (1.0 if strongest >= LEAST_CONTRAST else min(TYPICAL_CONTRAST / max(strongest, 1e-3), MAX_GAIN))
