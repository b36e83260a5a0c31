"""The no-contact reference of one sensor: given as an image, or averaged from its first frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.image_file import ImageFileError, read_image
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig

Image = NDArray[np.uint8]
REFERENCE_FRAMES = 5  # of the start of a recording; a single one would add its noise to every difference


class Reference:
    """The mean of the first `num_frames` fitted frames, or a fixed image.

    While frames are being gathered, the mean so far is used, so that the first frame can be classified already. The
    sensor must not touch anything during that time.
    """

    def __init__(self, num_frames: int = REFERENCE_FRAMES, fixed: NDArray[Any] | None = None) -> None:
        if num_frames < 1:
            raise ValueError(f'num_frames is {num_frames}; must be at least 1')
        self.num_frames = num_frames
        self._fixed = None if fixed is None else _planar(fixed)
        self._gathered = 0
        self._mean: NDArray[np.float32] | None = None

    def recapture(self) -> None:
        """Replace the reference, also a fixed image, by the mean of the next frames."""
        self._fixed = None
        self._gathered = 0
        self._mean = None

    @property
    def frame(self) -> NDArray[np.float32] | None:
        """The current reference, (h, w, 3) in grey levels 0..255; None before the first frame."""
        return self._fixed if self._fixed is not None else self._mean

    @property
    def is_fixed(self) -> bool:
        return self._fixed is not None

    @property
    def is_complete(self) -> bool:
        return self.is_fixed or self._gathered >= self.num_frames

    @property
    def gathered(self) -> int:
        """Frames that are in the mean."""
        return self._gathered

    def follow(self, frame: Image, share: float) -> None:
        """Move the reference towards an untouched frame by this share of their difference, 0..1."""
        current = self.frame
        assert current is not None
        # A new array: `frame` has returned the old one.
        followed = _planar(frame)
        followed -= current
        followed *= np.float32(share)
        followed += current
        if self._fixed is not None:
            self._fixed = followed
        else:
            self._mean = followed

    def replace(self, mean: NDArray[np.floating]) -> None:
        """Another mean, (h, w, 3), of those of the gathered frames that belong together."""
        self._mean = _planar(mean)

    def update(self, frame: Image) -> bool:
        """Add a fitted frame to the mean while it is being gathered; True if this frame completed it."""
        if self.is_complete:
            return False
        self._gathered += 1
        if self._mean is None:
            self._mean = _planar(frame)
        else:
            # A new array: `frame` has returned the old one.
            self._mean = _planar(self._mean + (frame - self._mean) / self._gathered)
        return self.is_complete


def _planar(frame: NDArray[Any]) -> NDArray[np.float32]:
    """A copy in float32, (h, w, 3), one channel after the other in memory, as in the network's input."""
    return np.array(frame.transpose(2, 0, 1), np.float32, order='C').transpose(1, 2, 0)


def fixed_references(files: Sequence[str], sensors: Sequence[str], config: PreprocessingConfig) -> list[Image | None]:
    """The image of each sensor without contact, fitted; None for a sensor whose file is ''.

    [''] means no files. Raises UserError for a wrong number of files and for a file that is not a readable image.
    """
    if list(files) == ['']:
        return [None] * len(sensors)
    if len(files) != len(sensors):
        raise UserError(f'reference_files has {len(files)} entries; must be one per sensor: {list(sensors)}')
    fitted: list[Image | None] = []
    for file in files:
        try:
            fitted.append(fit(read_image(file), config) if file else None)
        except ImageFileError as error:
            raise UserError(f'reference_files: {error}') from error
    return fitted
