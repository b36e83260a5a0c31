"""Classify image files, folders of them, or videos: one line per image.

The shipped checkpoint compares an image with one of the same sensor without contact: --reference. Without it, that is
reference.png in a given folder, or the first image. Each image file is judged by itself; the images of a video are
judged in their order, as the node does it: without --reference, its first 5 images are the reference. The exit is the
block after which the network stopped, or 'gate', if the difference to the reference alone shows that nothing touches.
The exit status is 2 if a file cannot be read; the others are classified all the same. For bags use replay.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros import flags
from vit_tactile_ros.evaluation.predicting import Inputs, Predicted, Predictor, find_inputs, is_stream
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError, one_line
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.foundation.words import counted
from vit_tactile_ros.inference.annotation import side_by_side
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.image_file import read_image, write_png
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint, thresholds

EXAMPLES = (
    'touch.png --reference gel.png',
    'images/ --reference gel.png --csv',
    'press.mp4 --picture press.png',
)
DRAWN = 24  # images of the picture


@dataclass(frozen=True)
class PredictRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    images: tuple[Path, ...] = flag(REQUIRED, 'image files, folders of them, or videos', 'IMAGE', is_positional=True)
    reference: Path | None = flag(None, 'image of the untouched gel; default: reference.png in a given folder, or the '
                                        'first image', 'IMAGE')
    rate: float = flag(0.0, 'the images of a folder are consecutive ones of one sensor, so many per s, as in a video; '
                            'default: each by itself. Of a video: in place of its own rate')
    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    tau: tuple[float, ...] = flag((), "exit threshold, one or one per early exit; default: the checkpoint's")
    no_gate: bool = flag(False, 'let no image exit before the first block')
    device: str = flag('auto', flags.DEVICE)
    json: bool = flag(False, 'print a JSON object per image, with the probabilities of all classes')
    csv: bool = flag(False, 'print CSV, with the probabilities of all classes')
    picture: Path | None = flag(None, f'PNG of at most {DRAWN} of the images: image, difference to the reference, most '
                                      'probable classes, exit')

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise UserError(f'rate is {self.rate}; must be images per s, above 0 (0: not given)')
        if self.json and self.csv:
            raise UserError('--json and --csv: give only one of them')
        if self.picture and self.picture.suffix != '.png':
            raise UserError(f'picture is {self.picture}; must end in .png')


def parse_arguments(argv: list[str] | None = None) -> PredictRequest:
    return flags.parse('predict', __doc__, EXAMPLES, PredictRequest, argv)


@command('predict')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    if request.picture:
        check_writable(request.picture)
    cv2.setNumThreads(1)
    found = find_inputs(request.images, request.rate > 0)
    problems = _Problems(found.problems)
    if not found.files:
        raise UserError('there is nothing to classify')
    checkpoint = load_checkpoint(request.checkpoint or shipped_checkpoint())
    given = request.tau or (checkpoint.calibration.tau,)
    tau = thresholds(given[0] if len(given) == 1 else given, len(checkpoint.model.config.exits))
    classifier = TactileClassifier(checkpoint, request.device, threads=1)
    if classifier.preprocessing.motion_interval and found.images:
        raise UserError(f'{found.images[0]}: this checkpoint needs motion, the change since the image '
                        f'{classifier.preprocessing.motion_interval:g} s before, which a single image does not show: '
                        'give a video, or a folder of consecutive images with --rate')
    reference = _reference(request, found, classifier, problems) if classifier.needs_reference else None
    predictor = Predictor(classifier, tau, reference, not request.no_gate)
    show = _Output(request, found, classifier)
    for path in found.files:
        for one in predictor.predict(path, request.rate):
            show.add(one)
        problems.tell(predictor.problems)
    predictor.finish()
    for note in predictor.notes:
        _note(note)
    show.finish()
    if problems.count:
        print(f'predict: {counted(problems.count, "problem")}, see above; '
              f'{counted(show.count, "image was", "images were")} classified', file=sys.stderr)
    elif not show.count:
        raise UserError('no image was classified; give an image besides the reference')
    return 2 if problems.count else 0


def _note(text: str) -> None:
    print(f'predict: note: {one_line(text)}', file=sys.stderr)


class _Problems:
    """Prints each as soon as it is known, and counts them."""

    def __init__(self, first: list[str]) -> None:
        self.count = 0
        self.tell(first)

    def tell(self, problems: list[str]) -> None:
        """Prints them and empties the list."""
        for problem in problems:
            print(f'predict: {one_line(problem)}', file=sys.stderr)
        self.count += len(problems)
        problems.clear()


def _reference(request: PredictRequest, found: Inputs, classifier: TactileClassifier, problems: _Problems,
               ) -> NDArray[np.uint8] | None:
    """The image without contact; None if each video begins with its own.

    Takes it from the files that are classified, if it is the first of them.
    """
    if request.reference:
        return read_image(request.reference)
    if found.rivals:
        raise UserError(f'{found.rivals[0]} is another reference than {found.reference}; run predict once for each, or '
                        'give the one of all images with --reference')
    if found.reference:
        _note(f'{found.reference} is the reference, the gel without contact')
        return read_image(found.reference)
    for file in (file for file in found.files if is_stream(file)):
        _note(f'{file}: the first {REFERENCE_FRAMES} images are its reference, the gel without contact; if something '
              'touches in them, give --reference')
    images = found.images
    if not images:
        return None
    if len(images) == 1:
        read_image(images[0])  # names a file that is no image first
        raise UserError(f'{images[0]}: this checkpoint compares an image with one of the same sensor without contact; '
                        'give that one, too: --reference gel.png')
    for image in images:
        found.files.remove(image)
        try:
            first = read_image(image)
        except UserError as error:
            problems.tell([str(error)])
            continue
        _note(f'{image}, the first image, is the reference, the gel without contact; if something touches in it, give '
              '--reference')
        return first
    return None


class _Output:
    """Prints the predictions as they come, as a table, JSON or CSV; keeps some of them for the picture."""

    def __init__(self, request: PredictRequest, found: Inputs, classifier: TactileClassifier) -> None:
        self.count = 0
        self._request = request
        self._classifier = classifier
        self._names = classifier.class_names
        self._csv = csv.writer(sys.stdout, lineterminator='\n')
        names = (_name(file, 9999 if is_stream(file) else None, 99.0) for file in found.files)
        self._width = max(map(len, names), default=0)
        self._classes: Counter[str] = Counter()
        self._gated, self._enlarged, self._compute = 0, 0, 0.0
        self._kept: list[Predicted] = []
        self._every = 1

    def add(self, one: Predicted) -> None:
        if self._request.picture and self.count % self._every == 0:
            self._keep(one)
        decision = one.decision
        if self._request.json:
            print(json.dumps(one.row(self._names)))
        elif self._request.csv:
            row = one.row(self._names)
            shares = row.pop('probabilities')
            if not self.count:
                self._csv.writerow([*row, *(f'probability_{name}' for name in shares)])
            self._csv.writerow([*row.values(), *shares.values()])
        else:
            longest = max(len(name) for name in self._names)
            if not self.count:
                print(f'{"image":{self._width}}  {"class":{longest}}  confidence  exit      compute')
            place = 'gate' if one.is_gated else f'block {decision.exit_block}'
            print(f'{_name(one.file, one.number, one.seconds):{self._width}}  {decision.class_name:{longest}}  '
                  f'{decision.confidence:<10.2f}  {place:8}  {decision.compute_share:.0%}', flush=True)
        self.count += 1
        self._classes[decision.class_name] += 1
        self._gated += one.is_gated
        self._enlarged += one.frame.zoom > 1
        self._compute += decision.compute_share

    def _keep(self, one: Predicted) -> None:
        """Evenly spaced ones, however many follow."""
        self._kept.append(one)
        if len(self._kept) == 2 * DRAWN:
            self._kept = self._kept[::2]
            self._every *= 2

    def finish(self) -> None:
        if self.count and not (self._request.json or self._request.csv):
            classes = ', '.join(f'{count} {name}' for name, count in self._classes.most_common())
            enlarged = f'enlarged {self._enlarged}; ' if self._enlarged else ''
            print(f'{counted(self.count, "image")}: {classes}; the gate decided {self._gated}; {enlarged}compute '
                  f'{self._compute / self.count:.0%} of the full network')
        if self._request.picture and self._kept:
            chosen = np.linspace(0, len(self._kept) - 1, min(DRAWN, len(self._kept))).round().astype(int)
            write_png(self._request.picture, side_by_side([self._kept[i].annotated(self._classifier) for i in chosen]))
            which = f'{len(chosen)} of the {self.count} images' if len(chosen) < self.count else 'all images'
            print(f'drew {which} in {self._request.picture}', file=sys.stderr)


def _name(file: Path, number: int | None, seconds: float | None) -> str:
    name = one_line(str(file))
    return name if number is None else f'{name} {number} ({seconds:.2f} s)'


if __name__ == '__main__':
    sys.exit(main())
