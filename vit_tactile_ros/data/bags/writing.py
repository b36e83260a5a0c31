"""Images written as a bag of rosbag2, which `ros2 bag play`, replay and adapt read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vit_tactile_ros.data.bags.types import check_rosbags, message_types
from vit_tactile_ros.data.recorded_images import Recorded
from vit_tactile_ros.foundation.files import folder_written_whole
from vit_tactile_ros.inference.image_file import png_of

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def write_bag(folder: Path, images: Iterable[Recorded], topic: str, *, start: int, frame_id: str = '',
              storage: str = 'mcap', compressed: bool = False) -> int:
    """Write the images to a new bag; the folder appears complete or not at all. Returns how many there are.

    topic: fully qualified. start: ns since 1970, of the first image; stamps and times of recording are equal.
    storage: 'mcap' or 'sqlite3'. compressed: as PNG, which is lossless, in place of rgb8. Raises WriteError, and
    MissingPackageError without rosbags.
    """
    check_rosbags(folder)
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = message_types()
    types, kind = store.types, COMPRESSED if compressed else IMAGE
    with folder_written_whole(folder) as temporary:
        bag = temporary / folder.name  # the writer names its files by the folder
        with Writer(bag, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
            connection = writer.add_connection(topic, kind, typestore=store)
            for one in images:
                stamp = start + round(one.seconds * 1e9)
                header = types['std_msgs/msg/Header'](
                    stamp=types['builtin_interfaces/msg/Time'](*divmod(stamp, 10**9)), frame_id=frame_id)
                message = _message(types, kind, header, one.image)
                writer.write(connection, stamp, store.serialize_cdr(message, kind))
        count = sum(writer.counts.values())
        for file in bag.iterdir():
            file.rename(temporary / file.name)
        bag.rmdir()
    return count


def _message(types: Any, kind: str, header: Any, image: np.ndarray[Any, Any]) -> Any:
    if kind == COMPRESSED:
        return types[kind](header, 'png', np.frombuffer(png_of(image), np.uint8))
    height, width = image.shape[:2]
    return types[kind](header, height, width, 'rgb8', 0, 3 * width, np.ascontiguousarray(image).ravel())
