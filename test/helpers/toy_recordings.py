"""Bags of every kind with one topic of random images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

TOPIC, TYPE = '/left/image_raw', 'sensor_msgs/msg/Image'
START, STEP = 1_700_000_000 * 10**9, 10**8  # ns
COUNT = 40
KINDS = [('db3', ''), ('db3', 'message'), ('db3', 'file'), ('mcap', ''), ('mcap', 'message'), ('mcap', 'file'),
         ('mcap', 'storage'), ('bag', ''), ('bag', 'bz2'), ('bag', 'lz4')]


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, 120 * 160 * 3, dtype=np.uint8)


def write(folder: Path, kind: str, compression: str = '', numbers: range = range(COUNT), name: str = 'touch') -> Path:
    """A bag with image n every 0.1 s, 57 kB each, for several chunks."""
    store = get_typestore(Stores.ROS1_NOETIC if kind == 'bag' else Stores.ROS2_JAZZY)
    types, extra = store.types, {'seq': 0} if kind == 'bag' else {}
    if kind == 'bag':
        path = folder / f'{name}.bag'
        writer = Writer1(path)
        if compression:
            writer.set_compression(Writer1.CompressionFormat[compression.upper()])
    else:
        path = folder / name
        writer = Writer2(path, version=9, storage_plugin=StoragePlugin.MCAP if kind == 'mcap' else
                         StoragePlugin.SQLITE3)
        if compression:
            writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    serialise = store.serialize_ros1 if kind == 'bag' else store.serialize_cdr
    with writer:
        connection = writer.add_connection(TOPIC, TYPE, typestore=store)
        for number in numbers:
            at = types['builtin_interfaces/msg/Time'](*divmod(START + number * STEP, 10**9))
            header = types['std_msgs/msg/Header'](stamp=at, frame_id='gel', **extra)
            writer.write(connection, START + number * STEP, serialise(
                types[TYPE](header, 120, 160, 'rgb8', 0, 480, pixels(number)), TYPE))
    return path


def file_of(path: Path) -> Path:
    return path if path.is_file() else next(f for f in path.iterdir() if f.name != 'metadata.yaml')
