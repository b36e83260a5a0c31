"""Predictions for image files, each by itself, and for videos, whose images are those of one sensor over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.bags.find import is_recording
from vit_tactile_ros.data.folders import IMAGE_SUFFIXES
from vit_tactile_ros.data.recorded_images import DEFAULT_RATE, files_in, images_in
from vit_tactile_ros.data.video import VIDEOS, images_of, rate_of
from vit_tactile_ros.evaluation.recordings.sensor_notes import sensor_notes
from vit_tactile_ros.evaluation.touchbench.clips import message_of
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.words import counted
from vit_tactile_ros.inference.annotation import Annotated
from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.colour import GREY_NOTE
from vit_tactile_ros.inference.frames import Frame, SensorFrames
from vit_tactile_ros.inference.gate import GATE_EXIT_BLOCK
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference

Image = NDArray[np.uint8]
WHAT = f'must be an image, a folder of images or a video ({", ".join(VIDEOS)})'


@dataclass(frozen=True)
class Predicted:
    """The prediction for one image."""

    file: Path
    number: int | None  # of the image in its video or folder, from 0; None: the file by itself
    seconds: float | None  # since the first image
    frame: Frame
    decision: Decision

    @property
    def is_gated(self) -> bool:
        """Whether the gate decided, so that no block of the network ran."""
        return self.decision.exit_block == GATE_EXIT_BLOCK

    def row(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The values by name, as `predict` writes them."""
        decision = self.decision
        shares = zip(class_names, decision.probabilities, strict=True)
        return {'file': str(self.file), 'image': self.number,
                'seconds': None if self.seconds is None else round(self.seconds, 6),
                'class_name': decision.class_name, 'confidence': round(decision.confidence, 6),
                'exit_block': decision.exit_block, 'is_gated': self.is_gated,
                'compute_share': round(decision.compute_share, 6), 'zoom': self.frame.zoom,
                'probabilities': {name: round(float(share), 6) for name, share in shares}}

    def annotated(self, classifier: TactileClassifier) -> Annotated:
        name = self.file.name if self.number is None else f'{self.file.name} {self.number}'
        frame = self.frame
        return Annotated(frame.whole_image, frame.image, frame.reference, self.decision, classifier.class_names,
                         classifier.exits, None, '', name if len(name) <= 30 else f'...{name[-27:]}', frame.closer)


@dataclass
class Inputs:
    """What is classified."""

    files: list[Path] = field(default_factory=list)  # images, and streams, in the order in which they were given
    reference: Path | None = None  # an image without contact beside them
    rivals: list[Path] = field(default_factory=list)  # others beside them, with another content
    problems: list[str] = field(default_factory=list)  # paths that are none of these

    @property
    def images(self) -> list[Path]:
        """The files that are classified by themselves."""
        return [file for file in self.files if not is_stream(file)]


def is_stream(path: Path) -> bool:
    """Whether its images are those of one sensor over time: a video, or a folder of images."""
    return path.suffix.lower() in VIDEOS or path.is_dir()


def find_inputs(paths: Sequence[Path], are_consecutive: bool) -> Inputs:
    """are_consecutive: the images of a folder are those of one sensor over time; otherwise it stands for its files."""
    found = Inputs()
    for path in (path.expanduser() for path in paths):
        if not path.exists():
            found.problems.append(f'{path} does not exist; {WHAT}')
        elif is_recording(path):
            found.problems.append(f'{path} is a bag; run it with: vit-tactile replay {path}')
        elif path.is_dir() and not are_consecutive:
            _look_into(path, found)
        else:
            found.files.append(path)
            for file in files_in(path, IMAGE_SUFFIXES) if path.is_dir() else ():
                if _is_reference(file):
                    _take_reference(file, found)
    return found


def _is_reference(file: Path) -> bool:
    return file.stem.lower() == 'reference' and not is_stream(file)  # as in a folder of training images


def _take_reference(file: Path, found: Inputs) -> None:
    if found.reference is None:
        found.reference = file
    elif file.read_bytes() != found.reference.read_bytes():
        found.rivals.append(file)


def _look_into(folder: Path, found: Inputs) -> None:
    suffixes = (*IMAGE_SUFFIXES, *VIDEOS)
    for file in (files := files_in(folder, suffixes)):
        if _is_reference(file):
            _take_reference(file, found)
        else:
            found.files.append(file)
    if not files:
        below = next((child for child in sorted(folder.iterdir()) if child.is_dir()), None)
        cure = f'; give the folders in it, for instance {below}' if below else ''
        found.problems.append(f'{folder} has no images and no videos ({", ".join(suffixes)}){cure}')


class Predictor:
    """Classifies as the live node does, with the same objects; `problems` and `notes` grow while it runs."""

    def __init__(self, classifier: TactileClassifier, tau: Sequence[float], reference: Image | None,
                 gate: bool = True) -> None:
        """reference: without contact, as read; None: each video begins with it, and no image file can be judged by
        itself, unless the checkpoint needs none. gate: whether an untouched image may exit before the first block."""
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._classifier = classifier
        self._tau = tau
        self._reference = reference
        self._untouched = classifier.untouched(tau) if gate else None
        self._gate = gate
        self._grey = self._unfit = self._images = 0
        self._sizes: set[tuple[int, int]] = set()
        self._limited = 0  # images of which the resolution limits the enlargement
        self._limited_sizes: set[tuple[int, int]] = set()

    def predict(self, path: Path, rate: float = 0.0) -> Iterator[Predicted]:
        """The predictions for an image file, which is judged by itself, or for a video or a folder, as for a sensor.

        rate: images per s of the latter; 0: that of the video. What cannot be read becomes a problem.
        """
        if is_stream(path):
            yield from self._stream(path, rate)
            return
        try:
            image = read_image(path)
        except UserError as error:
            self.problems.append(str(error))
            return
        frames = self._frames()
        frame = frames.update(message_of(image), 0)
        self._images += 1
        self._sizes.add((image.shape[0], image.shape[1]))
        self._grey += frames.grey_images
        self._unfit += frames.monitor.is_unfit
        self._count_limited(frame, image)
        yield Predicted(path, None, None, frame, self._decide(frame))

    def _stream(self, path: Path, rate: float) -> Iterator[Predicted]:
        step = 1 / (rate or (0.0 if path.is_dir() else rate_of(path)) or DEFAULT_RATE)
        frames = self._frames()
        for number, image in self._images_of(path):
            frame = frames.update(message_of(image), round((1 + number * step) * 1e9))
            self._count_limited(frame, image)
            yield Predicted(path, number, number * step, frame, self._decide(frame))
        if frames.shortage:
            self.problems.append(f'{path} {frames.shortage}')
        self.notes += sensor_notes(path, frames)

    def finish(self) -> None:
        """Note what is unusual about the images that were classified by themselves."""
        if self._grey:
            self.notes.append(f'{self._grey} of {self._images} images are grey; {GREY_NOTE}')
        if self._unfit:
            self.notes.append(f'{self._unfit} of {self._images} images differ from the reference nearly everywhere, or '
                              'in their light: the reference is of another gel, light or camera, or the whole gel is '
                              'pressed')
        if self._limited:
            self.notes.append(f'{counted(self._limited, "image shows", "images show")} a contact that covers a small '
                              f'part; the resolution ({_listed(self._limited_sizes)} px) limits the enlargement: give '
                              'images of the full resolution of the camera')
        if self._reference is not None and (others := sorted(self._sizes - {self._reference.shape[:2]})):
            height, width = self._reference.shape[:2]
            self.notes.append(f'the reference has {width}x{height} px, and there are images of '
                              f'{_listed(others)} px: both must show the same view')

    def _count_limited(self, frame: Frame, image: Image) -> None:
        if frame.is_limited:
            self._limited += 1
            self._limited_sizes.add((image.shape[0], image.shape[1]))

    def _frames(self) -> SensorFrames:
        classifier = self._classifier
        fixed = None if self._reference is None else classifier.fit(self._reference)
        return SensorFrames(Reference(REFERENCE_FRAMES, fixed), classifier.preprocessing, classifier.expects_grey,
                            weights=classifier.digest)

    def _decide(self, frame: Frame) -> Decision:
        if frame.is_untouched and self._untouched is not None:
            return self._untouched
        decision, = self._classifier.classify([frame.image], [frame.reference], self._tau, [frame.previous],
                                              touch_odds=[frame.touch_odds if self._gate else 1.0], gains=[frame.gain])
        return decision

    def _images_of(self, path: Path) -> Iterator[tuple[int, Image]]:
        """With their numbers; what cannot be read becomes a problem."""
        try:
            if not path.is_dir():
                yield from enumerate(images_of(path))
                return
            for number, file in enumerate(file for file in images_in(path) if not _is_reference(file)):
                try:
                    yield number, read_image(file)
                except UserError as error:
                    self.problems.append(str(error))
        except UserError as error:
            self.problems.append(str(error))


def _listed(sizes: Iterable[tuple[int, int]]) -> str:
    """Of (height, width)."""
    return ', '.join(f'{width}x{height}' for height, width in sorted(sizes))
