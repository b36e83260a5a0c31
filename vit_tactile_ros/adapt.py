"""Adapt to another gel in one minute: ten seconds of the untouched gel, and a few firm presses if there are any.

Without labels. Stores the reference (the mean of all untouched images), and a gain where the presses are much fainter
than those of the training images, in --store, which the node (parameter reference_store) and `replay --reference_store`
read. Half of the untouched images, and of the images that show a press, judge what the other half gives; if that brings
nothing, nothing is written. A gain has to bring more presses that are predicted as a touch; whether as the right shape,
nothing here can tell. Without presses the stored gain is kept. The last line printed is JSON.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from vit_tactile_ros import flags
from vit_tactile_ros.data.recorded_images import recorded_images, recorded_topic, with_progress
from vit_tactile_ros.evaluation.adapted import AFTER, BEFORE, Seen, adaptation_figure, prefers, rows, trial, verdict
from vit_tactile_ros.evaluation.figures import save_figure
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import check_folder_writable, check_writable
from vit_tactile_ros.foundation.names import check_topic
from vit_tactile_ros.inference.adaptation import LEAST_TOUCHED, adapted, check_untouched, contrast, gain_of, mean_of
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.colour import GREY_NOTE, is_grey
from vit_tactile_ros.inference.gate import STARTING_NOISE, THRESHOLD, noise_of, to_cells
from vit_tactile_ros.inference.reference_store import (
    StoredReference,
    StoreError,
    read_reference,
    stored_path,
    write_reference,
)
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint

STORED_STAYS = 'The stored reference stays as it is.'
FRESH_IS_AS_GOOD = (
    'That is usual for a good sensor: the node takes its reference from its first 5 images, so touch nothing while it '
    'starts, and there is nothing else to do. With its parameter reference_store it keeps that one for the next start.')
LEAST_CHANGE = 0.1  # share of the gain; a smaller change is not worth writing
MOST_IMAGES = 3000  # of presses: two minutes at 25 Hz
EXAMPLES = (
    'gel.mp4 --store references',
    'gel.mp4 --presses presses.mp4 --topic /left/image_raw --store references --picture adapt.png',
    'bag.mcap --topic /left/image_raw --untouched 8 --store references',
)


@dataclass(frozen=True)
class AdaptRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    recording: Path = flag(REQUIRED, 'video, folder of images, or bag; it starts with the untouched gel', 'RECORDING',
                           is_positional=True)
    store: Path = flag(REQUIRED, 'folder that keeps the reference of each sensor', 'FOLDER')
    topic: str = flag('', "image topic of the sensor, which names its file; default: the bag's only one, or /image_raw")
    untouched: float = flag(10.0, 'so many s from the start show the untouched gel; what follows shows presses',
                            'SECONDS')
    presses: Path | None = flag(None, 'a recording of firm presses of any objects, the gel untouched in between',
                                'RECORDING')
    rate: float = flag(0.0, 'images per s of videos and folders; 0: that of the video, or 25')
    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    picture: Path | None = flag(None, 'PNG of the reference, the noise, the scores and the presses, before and after')

    def __post_init__(self) -> None:
        for name, least in (('untouched', 0.5), ('rate', 0.0)):
            if not (math.isfinite(value := getattr(self, name)) and value >= least):
                raise UserError(f'{name} is {value}; must be at least {least:g}')
        check_topic('topic', self.topic)
        if self.picture and self.picture.suffix != '.png':
            raise UserError(f'picture is {self.picture}; must end in .png')


def parse_arguments(argv: list[str] | None = None) -> AdaptRequest:
    return flags.parse('adapt', __doc__, EXAMPLES, AdaptRequest, argv)


@dataclass
class Images:
    """The fitted images of the recordings."""

    untouched: list[NDArray[np.uint8]]
    seconds: list[float]
    presses: list[NDArray[np.uint8]]
    camera_size: tuple[int, int]


@command('adapt', stopped='stopped; nothing was written')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    check_folder_writable(request.store)
    if request.picture:
        check_writable(request.picture)
    cv2.setNumThreads(1)
    topic = recorded_topic(request.recording, request.topic) or request.topic or '/image_raw'
    classifier = TactileClassifier(load_checkpoint(request.checkpoint or shipped_checkpoint()), 'cpu', threads=1)
    if classifier.gate_problem or classifier.preprocessing.motion_interval:
        raise UserError(f'checkpoint: {classifier.gate_problem or "its input has motion"}; adapt needs one of shapes '
                        'with a reference, the class no_contact and early exits')
    images = _read(request, topic, classifier)
    half = len(images.untouched) // 2
    fitted, held = images.untouched[:half], images.untouched[half:]
    path = stored_path(request.store, topic)
    before, notes = _stored(path, classifier, images.camera_size)
    seen = {BEFORE: trial(held, images.presses, classifier, before, fitted)}
    gain, gain_for = (before.gain, before.gain_for) if before else (1.0, '')
    mine = adapted(fitted, images.camera_size, gain, gain_for)
    seen[AFTER] = trial(held, images.presses, classifier, mine, fitted)
    measured, strongest, first = _gain(images, seen[BEFORE], fitted, notes)
    if abs(measured / seen[AFTER].gain - 1) >= LEAST_CHANGE:
        other = adapted(fitted, images.camera_size, measured, classifier.digest)
        changed = trial(held, images.presses, classifier, other, fitted)
        if prefers(changed, seen[AFTER], first):
            seen[AFTER], mine, gain, gain_for = changed, other, measured, classifier.digest
        else:
            notes.append(f'the measured gain of {measured:.2f} is not used, because on the other half of the presses '
                         f'it is not better than {seen[AFTER].gain:.2f}')
    noise = np.sqrt(noise_of(images.untouched, mine.frame))
    if noise.max() > STARTING_NOISE:
        notes.append(f'part of the untouched gel varies by {noise.max():.2f} grey levels (standard deviation), more '
                     f'than the {STARTING_NOISE:g} of a usual sensor, so faint touches are missed: look for a light or '
                     'an exposure that flickers, or an object that touches the gel from the first image on')
    brings, why = verdict(seen, first)
    console = Console(width=None if sys.stdout.isatty() else 120)
    _report(console, rows(seen, first), 'the stored reference' if before else 'the first 5 images as reference')
    for note in notes:
        console.print(f'note: {note}', soft_wrap=True)
    if request.picture:
        outcome = f'stored: {why}' if brings else f'nothing was stored: {why}'
        figure = adaptation_figure(seen, images.presses, noise, f'{topic}: images that were not adapted to', outcome)
        save_figure(figure, request.picture)
        console.print(f'drew {request.picture}', soft_wrap=True)
    if brings:
        write_reference(path, adapted(images.untouched, images.camera_size, gain, gain_for),
                        classifier.preprocessing)
        console.print(f'wrote {path}: {why}', soft_wrap=True)
    else:
        console.print(f'nothing was stored: {why}. {STORED_STAYS if before else FRESH_IS_AS_GOOD}', soft_wrap=True)
    print(json.dumps({'file': str(path), 'written': brings, 'why': why, 'gain': seen[AFTER].gain, 'contrast': strongest,
                      **rows(seen, first)}))
    return 0


def _read(request: AdaptRequest, topic: str, classifier: TactileClassifier) -> Images:
    images = Images([], [], [], (0, 0))
    sources = [(request.recording, recorded_images(request.recording, topic, request.rate))]
    if request.presses:
        own = recorded_topic(request.presses, request.topic)
        sources.append((request.presses, recorded_images(request.presses, own, request.rate)))
    grey = 0
    for path, source in sources:
        for one in with_progress(source, f'reading {path.name}'):
            is_gel = path is request.recording and one.seconds < request.untouched
            if not is_gel and (len(images.presses) >= MOST_IMAGES or (request.presses and path is request.recording)):
                break
            size = one.image.shape[0], one.image.shape[1]
            if images.camera_size not in ((0, 0), size):
                raise UserError(f'{path}: the image at {one.seconds:.3f} s is {size[1]}x{size[0]}; the first one is '
                                f'{images.camera_size[1]}x{images.camera_size[0]}')
            images.camera_size = size
            image = classifier.fit(one.image)
            grey += is_grey(image) is True
            (images.untouched if is_gel else images.presses).append(image)
            if is_gel:
                images.seconds.append(one.seconds)
    check_untouched([to_cells(image) for image in images.untouched], images.seconds)
    if not classifier.expects_grey and grey > (len(images.untouched) + len(images.presses)) / 2:
        raise UserError(f'{grey} of {len(images.untouched) + len(images.presses)} images are grey; {GREY_NOTE}; '
                        'adapting cannot change that')
    return images


def _stored(path: Path, classifier: TactileClassifier, camera_size: tuple[int, int],
            ) -> tuple[StoredReference | None, list[str]]:
    try:
        stored = read_reference(path, classifier.preprocessing)
        if stored is not None and stored.camera_size != camera_size:
            raise StoreError(f'{path} is of {stored.camera_size[1]}x{stored.camera_size[0]} images, these are '
                             f'{camera_size[1]}x{camera_size[0]}')
        return stored, []
    except StoreError as error:
        return None, [f'{error}; it is replaced if the adaptation brings something']


def _gain(images: Images, seen: Seen, fitted: Sequence[NDArray[np.uint8]], notes: list[str],
          ) -> tuple[float, float | None, int]:
    """The gain, the contrast of the strongest presses in grey levels, and the first press that it is not made from.

    Without enough presses the gain in use, None and 0.
    """
    reference = mean_of(fitted)
    shows = np.flatnonzero(seen.scores[seen.untouched:] >= THRESHOLD)
    if len(shows) < 2 * LEAST_TOUCHED:
        kept = f'; the stored gain of {seen.gain:.2f} is kept' if seen.gain != 1 else ''
        notes.append(f'{len(shows)} images of {len(images.presses)} show a press; from {2 * LEAST_TOUCHED} on, the '
                     f'contrast of the sensor is measured, too{kept}')
        return seen.gain, None, 0
    half = len(shows) // 2
    strongest, gain = gain_of([contrast(images.presses[index], reference) for index in shows[:half]])
    if gain != 1:
        notes.append(f'the strongest presses peak at {strongest:.1f} grey levels, far below the training images, which '
                     f'a gain of {gain:.2f} makes up for. If they were light, press firmly and run it again')
    return gain, strongest, int(shows[half])


def _report(console: Console, found: dict[str, dict[str, float]], start: str) -> None:
    table = Table('on images that were not adapted to', f'before: {start}', 'after')
    for key in found[AFTER]:
        values = [found[name][key] for name in (BEFORE, AFTER)]
        is_count = key in ('untouched images', 'images that show a press')
        table.add_row(key, *(f'{value:.0f}' if is_count else f'{value:.3f}' for value in values))
    console.print(table)


if __name__ == '__main__':
    sys.exit(main())
