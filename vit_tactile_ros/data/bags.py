"""Labelled bags (ROS 1 and 2) to touches, and their pictures; needs rosbags and no ROS."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.table import DataError, NamedTouch, Source
from vit_tactile_ros.foundation.errors import MissingPackageError
from vit_tactile_ros.inference.decode import DecodeError, decode
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference

logger = logging.getLogger(__name__)

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
# msg/TactileLabel.msg, for bags that do not bring their types along (ROS 2 before Iron).
LABEL_SUFFIX = '/TactileLabel'
TACTILE_LABEL = 'std_msgs/Header header\nstring class_name\nfloat32 depth\n'
_EPOCH_S = 1e8  # a later time in an interval is one since 1970, an earlier one since the bag's start


@dataclass(frozen=True)
class Interval:
    """A stretch of a recording in which the truth is known."""

    start: int  # ns since 1970
    end: int
    sensor: str  # '' is every sensor
    label: str
    line: int


def find_bags(path: Path) -> list[Path]:
    """The bags at `path`: itself, or those that lie in the folder; none where it is neither."""
    if _is_bag(path):
        return [path]
    return sorted(child for child in path.iterdir() if _is_bag(child)) if path.is_dir() else []


def read_bags(bags: Sequence[Path], labels: Path | None = None, references: bool = True) -> list[NamedTouch]:
    """Touches of bags: every image with a label, in the order of recording.

    Labels are TactileLabel messages with the header of their image, on a topic beside the image's (left/label for
    left/image_raw); or `labels`, a CSV with the columns start, end and label, and if needed sensor ('left') and bag
    (the name of its file or folder): s from the start of the bag or since 1970, by the bag's clock, end not included.
    Group is one touch: consecutive frames of a sensor with equal labels, or one interval. Images without a label are
    left out, with a logged count, as are rows of other bags. references: take the mean of the first images of each
    sensor as its no-contact reference, as the live node does.

    Raises DataError for bags that can't be read, without images, without any label, and for wrong intervals.
    """
    touches: list[NamedTouch] = []
    used: set[int] = set()
    rows = None if labels is None else _rows_of(read_intervals(labels), labels, bags)
    names = Counter(bag.stem for bag in bags)
    for bag in bags:
        name = bag.stem if names[bag.stem] == 1 else bag.name
        with open_bag(bag) as reader:
            images = image_connections(reader, bag)
            if rows is None:
                found = _by_messages(reader, bag, name, images)
            else:
                intervals = _intervals_of(rows, labels, bag, reader.start_time, set(images))
                found, lines = _by_intervals(reader, bag, name, images, intervals, labels)
                used |= lines
            first = {} if not references else _first_images(reader, bag, images)
        touches += [NamedTouch(touch.image, first.get(touch.image.topic), touch.label, touch.group) for touch in found]
    if rows is not None and (unused := [row.line for row, _ in rows if row.line not in used]):
        raise DataError(f'{labels}, line {unused[0]}: no image of {", ".join(str(bag) for bag in bags[:3])} lies in '
                        'this interval; start and end are s from the start of the bag, or since 1970')
    if touches and references:
        logger.info('the mean of the first %d images of each sensor in a bag is taken as its reference without contact',
                    REFERENCE_FRAMES)
    return touches


def _rows_of(rows: list[tuple[Interval, str]], path: Path, bags: Sequence[Path]) -> list[tuple[Interval, str]]:
    """Without the rows that name a bag which is not among these."""
    given = {'', *(name for bag in bags for name in (bag.name, bag.stem))}
    kept = [row for row in rows if row[1] in given]
    others = sorted({name for _, name in rows} - given)
    if not kept:
        raise DataError(f'{path}: all rows are of other bags ({", ".join(others[:3])}); given are '
                        f'{", ".join(bag.name for bag in bags[:3])}')
    named = {name for _, name in kept}
    if others and '' not in named and (bare := [bag.name for bag in bags if not named & {bag.name, bag.stem}]):
        raise DataError(f'{path}: no row is of the bag {bare[0]}, and there are rows of {", ".join(others[:3])}, which '
                        'is not given: correct the name, or leave that bag out')
    if others:
        logger.warning('%s: passed over %d rows of bags that are not given (%s)', path, len(rows) - len(kept),
                       ', '.join(others[:3]) + (', ...' if len(others) > 3 else ''))
    return kept


def read_pictures(sources: Sequence[Source]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(position in `sources`, picture uint8 RGB (H, W, 3)) of messages of bags, bag by bag in the order of recording.

    Raises DataError naming a message that can't be decoded or is not there.
    """
    by_bag: dict[Path, list[int]] = {}
    for position, source in enumerate(sources):
        by_bag.setdefault(source.path, []).append(position)
    for bag, positions in by_bag.items():
        wanted = {(sources[p].topic, sources[p].stamp): p for p in positions if sources[p].mean_of == 1}
        means = {p: _Mean(sources[p]) for p in positions if sources[p].mean_of > 1}
        topics, stamps = {sources[p].topic for p in positions}, [sources[p].stamp for p in positions]
        with open_bag(bag) as reader:
            connections = [c for c in reader.connections if c.topic in topics and c.msgtype in IMAGE_TYPES]
            for connection, stamp, raw in _messages(reader, connections, min(stamps)):
                place = wanted.pop((connection.topic, stamp), None)
                gathering = [p for p, mean in means.items() if mean.wants(connection.topic, stamp)]
                if place is None and not gathering:
                    continue
                try:
                    picture = decode(_deserialise(reader, connection, raw))
                except DecodeError as error:
                    if place is not None:
                        raise DataError(f'{sources[place]} is not a picture that can be read: {error}') from error
                    continue  # the node, too, averages what it can read
                if place is not None:
                    yield place, picture
                for p in gathering:
                    if means[p].update(picture):
                        yield p, means.pop(p).picture
                if not wanted and not means:
                    break
        for p, mean in means.items():  # of a bag with fewer images
            if mean.is_empty:
                wanted[sources[p].topic, sources[p].stamp] = p
            else:
                yield p, mean.picture
        if wanted:
            raise DataError(f'{sources[next(iter(wanted.values()))]}: the bag holds no such image (any more)')


class _Mean:
    """The mean of a source's pictures while they are gathered, as the live node does it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reference = Reference(source.mean_of)
        self._shape: tuple[int, ...] | None = None

    def wants(self, topic: str, stamp: int) -> bool:
        return topic == self._source.topic and stamp >= self._source.stamp

    def update(self, picture: NDArray[np.uint8]) -> bool:
        if self._shape not in (None, picture.shape):  # another resolution: as the node, begin anew
            self._reference.recapture()
        self._shape = picture.shape
        return self._reference.update(picture)

    @property
    def is_empty(self) -> bool:
        return self._reference.frame is None

    @property
    def picture(self) -> NDArray[np.uint8]:
        assert self._reference.frame is not None
        return np.rint(self._reference.frame).astype(np.uint8)


def _is_bag(path: Path) -> bool:
    return (path / 'metadata.yaml').is_file() if path.is_dir() else path.suffix in ('.bag', '.mcap', '.db3')


@contextmanager
def open_bag(bag: Path) -> Iterator[Any]:
    """The bag's reader, opened; raises DataError where it can't be."""
    try:
        from rosbags.highlevel import AnyReader  # here: folders and CSVs do without rosbags
    except ImportError as error:
        raise MissingPackageError(f"{bag}: reading bags needs rosbags: pip install rosbags, or the extra: pip install "
                                  "'vit_tactile_ros[bags]'") from error
    try:
        reader = AnyReader([bag], default_typestore=message_types())
        reader.open()
    # Damage shows as whatever the storage's own library raises: yaml, sqlite, struct, ...
    except Exception as error:
        raise DataError(f'{bag} cannot be read as a bag: {error}') from error
    try:
        yield reader
    finally:
        reader.close()


def message_types(ros1: bool = False) -> Any:
    """The types of images and labels, for bags that do not bring their own."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(TACTILE_LABEL, 'vit_tactile_ros/msg/TactileLabel'))
    return store


def _messages(reader: Any, connections: Sequence[Any], start: int | None = None,
              stop: int | None = None) -> Iterator[tuple[Any, int, bytes]]:
    if not connections:  # for the library none means all
        return
    messages = reader.messages(connections, start=start, stop=stop)
    while True:
        try:
            message = next(messages)
        except StopIteration:
            return
        except Exception as error:  # as in _open
            raise DataError(f'{reader.paths[0]} is damaged: {error}') from error
        yield message


def _deserialise(reader: Any, connection: Any, raw: bytes) -> Any:
    try:
        return reader.deserialize(raw, connection.msgtype)
    except Exception as error:  # as in _open
        raise DataError(f'{reader.paths[0]}: a message of {connection.topic} ({connection.msgtype}) cannot be read: '
                        f'{error!r}') from error


def image_connections(reader: Any, bag: Path) -> dict[str, list[Any]]:
    """The image connections of every sensor; of one recorded raw and compressed only the raw ones.

    Raises DataError for a bag without images, and for image topics that would be one sensor.
    """
    by_topic: dict[str, dict[str, list[Any]]] = {}
    for connection in reader.connections:
        if connection.msgtype in IMAGE_TYPES and connection.msgcount:
            by_topic.setdefault(sensor_of(connection.topic), {}).setdefault(connection.topic, []).append(connection)
    if not by_topic:
        topics = ', '.join(sorted(f'{c.topic} ({c.msgtype})' for c in reader.connections)) or 'nothing'
        raise DataError(f'{bag} holds no images (sensor_msgs Image or CompressedImage); it holds {topics}')
    chosen = {}
    for sensor, topics_of in by_topic.items():
        raw = [topic for topic in topics_of if not topic.endswith('/compressed')]
        if len(raw or topics_of) > 1:
            raise DataError(f'{bag}: {", ".join(sorted(topics_of))} lie beside one another; they would be one sensor '
                            f'{sensor!r}. Record one of them')
        chosen[sensor] = topics_of[raw[0] if raw else next(iter(topics_of))]
    return chosen


def sensor_of(topic: str) -> str:
    """The sensor of a topic, its namespace: 'left' for /left/image_raw, /left/image_raw/compressed and /left/label."""
    return topic.removesuffix('/compressed').strip('/').rpartition('/')[0]


def _by_messages(reader: Any, bag: Path, name: str, images: dict[str, list[Any]]) -> list[NamedTouch]:
    connections = [c for c in reader.connections if c.msgtype.endswith(LABEL_SUFFIX)]
    label_of: dict[tuple[str, int, int], str] = {}
    for connection, _, raw in _messages(reader, connections):
        message = _deserialise(reader, connection, raw)
        stamp = message.header.stamp
        label_of[sensor_of(connection.topic), stamp.sec, stamp.nanosec] = message.class_name
    if not label_of:
        raise DataError(f'{bag} holds no labels (vit_tactile_ros TactileLabel messages); record them beside the images,'
                        ' or give labels, a CSV with the columns start, end, sensor, label')
    touches: list[NamedTouch] = []
    for sensor, image_connections in images.items():
        number, last, unlabelled = 0, None, 0
        for connection, stamp, raw in _messages(reader, image_connections):
            at = _deserialise(reader, connection, raw).header.stamp
            label = label_of.get((sensor, at.sec, at.nanosec))
            if not label:
                unlabelled += 1
                continue
            number += label != last
            last = label
            touches.append(NamedTouch(Source(bag, connection.topic, stamp), None, label, f'{name}/{sensor}/{number}'))
        if unlabelled:
            logger.warning('%s: left out %d images of sensor %r without a label', bag, unlabelled, sensor)
    if not touches:
        raise DataError(f'{bag}: none of its {len(label_of)} labels has the header stamp of an image beside it; a '
                        'label carries the header of its image, on a topic of the same namespace (left/label for '
                        'left/image_raw)')
    return touches


def read_intervals(path: Path) -> list[tuple[Interval, str]]:
    """Intervals in s times 1e9 as written, each with the name of its bag ('' is every bag).

    Raises DataError for a CSV without the columns start, end, label, and for rows that are no interval.
    """
    columns, rows = read_rows(Path(path))
    for name in ('start', 'end', 'label'):
        if name not in columns:
            raise DataError(f'{path} has no column {name!r}; needed are start, end, label, and if need be sensor and '
                            f'bag; its columns are {", ".join(columns)}')
    intervals = []
    for line, row in rows:
        try:
            start, end = (round(float(row[name]) * 1e9) for name in ('start', 'end'))
        except (ValueError, OverflowError) as error:
            raise DataError(f'{path}, line {line}: start {row["start"]!r} and end {row["end"]!r} must be numbers (s)'
                            ) from error
        if not start < end:
            raise DataError(f'{path}, line {line}: start {row["start"]} must be before end {row["end"]}')
        if not row['label']:
            raise DataError(f'{path}, line {line}: no label')
        interval = Interval(start, end, row.get('sensor', '').strip('/'), row['label'], line)
        intervals.append((interval, row.get('bag', '')))
    return intervals


def _intervals_of(rows: Sequence[tuple[Interval, str]], path: Path | None, bag: Path, start_time: int,
                  sensors: set[str]) -> list[Interval]:
    intervals = intervals_of_bag(rows, bag, start_time)
    for row in intervals:
        if row.sensor and row.sensor not in sensors:
            raise DataError(f'{path}, line {row.line}: no sensor {row.sensor!r} in {bag}; it has '
                            f'{", ".join(repr(sensor) for sensor in sorted(sensors))}')
    return intervals


def intervals_of_bag(rows: Sequence[tuple[Interval, str]], bag: Path, start_time: int) -> list[Interval]:
    """The rows that mean a bag, in ns since 1970."""
    intervals = []
    for row, name in rows:
        if name in ('', bag.name, bag.stem):
            offset = 0 if row.start > _EPOCH_S * 1e9 else start_time
            intervals.append(Interval(row.start + offset, row.end + offset, row.sensor, row.label, row.line))
    return intervals


def overlaps(intervals: Sequence[Interval]) -> list[tuple[Interval, Interval]]:
    """Pairs that overlap, of intervals of one sensor in the order of their starts; each with the latest one before."""
    found, latest = [], None
    for interval in intervals:
        if latest is not None and interval.start < latest.end:
            found.append((latest, interval))
        latest = interval if latest is None or interval.end > latest.end else latest
    return found


def _by_intervals(reader: Any, bag: Path, name: str, images: dict[str, list[Any]], intervals: Sequence[Interval],
                  path: Path | None) -> tuple[list[NamedTouch], set[int]]:
    """The touches, and the lines of the intervals that held an image."""
    touches, used = [], set()
    for sensor, connections in images.items():
        own = sorted((i for i in intervals if i.sensor in ('', sensor)), key=lambda i: i.start)
        for a, b in overlaps(own):
            raise DataError(f'{path}: the intervals of lines {a.line} and {b.line} overlap for sensor {sensor!r} '
                            f'of {bag}')
        starts = np.array([i.start for i in own], np.int64)
        unlabelled = 0
        for connection, stamp, _ in _messages(reader, connections):
            place = int(np.searchsorted(starts, stamp, 'right')) - 1
            if place < 0 or stamp >= own[place].end:
                unlabelled += 1
                continue
            used.add(own[place].line)
            touches.append(NamedTouch(Source(bag, connection.topic, stamp), None, own[place].label,
                                      f'{name}/{sensor}/{own[place].line}'))
        if unlabelled:
            logger.warning('%s: left out %d images of sensor %r outside all intervals', bag, unlabelled, sensor)
    return touches, used


def _first_images(reader: Any, bag: Path, images: dict[str, list[Any]]) -> dict[str, Source]:
    first = {}
    for connections in images.values():
        for connection, stamp, _ in _messages(reader, connections):
            first[connection.topic] = Source(bag, connection.topic, stamp, REFERENCE_FRAMES)
            break
    return first
