"""The images of one sensor in the order of arrival: decode, fit, reference, motion; live, in replay and in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.colour import GREY_NOTE, is_grey
from vit_tactile_ros.inference.decode import UNDEFINED_ORDER, decode
from vit_tactile_ros.inference.motion import Motion
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import Reference, fixed_references
from vit_tactile_ros.model import PreprocessingConfig

Image = NDArray[np.uint8]


class Note(NamedTuple):
    """Something to report about a sensor's images."""

    cause: str  # the same for notes that repeat one another
    text: str
    is_warning: bool = True
    is_lasting: bool = False  # holds for every image that follows: report it once


class Frame(NamedTuple):
    """One image, ready for the network."""

    image: Image  # fitted, uint8 RGB (h, w, 3)
    reference: NDArray[np.float32] | None  # for this image, (h, w, 3) in grey levels; None: not used
    stamp_ns: int  # of the message's header, or the time of receipt
    notes: Sequence[Note]
    previous: Image | None = None  # motion is the difference to it; fitted; None: motion is not used


class SensorFrames:
    """Messages of one sensor to frames, with the state that carries over from image to image.

    Where motion is used, `Motion` defines the image before each: also at the start, after a gap, for stamps that repeat
    or go back. Another resolution is a start, too; capturing the reference again changes nothing, because motion does
    not depend on it.

    Not thread-safe, apart from `request_recapture` and reading the counters.
    """

    def __init__(self, reference: Reference, preprocessing: PreprocessingConfig | None = None,
                 expects_grey: bool = True, motion_interval: float | None = None) -> None:
        """preprocessing: None keeps the images as decoded and gathers a reference of that size.

        expects_grey: do not check for grey images, since the network was trained on them.

        motion_interval: in s, 0 for no motion; None: that of `preprocessing`.
        """
        if motion_interval is None:
            motion_interval = preprocessing.motion_interval if preprocessing else 0.0
        self._motion = Motion(motion_interval) if motion_interval else None
        self.reference = reference
        self.needs_reference = preprocessing is None or preprocessing.reference == 'difference'
        self._preprocessing = preprocessing
        self._expects_grey = expects_grey
        self._shape: tuple[int, ...] | None = None  # of the last decoded image
        self._recapture_requested = False
        self.images = 0  # decoded
        self.resolution_changes = 0
        self.grey_images = 0
        self.is_grey: bool | None = None  # the last image that was neither too dark nor too bright to tell

    def request_recapture(self) -> None:
        """Capture the reference again from the images that follow; may be called by another thread."""
        self._recapture_requested = True

    def update(self, message: Any, stamp_ns: int) -> Frame:
        """The frame of the next message, a sensor_msgs/Image or CompressedImage; raises DecodeError."""
        image = decode(message)
        self.images += 1
        notes: list[Note] = []
        if (encoding := getattr(message, 'encoding', '')) in UNDEFINED_ORDER:
            notes.append(Note(encoding, f'encoding {encoding} does not define its colour order; read as BGR',
                              is_lasting=True))
        if image.shape != self._shape:
            self._change_resolution(image.shape, notes)
        if self._preprocessing is not None:
            image = fit(image, self._preprocessing)
        if not self._expects_grey:
            self._check_colour(image, notes)
        if self.needs_reference:
            self._update_reference(image, notes)
        previous = None if self._motion is None else self._move(self._motion, image, stamp_ns, notes)
        return Frame(image, self.reference.frame if self.needs_reference else None, stamp_ns, notes,
                     previous=previous)

    @property
    def motion_gaps(self) -> int:
        """Images whose motion is taken as zero, because of a gap before them or a stamp that went back."""
        return self._motion.gaps if self._motion else 0

    @property
    def shortage(self) -> str:
        """What is wrong if no image follows: too few for the reference; '' if nothing."""
        if not self.needs_reference or not self.images or self.reference.is_complete:
            return ''
        since = ' since its resolution changed' if self.resolution_changes else ''
        return (f'has {self.reference.gathered} usable images{since}, fewer than the {self.reference.num_frames} '
                'of its no-contact reference, which is their mean, so any touch spoils it. Give an image '
                'without contact instead, or use fewer reference images')

    def _change_resolution(self, shape: tuple[int, ...], notes: list[Note]) -> None:
        previous, self._shape = self._shape, shape
        if previous is None:
            return
        self.resolution_changes += 1
        if self._motion:
            self._motion.clear()
        text = f'resolution changed from {previous[1]}x{previous[0]} to {shape[1]}x{shape[0]}'
        if self.needs_reference and not self.reference.is_fixed:
            self.reference.recapture()  # the images are of another view
            text += '; its no-contact reference is captured again from the next frames: touch nothing'
        notes.append(Note('resolution', text))

    @staticmethod
    def _move(motion: Motion, image: Image, stamp_ns: int, notes: list[Note]) -> Image:
        gaps = motion.gaps
        previous = motion.update(image, stamp_ns)
        if motion.gaps > gaps:
            notes.append(Note('motion', f'by its stamp, the previous image is more than {motion.farthest:.2f} s older, '
                                        'or newer; the motion of this image is taken as zero'))
        return previous

    def _check_colour(self, image: Image, notes: list[Note]) -> None:
        if (grey := is_grey(image)) is None:
            return
        self.is_grey = grey
        if grey:
            self.grey_images += 1
            notes.append(Note('grey', f'the images are grey; {GREY_NOTE}. Check the encoding and the colour settings '
                                      'of the camera', is_lasting=True))

    def _update_reference(self, image: Image, notes: list[Note]) -> None:
        if self._recapture_requested:
            self._recapture_requested = False
            self.reference.recapture()
        if self.reference.update(image):
            notes.append(Note('reference', f'no-contact reference captured from {self.reference.num_frames} frames',
                              is_warning=False))


def sensor_frames(names: Sequence[str], reference_files: Sequence[str], reference_frames: int,
                  preprocessing: PreprocessingConfig, expects_grey: bool) -> dict[str, SensorFrames]:
    """By name of the sensor; raises UserError as `fixed_references` does."""
    fixed = fixed_references(reference_files, names, preprocessing)
    return {name: SensorFrames(Reference(reference_frames, image), preprocessing, expects_grey)
            for name, image in zip(names, fixed, strict=True)}
