"""The images of one sensor with their times, from a video, a folder of images or a bag."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vit_tactile_ros.data.bags.find import WHAT_IS_A_BAG, is_recording, natural
from vit_tactile_ros.data.bags.images import image_topics
from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.folders import IMAGE_SUFFIXES
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.video import VIDEOS, images_of, rate_of
from vit_tactile_ros.inference.decode import decode
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.inference.image_header import DecodeError

DEFAULT_RATE = 25.0  # images per s of a folder, and of a video that names no rate


class Recorded(NamedTuple):
    seconds: float  # since the first image
    image: NDArray[np.uint8]  # RGB (H, W, 3)


def recorded_topic(path: Path, topic: str) -> str:
    """The image topic of a bag: `topic`, or its only one if that is ''. '' for a video or a folder.

    Raises DataError for a path that is none of the three, a topic that the bag has not, and several to choose from.
    """
    if not path.exists():
        raise DataError(f'{path} does not exist; must be a video, a folder of images or a bag')
    if not is_recording(path):
        if not path.is_dir() and path.suffix.lower() not in VIDEOS:
            raise DataError(f'{path} is neither a video ({", ".join(VIDEOS)}), a folder of images nor a bag; '
                            f'{WHAT_IS_A_BAG}')
        return ''
    with Recording(path) as recording:
        found = [one.topic for one in image_topics(recording.connections, path).values()]
    if topic:
        if topic not in found:
            raise DataError(f'{path} has no images on {topic}; it has them on {", ".join(sorted(found))}')
        return topic
    if len(found) > 1:
        raise DataError(f'{path} has images of several sensors: {", ".join(sorted(found))}; choose one with --topic')
    return found[0]


def recorded_images(path: Path, topic: str = '', rate: float = 0.0) -> Iterator[Recorded]:
    """topic: of a bag, as `recorded_topic` gives it. rate: images per s of a video or folder; 0: that of the video.

    Raises DataError for a message or video without an image that can be decoded, ImageFileError for such a file.
    """
    if is_recording(path):
        yield from _of_bag(path, topic)
        return
    step = 1 / (rate or (0.0 if path.is_dir() else rate_of(path)) or DEFAULT_RATE)
    for number, image in enumerate(map(read_image, images_in(path)) if path.is_dir() else images_of(path)):
        yield Recorded(number * step, image)


def files_in(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The files of a folder with these suffixes, by their numbers, without hidden ones."""
    return sorted((file for file in folder.iterdir() if file.suffix.lower() in suffixes
                   and not file.name.startswith('.')), key=natural)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder; raises DataError if there are none."""
    files = files_in(folder)
    if not files:
        videos = files_in(folder, VIDEOS)
        cure = f'; it has {len(videos)} videos, give one of them, for instance {videos[0]}' if videos else ''
        raise DataError(f'{folder} has no images ({", ".join(IMAGE_SUFFIXES)}){cure}')
    return files


def with_progress(images: Iterable[Recorded], title: str) -> Iterable[Recorded]:
    """The same, counted on the terminal while they are read."""
    return tqdm(images, title, unit='image', leave=False, file=sys.stderr, disable=not sys.stderr.isatty())


def _of_bag(path: Path, topic: str) -> Iterator[Recorded]:
    first = None
    with Recording(path) as recording:
        for found in recording.messages([topic], None, None):
            first = found.received if first is None else first
            seconds = (found.received - first) / 1e9
            try:
                yield Recorded(seconds, decode(recording.deserialise(found)))
            except DecodeError as error:
                raise DataError(f'{path}: the image of {topic} at {seconds:.3f} s cannot be read: {error}') from error
