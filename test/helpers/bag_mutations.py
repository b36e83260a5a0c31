"""Bags of every kind to damage, and what a reader makes of each.

A loss or change is silent if `Recording.problems` does not name it and no message is refused.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from pathlib import Path
from zlib import crc32

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.table import DataError

TOPIC, TYPE, COUNT = '/left/image_raw', 'sensor_msgs/msg/Image', 12
START, STEP = 1_700_000_000 * 10**9, 10**8  # ns
HEIGHT, WIDTH = 24, 32
FORMATS = ('db3', 'db3 message', 'db3 file', 'mcap', 'mcap crc', 'mcap zstd', 'mcap zstd crc', 'mcap lz4 crc', 'bag',
           'bag bz2', 'bag lz4')


def has_checksums(kind: str) -> bool:
    return kind.endswith('crc')


def write(folder: Path, kind: str) -> Path:
    """A bag of two chunks or more, with noise that does not compress as its images."""
    storage, *compression = kind.split()
    ros1 = storage == 'bag'
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
    types, extra = store.types, {'seq': 0} if ros1 else {}
    path = folder / ('b.bag' if ros1 else 'b')
    writer = Writer1(path) if ros1 else Writer2(
        path, version=9, storage_plugin=StoragePlugin.MCAP if storage == 'mcap' else StoragePlugin.SQLITE3)
    if compression and ros1:
        writer.set_compression(Writer1.CompressionFormat[compression[0].upper()])
    elif storage == 'db3' and compression:
        writer.set_compression(CompressionMode[compression[0].upper()], CompressionFormat.ZSTD)
    if ros1:
        writer.chunk_threshold = 8000
    serialise = store.serialize_ros1 if ros1 else store.serialize_cdr
    messages = []
    with writer:
        connection = writer.add_connection(TOPIC, TYPE, typestore=store)
        for number in range(COUNT):
            at = types['builtin_interfaces/msg/Time'](*divmod(START + number * STEP, 10**9))
            header = types['std_msgs/msg/Header'](stamp=at, frame_id='gel', **extra)
            pixels = np.random.default_rng(number).integers(0, 256, HEIGHT * WIDTH * 3, dtype=np.uint8)
            data = bytes(serialise(types[TYPE](header, HEIGHT, WIDTH, 'rgb8', 0, 3 * WIDTH, pixels), TYPE))
            messages.append((START + number * STEP, data))
            writer.write(connection, START + number * STEP, data)
    if storage == 'mcap':
        write_mcap(next(path.glob('*.mcap')), connection.msgdef.data, messages, kind)
    return path


def write_mcap(path: Path, definition: str, messages: list[tuple[int, bytes]], kind: str, per_chunk: int = 4) -> None:
    """As the writer of rosbag2 does it (chunks with indexes, a summary), and rosbags' own does not: with checksums.

    flat: without chunks, as other programs do it.
    """
    def text(value: str | bytes) -> bytes:
        value = value.encode() if isinstance(value, str) else value
        return struct.pack('<I', len(value)) + value

    def record(code: int, content: bytes) -> bytes:
        return struct.pack('<BQ', code, len(content)) + content

    def checksum(data: bytes) -> int:
        return crc32(data) if has_checksums(kind) else 0

    compression = next((name for name in ('zstd', 'lz4') if name in kind), '')
    schema = record(3, struct.pack('<H', 1) + text(TYPE) + text('ros2msg') + text(definition))
    channel = record(4, struct.pack('<HH', 1, 1) + text(TOPIC) + text('cdr') + text(b''))
    out = bytearray(b'\x89MCAP0\r\n' + record(1, text('ros2') + text('toy')))
    chunk_indexes = []
    if 'flat' in kind:
        out += schema + channel
        for received, data in messages:
            out += record(5, struct.pack('<HIQQ', 1, 0, received, received) + data)
    for first in range(0, 0 if 'flat' in kind else len(messages), per_chunk):
        own = messages[first:first + per_chunk]
        body, places = bytearray(schema + channel if not first else b''), []
        for received, data in own:
            places.append((received, len(body)))
            body += record(5, struct.pack('<HIQQ', 1, 0, received, received) + data)
        packed = bytes(body)
        if compression == 'zstd':
            from vit_tactile_ros.data.bags.storage import zstd
            packed = zstd().compress(packed)
        elif compression == 'lz4':
            import lz4.frame
            packed = lz4.frame.compress(packed)
        times = struct.pack('<QQ', own[0][0], own[-1][0])
        at = len(out)
        out += record(6, times + struct.pack('<QI', len(body), checksum(bytes(body))) + text(compression)
                      + struct.pack('<Q', len(packed)) + packed)
        length, index_at = len(out) - at, len(out)
        out += record(7, struct.pack('<H', 1) + text(b''.join(struct.pack('<QQ', *place) for place in places)))
        chunk_indexes.append(record(8, times + struct.pack('<QQ', at, length) + text(struct.pack('<HQ', 1, index_at))
                                    + struct.pack('<Q', len(out) - index_at) + text(compression)
                                    + struct.pack('<QQ', len(packed), len(body))))
    out += record(15, struct.pack('<I', checksum(bytes(out))))
    start = len(out)
    statistics = struct.pack('<QHIIIIQQ', len(messages), 1, 1, 0, 0, len(chunk_indexes), messages[0][0],
                             messages[-1][0]) + text(struct.pack('<HQ', 1, len(messages)))
    out += schema + channel + b''.join(chunk_indexes) + record(11, statistics)
    out += struct.pack('<BQQQ', 2, 20, start, 0)
    out += struct.pack('<I', checksum(bytes(out[start:]))) + b'\x89MCAP0\r\n'
    path.write_bytes(out)


def digests(path: Path) -> tuple[Counter[tuple[int, bytes]], list[str], int]:
    """The images at their times, what is reported, and how many messages are refused."""
    found, refused = Counter(), 0
    try:
        with Recording(path) as recording:
            for message in recording.messages({TOPIC}):
                try:
                    image = recording.deserialise(message)
                except DataError:
                    refused += 1
                    continue
                about = f'{image.height} {image.width} {image.encoding} {image.step}'.encode()
                found[message.received, hashlib.md5(bytes(image.data) + about).digest()] += 1
            return found, list(recording.problems), refused
    except DataError as error:
        return found, [str(error)], refused


def judge(whole: Counter, path: Path, checksums: bool) -> tuple[str, str]:
    """The outcome, and what to say of it."""
    found, problems, refused = digests(path)
    if problems or refused:
        return 'reported', (problems or [''])[0]
    if found == whole:
        return 'identical', ''
    if found.total() < whole.total():
        return 'silent loss', f'{found.total()} of {whole.total()}'
    return ('silent change' if checksums else 'changed unseen'), f'{(found - whole).total()} images'
