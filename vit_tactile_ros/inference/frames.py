"""The images of one sensor in the order of arrival: decode, fit, reference, motion; live, in replay and in training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.closer import Closer, search
from vit_tactile_ros.inference.colour import GREY_NOTE, is_grey
from vit_tactile_ros.inference.decode import UNDEFINED_ORDER, decode
from vit_tactile_ros.inference.gate import to_cells
from vit_tactile_ros.inference.motion import Motion
from vit_tactile_ros.inference.note import Note
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import Reference, fixed_references
from vit_tactile_ros.inference.reference_monitor import DRIFT, ReferenceMonitor
from vit_tactile_ros.inference.reference_store import (
    StoredReference,
    StoreError,
    read_reference,
    write_reference,
    written_at,
)
from vit_tactile_ros.inference.sensor_gain import CAUSE as GAIN
from vit_tactile_ros.inference.sensor_gain import SensorGain
from vit_tactile_ros.inference.slip_evidence import SlipEvidence
from vit_tactile_ros.inference.slip_network import SlipNetwork
from vit_tactile_ros.inference.unchanged import Unchanged
from vit_tactile_ros.model import PreprocessingConfig

Image = NDArray[np.uint8]

WORTH_SAVING = 0.5  # grey levels by which a part of the reference differs from the file
_NOT_STORED = 'It is not stored until capture_reference is called'


class Frame(NamedTuple):
    """One image, ready for the network."""

    image: Image  # fitted, uint8 RGB (h, w, 3); with `closer`, the part that the network sees
    reference: NDArray[Any] | None  # for this image, (h, w, 3) in grey levels; None: not used
    stamp_ns: int  # of the message's header, or the time of receipt
    notes: Sequence[Note]
    is_untouched: bool = False  # the difference to the reference shows no touch: the network is not needed
    touch_odds: float = 1.0  # of a touch, from that difference; 1: it shows nothing
    gain: float = 1.0  # of that difference, for the network
    # Motion is the difference to it; fitted, (h, w, 3 * motion_views); None: motion is not used.
    previous: Image | None = None
    slip: SlipEvidence | None = None  # what the last seconds show; None: not computed
    is_unchanged: bool = False  # it shows the same touch as the last image of which this is False
    closer: Closer | None = None  # None: the network sees the whole image
    whole: Image | None = None  # the whole image, fitted, where `image` is a part of it
    is_limited: bool = False  # a camera's image of more px would enlarge a small contact more

    @property
    def zoom(self) -> float:
        """Of the part that the network sees; 1: the whole image."""
        return 1.0 if self.closer is None else self.closer.zoom

    @property
    def whole_image(self) -> Image:
        """Fitted, uint8 RGB (h, w, 3)."""
        return self.image if self.whole is None else self.whole


class SensorFrames:
    """Messages of one sensor to frames, with the state that carries over from image to image.

    Where motion is used, `Motion` defines the image before each: also at the start, after a gap, for stamps that repeat
    or go back. Another resolution is a start, too; capturing the reference again changes nothing, because motion does
    not depend on it.

    Not thread-safe, apart from `request_recapture`, `save_reference` and reading the counters and `monitor.health`.
    """

    def __init__(self, reference: Reference, preprocessing: PreprocessingConfig | None = None,
                 expects_grey: bool = True, drift: float = DRIFT, motion: tuple[float, int] | None = None,
                 weights: str = '', slip_network: SlipNetwork | None = None, finds_unchanged: bool = False) -> None:
        """preprocessing: None keeps the images as decoded and gathers a reference of that size.

        expects_grey: do not check for grey images, since the network was trained on them.
        drift: s, time constant with which the reference follows untouched frames; 0: it does not.
        motion: interval in s, 0 for no motion, and number of views; None: those of `preprocessing`.
        weights: `Checkpoint.digest` of the network; a stored gain is used only for that.
        slip_network: gives `Frame.slip`, from fitted images and their reference.
        finds_unchanged: gives `Frame.is_unchanged`; not where motion is used, which may end while the touch does not.
        """
        if motion is None:
            motion = (preprocessing.motion_interval, preprocessing.motion_views) if preprocessing else (0.0, 1)
        self._motion = Motion(*motion) if motion[0] else None
        self._detector = slip_network.detector() if slip_network is not None and preprocessing is not None else None
        self.reference = reference
        self._drift = drift
        self.monitor = ReferenceMonitor(reference, drift)
        self._unchanged = Unchanged() if finds_unchanged and self._motion is None else None
        self._store: Path | None = None  # the file that keeps the reference across restarts
        self._stored: StoredReference | None = None  # what was read from it
        self.stored_at: float | None = None  # s since 1970, when the file was written; None: it has no reference for us
        self._saved_version = 0
        self._saved: NDArray[np.float32] | None = None  # the reference that is in the file
        self._may_save = True  # False: the file has another reference, and nobody has asked to replace it
        self._gain = SensorGain(weights)
        self._pending_notes: list[Note] = []
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

    def forget_recapture(self) -> None:
        """Do not capture the reference again, unless that has begun; may be called by another thread."""
        self._recapture_requested = False

    def take_over(self, other: SensorFrames) -> None:
        """Continue with the reference and the counters of `other`, whose images are fitted in the same way."""
        self._gain.take_over(other._gain, self.stored_at)
        for name in ('reference', 'monitor', '_stored', 'stored_at', '_saved_version', '_saved', '_may_save', '_shape',
                     '_recapture_requested', 'images', 'resolution_changes', 'grey_images', 'is_grey'):
            setattr(self, name, getattr(other, name))
        # Without those of a stored reference that is not used now.
        self._pending_notes = [note for note in self._pending_notes if note.cause == GAIN]

    def use_gain_of(self, fresh: SensorFrames) -> None:
        """The gain that `fresh` read for another network; 1 if another reference was captured since it was written."""
        fresh._gain.take_over(self._gain, fresh.stored_at)
        self._gain = fresh._gain
        self._pending_notes += [note for note in fresh._pending_notes if note.cause == GAIN]

    def update(self, message: Any, stamp_ns: int) -> Frame:
        """The frame of the next message, a sensor_msgs/Image or CompressedImage; raises DecodeError."""
        image = decode(message)
        self.images += 1
        notes, self._pending_notes = self._pending_notes, []
        if (encoding := getattr(message, 'encoding', '')) in UNDEFINED_ORDER:
            notes.append(Note(encoding, f'encoding {encoding} does not define its colour order; read as BGR',
                              is_lasting=True))
        if image.shape != self._shape:
            self._change_resolution(image.shape, notes)
        camera_image = image
        if self._preprocessing is not None:
            image = fit(image, self._preprocessing)
        if not self._expects_grey:
            self._check_colour(image, notes)
        if self.needs_reference:
            self._update_reference(image, stamp_ns, notes)
        previous = None if self._motion is None else self._move(self._motion, image, stamp_ns, notes)
        reference = self.reference.frame if self.needs_reference else None
        slip = None
        if self._detector is not None and reference is not None:
            slip = self._detector.update(image, stamp_ns, reference)
        is_unchanged = self._unchanged is not None and self._unchanged.check(self.monitor, stamp_ns)
        frame = Frame(image, reference, stamp_ns, notes, is_untouched=self.monitor.is_untouched,
                      touch_odds=self.monitor.touch_odds, gain=self.gain, previous=previous, slip=slip,
                      is_unchanged=is_unchanged)
        if self._preprocessing is None or reference is None or frame.is_untouched:  # untouched: nothing to look at
            return frame
        closer, is_limited = search(camera_image, image, reference, self._preprocessing)
        if closer is None:
            return frame._replace(is_limited=True) if is_limited else frame
        return frame._replace(image=closer.image, reference=closer.reference, closer=closer, whole=image,
                              is_limited=is_limited)

    @property
    def motion_gaps(self) -> int:
        """Images whose motion is taken as zero, because of a gap before them or a stamp that went back."""
        return self._motion.gaps if self._motion else 0

    def keep_in(self, store: Path) -> None:
        """Keep the reference in this file, and start with the one that is there, if it can be used."""
        assert self._preprocessing is not None
        self._store = store
        try:
            stored = read_reference(store, self._preprocessing)
        except StoreError as error:
            self._may_save = False
            self._pending_notes.append(Note('reference store', f'stored reference not used: {error}. The first images '
                                            f'become the reference: touch nothing. {_NOT_STORED}'))
            return
        if stored is not None:
            self.reference = Reference(self.reference.num_frames, stored.frame)
            self.monitor = ReferenceMonitor(self.reference, self._drift, stored)
            self._stored, self._saved, self.stored_at = stored, stored.frame, written_at(store)
            hours = f'{(time.time() - self.stored_at) / 3600:.1f}'.removesuffix('.0')
            notes = self._gain.use(stored, store)
            gain = f', differences times {self.gain:.2f}' if self.gain != 1 else ''
            self._pending_notes.append(Note('reference store', f'no-contact reference of {hours} h ago{gain}: {store}',
                                            is_warning=False))
            self._pending_notes += notes

    def save_reference(self, least: float = 0.0) -> Path | None:
        """Write the reference to its file if it is known to fit and has changed; raises WriteError.

        least: grey levels, change of a part of the image below which it is not written. Returns the file if it was
        written.
        """
        version, shape = self.monitor.version, self._shape
        if self._store is None or shape is None or version == self._saved_version or not self._may_save:
            return None
        assert self._preprocessing is not None
        stored = self.monitor.snapshot((shape[0], shape[1]))
        if stored is None or (self._saved is not None and least
                              and np.abs(to_cells(stored.frame - self._saved)).max() <= least):
            return None
        gain, gain_for = self._gain.to_store(self._store, self._preprocessing)
        stored = replace(stored, gain=gain, gain_for=gain_for)
        write_reference(self._store, stored, self._preprocessing)
        self._saved_version, self._saved, self.stored_at = version, stored.frame, time.time()
        return self._store

    @property
    def gain(self) -> float:
        """Of the difference to the reference, for the network; 1 once another reference is captured."""
        return self._gain.value

    @property
    def is_kept(self) -> bool:
        """Whether the reference is kept in a file."""
        return self._store is not None

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
        previous = self._shape
        if previous is None:
            if self.monitor.is_stored and self._stored is not None and self._stored.camera_size != shape[:2]:
                height, width = self._stored.camera_size
                self._recapture_unasked()
                notes += self._gain.give_up()
                notes.append(Note('reference store', f'stored reference not used: it is of {width}x{height} images, '
                                  f'these are {shape[1]}x{shape[0]}. The next images become the reference: touch '
                                  f'nothing. {_NOT_STORED}'))
            self._shape = shape
            return
        self.resolution_changes += 1
        if self._motion:
            self._motion.clear()
        if self._detector:
            self._detector.clear()
        self.monitor.doubt()
        text = f'resolution changed from {previous[1]}x{previous[0]} to {shape[1]}x{shape[0]}'
        if self.needs_reference and (self.monitor.is_stored or not self.reference.is_fixed):
            self._recapture_unasked()  # the images are of another view
            notes += self._gain.give_up()
            text += '; its no-contact reference is captured again from the next frames: touch nothing'
            if self._store is not None:
                text += f'. {_NOT_STORED}'
        self._shape = shape  # last: save_reference, in another thread, must not write the old reference with it
        notes.append(Note('resolution', text))

    @staticmethod
    def _move(motion: Motion, image: Image, stamp_ns: int, notes: list[Note]) -> Image:
        gaps = motion.gaps
        previous = motion.update(image, stamp_ns)
        if motion.gaps > gaps:
            why = (f'the stamp went back by {-motion.step:.2f} s' if motion.step < 0 else
                   f'the last image was {motion.step:.2f} s ago by its stamp, at most {motion.farthest:.2f} s are '
                   f'allowed ({1 / motion.farthest:g} Hz): the camera is slower, images were lost, or the node '
                   'lags (see superseded in /diagnostics)')
            notes.append(Note('motion', f'{why}; the motion of this image is taken as zero'))
        return previous

    def _check_colour(self, image: Image, notes: list[Note]) -> None:
        if (grey := is_grey(image)) is None:
            return
        self.is_grey = grey
        if grey:
            self.grey_images += 1
            notes.append(Note('grey', f'the images are grey; {GREY_NOTE}. Check the encoding and the colour settings '
                                      'of the camera', is_lasting=True))

    def _recapture(self) -> None:
        if self._detector:
            self._detector.clear()
        self.reference.recapture()
        self.monitor.restart()

    def _recapture_unasked(self) -> None:
        """Nobody has said that nothing touches, so the new reference must not replace the one in the file."""
        self._may_save = False
        self._recapture()

    def _update_reference(self, image: Image, stamp_ns: int, notes: list[Note]) -> None:
        if self._recapture_requested:
            self._recapture_requested = False
            self._recapture()
            notes += self._gain.give_up()
            self._may_save = True
        is_managed = self._preprocessing is not None
        if self.reference.is_complete:
            if is_managed:
                notes += self.monitor.check(image, stamp_ns)
            return
        if self.reference.update(image):
            notes.append(Note('reference', f'no-contact reference captured from {self.reference.num_frames} frames',
                              is_warning=False))
        if is_managed:
            notes += self.monitor.gather(image)


def sensor_frames(names: Sequence[str], reference_files: Sequence[str], reference_frames: int,
                  preprocessing: PreprocessingConfig, expects_grey: bool, drift: float = DRIFT,
                  stores: Mapping[str, Path] | None = None, weights: str = '',
                  slip_network: SlipNetwork | None = None, finds_unchanged: bool = False) -> dict[str, SensorFrames]:
    """By name of the sensor; raises UserError as `fixed_references` does.

    stores: by name, the file that keeps a reference across restarts; not of sensors with a reference file.
    weights, slip_network, finds_unchanged: as for `SensorFrames`.
    """
    fixed = fixed_references(reference_files, names, preprocessing)
    found = {name: SensorFrames(Reference(reference_frames, image), preprocessing, expects_grey, drift, weights=weights,
                                slip_network=slip_network, finds_unchanged=finds_unchanged)
             for name, image in zip(names, fixed, strict=True)}
    for name, image in zip(names, fixed, strict=True):
        if stores and name in stores and image is None and found[name].needs_reference:
            found[name].keep_in(stores[name])
    return found
