"""The image topics of a recording, and which sensor each is of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vit_tactile_ros.data.bags.storage import Topic
from vit_tactile_ros.data.bags.types import IMAGE_TYPES
from vit_tactile_ros.data.table import DataError


def image_topics(topics: Iterable[Topic], bag: Path) -> dict[str, Topic]:
    """The topic of every sensor that has images; of one recorded raw and compressed only the raw one.

    Raises DataError where there are no images, and for image topics that would be one sensor.
    """
    topics = list(topics)
    by_sensor: dict[str, dict[str, Topic]] = {}
    for topic in topics:
        if topic.msgtype in IMAGE_TYPES and topic.msgcount:
            by_sensor.setdefault(sensor_of(topic.topic), {})[topic.topic] = topic
    if not by_sensor:
        held = ', '.join(sorted(f'{t.topic} ({t.msgtype})' for t in topics)) or 'nothing'
        raise DataError(f'{bag} holds no images (sensor_msgs Image or CompressedImage); it holds {held}')
    chosen = {}
    for sensor, own in by_sensor.items():
        raw = [topic for topic in own if not topic.endswith('/compressed')]
        if len(raw or own) > 1:
            raise DataError(f'{bag}: {", ".join(sorted(own))} lie beside one another; they would be one sensor '
                            f'{sensor!r}. Record one of them')
        chosen[sensor] = own[raw[0] if raw else next(iter(own))]
    return chosen


def sensor_of(topic: str) -> str:
    """The sensor of a topic, its namespace: 'left' for /left/image_raw, /left/image_raw/compressed and /left/label."""
    return topic.removesuffix('/compressed').strip('/').rpartition('/')[0]
