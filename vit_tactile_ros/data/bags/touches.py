"""Labelled images of bags to touches, and their pixels."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.bags.find import unique_names
from vit_tactile_ros.data.bags.images import image_topics, sensor_of
from vit_tactile_ros.data.bags.labels import IntervalLabels, LabelFile, Labels, labels_of, read_intervals
from vit_tactile_ros.data.bags.recording import Recording, stamp_of
from vit_tactile_ros.data.table import DataError, NamedTouch, Source
from vit_tactile_ros.inference.decode import decode
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.image_header import DecodeError
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference
from vit_tactile_ros.model import PreprocessingConfig

logger = logging.getLogger(__name__)


def read_bags(bags: Sequence[Path], labels: Path | None = None, references: bool = True) -> list[NamedTouch]:
    """Touches of bags: every image with a label, in the order of recording; of a damaged bag whatever can be read.

    Labels are TactileLabel messages with the header of their image, on a topic of the same namespace (left/label for
    left/image_raw); or `labels`, a CSV with the columns start, end and label, and if needed sensor ('left') and bag
    (the name of its file or folder): s from the start of the bag or since 1970, by the bag's clock, end not included.
    Group is one touch, as `labels` has it. Images without a label are left out, with a logged count, as are rows of
    other bags, and damage to a bag is logged. references: take the mean of the first images of each sensor as its
    no-contact reference, as the live node does.

    Raises DataError for bags without readable messages, images or labels, and for wrong intervals.
    """
    touches: list[NamedTouch] = []
    used: set[int] = set()
    file = None if labels is None else read_intervals(labels)
    if file is not None:
        _check_names(file, bags)
    for bag, name in zip(bags, unique_names(bags), strict=True):
        with Recording(bag) as recording:
            found, labels_of_bag = _read(recording, name, file, references)
            used |= labels_of_bag.used
            for problem in recording.problems:
                logger.warning('%s', problem)
        touches += found
    if file is not None and (unused := file.unused(bags, used)):
        raise DataError(unused[0])
    if touches and references:
        logger.info('the mean of the first %d images of each sensor in a bag is taken as its reference without contact',
                    REFERENCE_FRAMES)
    return touches


def _check_names(file: LabelFile, bags: Sequence[Path]) -> None:
    """Raises DataError if a bag has no rows, probably because of a misspelt name."""
    others = file.others(bags)
    own = [row for row in file.intervals if any(row.is_of(bag) for bag in bags)]
    if not own:
        raise DataError(f'{file.path}: all rows are of other bags ({", ".join(others[:3])}); the given bags are '
                        f'{", ".join(bag.name for bag in bags[:3])}')
    if others and (bare := [bag.name for bag in bags if not any(row.is_of(bag) for row in own)]):
        raise DataError(f'{file.path}: no row is of the bag {bare[0]}, and there are rows of {", ".join(others[:3])}, '
                        'which is not given: correct the name, or leave that bag out')
    if others:
        logger.warning('%s: skipped %d rows of bags that are not given (%s)', file.path,
                       len(file.intervals) - len(own), ', '.join(others[:3]) + (', ...' if len(others) > 3 else ''))


def _read(recording: Recording, name: str, file: LabelFile | None, references: bool) -> tuple[list[NamedTouch], Labels]:
    bag = recording.path
    if not any(topic.msgcount for topic in recording.connections):
        raise DataError(f'{bag} cannot be read as a bag: {"; ".join(recording.problems)}')
    topics = image_topics(recording.connections, bag)
    labels = labels_of(recording, file, topics, str(bag))
    if labels.is_empty:
        raise DataError(f'{bag} has no labels (vit_tactile_ros TactileLabel messages); record them with the images,'
                        ' or give labels, a CSV with the columns start, end, sensor, label')
    if labels.problems:  # a replay reports them and continues; training on half of the labels is useless
        raise DataError(labels.problems[0])
    needs_stamp = not isinstance(labels, IntervalLabels)
    sensors = {topic.topic: sensor for sensor, topic in topics.items()}
    touches: dict[str, list[NamedTouch]] = {sensor: [] for sensor in topics}
    first: dict[str, Source] = {}
    unlabelled: Counter[str] = Counter()
    for found in recording.messages(sensors):
        sensor, stamp = sensors[found.topic], None
        reference = first.setdefault(found.topic, Source(bag, found.topic, found.received, REFERENCE_FRAMES))
        if needs_stamp:
            try:
                stamp = recording.deserialise(found).header.stamp
            except DataError as error:
                recording.problems.note(f'{bag}: {error}; it is left out')
                continue
        label = labels.of(sensor, found.received, stamp)
        if not label.name:
            unlabelled[sensor] += 1
            continue
        touches[sensor].append(NamedTouch(Source(bag, found.topic, found.received), reference if references else None,
                                          label.name, f'{name}/{sensor}/{label.touch}'))
    labels.finish(is_whole=not recording.problems)
    where = 'without a label' if needs_stamp else 'outside all intervals'
    for sensor, count in unlabelled.items():
        named = f'sensor {sensor!r}' if sensor else 'the unnamed sensor'
        logger.warning('%s: left out %d images of %s %s', bag, count, named, where)
    if not any(touches.values()) and needs_stamp:
        raise DataError('; '.join(labels.problems) + ': a label has the header of its image, on a topic of the same '
                        'namespace (left/label for left/image_raw)')
    for problem in labels.problems:
        logger.warning('%s', problem)
    return [touch for own in touches.values() for touch in own], labels


def read_pictures(sources: Sequence[Source], preprocessing: PreprocessingConfig | None = None,
                  ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(position in `sources`, image uint8 RGB (H, W, 3)) of messages of bags, bag by bag in the order of recording.

    preprocessing: the images for motion are fitted before they are kept, as in the node, and may be yielded fitted:
    fitting them again changes nothing. None: all are as decoded.

    Raises DataError naming a message that can't be decoded or is missing.
    """
    fitted = preprocessing and dataclasses.replace(preprocessing, reference='none', zoom_below=0.0)
    by_bag: dict[Path, list[int]] = {}
    for position, source in enumerate(sources):
        by_bag.setdefault(source.path, []).append(position)
    for bag, positions in by_bag.items():
        wanted = {(sources[p].topic, sources[p].stamp): p for p in positions
                  if sources[p].mean_of == 1 and not sources[p].motion_interval}
        before: dict[tuple[str, int], list[int]] = {}
        motions: dict[str, tuple[float, int]] = {}
        for p in positions:
            if (source := sources[p]).motion_interval:
                before.setdefault((source.topic, source.stamp), []).append(p)
                _, views = motions.get(source.topic, (0.0, 1))
                motions[source.topic] = source.motion_interval, max(views, source.motion_view + 1)
        # From the first image on, as in the node, and also of images without a label.
        moving = {topic: SensorFrames(Reference(1), fitted, motion=motion) for topic, motion in motions.items()}
        means = {p: SensorFrames(Reference(sources[p].mean_of)) for p in positions if sources[p].mean_of > 1}
        stamps = [sources[p].stamp for p in positions]
        with Recording(bag) as recording:
            for found in recording.messages({sources[p].topic for p in positions},
                                            None if moving else min(stamps)):
                place = wanted.pop((found.topic, found.received), None)
                gathering = [p for p in means if sources[p].topic == found.topic and sources[p].stamp <= found.received]
                if place is None and not gathering and found.topic not in moving:
                    continue
                try:
                    message = recording.deserialise(found)
                    updated = [means[p] for p in gathering] + [moving[t] for t in (found.topic,) if t in moving]
                    frames = [each.update(message, stamp_of(message, found)) for each in updated]
                    image = frames[0].image if frames else decode(message)
                except (DataError, DecodeError) as error:
                    if place is not None:
                        raise DataError(f'{sources[place]} is not an image that can be read: {error}') from error
                    continue  # the node, too, averages the images that it can read
                if place is not None:
                    yield place, image
                for place in before.pop((found.topic, found.received), ()):
                    previous = frames[-1].previous
                    assert previous is not None
                    first = 3 * sources[place].motion_view
                    yield place, previous[..., first:first + 3]
                for p in gathering:
                    if means[p].reference.is_complete:
                        yield p, _mean(means.pop(p))
                if not wanted and not means and not before:
                    break
        for p, gathered in means.items():  # of a bag with fewer images
            if gathered.shortage:
                logger.warning('%s: sensor %r %s', bag, sensor_of(sources[p].topic), gathered.shortage)
                yield p, _mean(gathered)
            else:
                wanted[sources[p].topic, sources[p].stamp] = p
        if wanted:
            raise DataError(f'{sources[next(iter(wanted.values()))]}: the bag has no such image (any more)')


def _mean(frames: SensorFrames) -> NDArray[np.uint8]:
    """The reference as an image, as training and extraction keep it."""
    assert frames.reference.frame is not None
    return np.rint(frames.reference.frame).astype(np.uint8)
