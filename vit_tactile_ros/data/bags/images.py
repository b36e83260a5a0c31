"""The image topics of a recording, and the sensor of each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vit_tactile_ros.data.bags.storage import Topic
from vit_tactile_ros.data.bags.types import IMAGE_TYPES
from vit_tactile_ros.data.table import DataError


def image_topics(topics: Iterable[Topic], bag: Path) -> dict[str, Topic]:
    """The topic of every sensor that has images; only the raw one if a sensor was recorded raw and compressed.

    Raises DataError if there are no images, and for several image topics of one sensor.
    """
    topics = list(topics)
    by_sensor: dict[str, dict[str, Topic]] = {}
    for topic in topics:
        if topic.msgtype in IMAGE_TYPES and topic.msgcount:
            by_sensor.setdefault(sensor_of(topic.topic), {})[topic.topic] = topic
    if not by_sensor:
        held = ', '.join(sorted(f'{t.topic} ({t.msgtype})' for t in topics)) or 'nothing'
        raise DataError(f'{bag} has no images (sensor_msgs Image or CompressedImage); it has {held}')
    chosen = {}
    for sensor, own in by_sensor.items():
        raw = [topic for topic in own if not topic.endswith('/compressed')]
        if len(raw or own) > 1:
            raise DataError(f'{bag}: {", ".join(sorted(own))} are in one namespace and would be one sensor '
                            f'{sensor!r}. Record only one of them')
        chosen[sensor] = own[raw[0] if raw else next(iter(own))]
    return chosen


def sensor_of(topic: str) -> str:
    """The sensor of a topic, its namespace: 'left' for /left/image_raw, /left/image_raw/compressed and /left/label."""
    return topic.removesuffix('/compressed').strip('/').rpartition('/')[0]
