"""Labelled bags of several sensors, and interval labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from toy_touches import picture

from vit_tactile_ros.data.bags.types import TACTILE_LABEL

START = 1_700_000_000 * 10**9  # ns, the first message of every toy bag
STEP = 10**8  # ns from image to image
LABEL_TYPE = 'vit_tactile_ros/msg/TactileLabel'


def write_bag(path: Path, labels: dict[str, list[str | None]], kind: str = 'db3', compressed: bool = False,
              encoding: str = 'rgb8', broken: int | None = None, still: int = 0,
              of: Sequence[np.ndarray] | None = None) -> Path:
    """One image of each sensor every 0.1 s, the n-th is picture(n), with its label unless that is None.

    broken: the number of an image that can't be decoded. still: so many images at the start are all picture(0).
    of: these images instead, uint8 RGB (H, W, 3).
    """
    store = get_typestore(Stores.ROS1_NOETIC if kind == 'bag' else Stores.ROS2_JAZZY)
    text = TACTILE_LABEL
    store.register(get_types_from_msg(text, LABEL_TYPE))
    types = store.types
    image_type = 'sensor_msgs/msg/CompressedImage' if compressed else 'sensor_msgs/msg/Image'
    if kind == 'bag':
        writer = Writer1(path)
        serialise = store.serialize_ros1
        header_extra = {'seq': 0}
    else:
        plugin = StoragePlugin.MCAP if kind == 'mcap' else StoragePlugin.SQLITE3
        writer = Writer2(path, version=9, storage_plugin=plugin)
        serialise = store.serialize_cdr
        header_extra = {}
    with writer:
        for sensor, names in labels.items():
            topic = f'/{sensor}/image_raw' if sensor else '/image_raw'
            images = writer.add_connection(topic + '/compressed' * compressed, image_type, typestore=store)
            told = None
            if any(names):
                told = writer.add_connection(topic.replace('image_raw', 'label'), LABEL_TYPE, typestore=store)
            for number, name in enumerate(names):
                # Stamped by the camera a little before the bag records it.
                stamp = types['builtin_interfaces/msg/Time'](*divmod(START + number * STEP - 3_000_000, 10**9))
                header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='gel', **header_extra)
                pixels = picture(number if number >= still else 0) if of is None else of[number]
                if compressed:
                    _, data = cv2.imencode('.png', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
                    message = types[image_type](header, 'png', data.ravel())
                else:
                    message = types[image_type](header, *pixels.shape[:2], 'none' if number == broken else encoding, 0,
                                                pixels.shape[1] * 3, pixels.ravel())
                writer.write(images, START + number * STEP, serialise(message, image_type))
                if told is not None and name is not None:
                    label = types[LABEL_TYPE](header, name, 0.0)
                    writer.write(told, START + number * STEP + 1000, serialise(label, LABEL_TYPE))
    return path


def write_intervals(path: Path, *lines: str, columns: str = 'start,end,label') -> Path:
    path.write_text('\n'.join((columns, *lines)) + '\n')
    return path
