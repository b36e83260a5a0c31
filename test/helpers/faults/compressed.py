"""Faults of compressed images: damaged, empty, lying about their size or their format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np

from faults.bench import Bench, FaultError, stamp_of
from faults.scene import compressed
from faults.suite import fault

_RANDOM = np.random.default_rng(0)


def _jpeg(bench: Bench) -> bytes:
    return cv2.imencode('.jpg', bench.scene.touched[0])[1].tobytes()


def _half(bench: Bench) -> bytes:
    data = _jpeg(bench)
    return data[:len(data) // 2]


def _hole(bench: Bench) -> bytes:
    data = _jpeg(bench)
    middle = len(data) // 2
    return data[:middle] + bytes(300) + data[middle + 300:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def _png(width: int, height: int) -> bytes:
    """A PNG whose header claims that size, with few bytes of pixels."""
    return (b'\x89PNG\r\n\x1a\n' + _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
            + _chunk(b'IDAT', zlib.compress(bytes(10_000))) + _chunk(b'IEND', b''))


def _large_jpeg(_bench: Bench) -> bytes:
    data = bytearray(cv2.imencode('.jpg', np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    place = data.index(b'\xff\xc0') + 5
    data[place:place + 4] = struct.pack('>HH', 65_500, 65_500)
    return bytes(data)


def _rejected(bench: Bench, data: Callable[[Bench], bytes], format_: str = 'jpeg') -> None:
    messages = [compressed(data(bench), format_) for _ in range(20)]
    bench.play(messages)
    bench.counters()
    sent = {stamp_of(message) for message in messages}
    if any(stamp_of(result) in sent for result in bench.results):
        raise FaultError('a rejected image has a result')


for _name, _what, _data, _log in (
    ('truncated JPEG', 'The second half of every JPEG is missing.', _half, 'is truncated'),
    ('damaged JPEG', 'A part of every JPEG is overwritten with zeros.', _hole, 'rejected'),
    ('empty JPEG', 'The compressed images have no bytes.', lambda _: b'', 'must be JPEG or PNG'),
    ('random bytes', 'The compressed images are random bytes.', lambda _: _RANDOM.bytes(5000), 'must be JPEG or PNG'),
    ('lying PNG', 'A PNG of 10 kB claims 2,147,483,647 pixels in a row.', lambda _: _png(2**31 - 1, 2**31 - 1),
     'rejected'),
    ('huge PNG', 'A PNG of 10 kB claims 60,000x60,000 pixels.', lambda _: _png(60_000, 60_000), 'must be at most'),
    ('lying JPEG', 'A JPEG of 64x64 pixels claims 65,500x65,500.', _large_jpeg, 'must be at most'),
    ('PNG without pixels', 'A PNG has too few bytes for its size.', lambda _: _png(320, 240), 'rejected'),
):
    fault(_what, _log, 'since the last report: .*rejected', compressed=True, name=_name, data=_data)(_rejected)


@fault('Every format is a text of 10,000 characters; the images are right.', None, None, compressed=True)
def long_format(bench: Bench) -> None:
    images = list(bench.good(20))
    for image in images:
        image.format = 'jpeg; ' * 1700
    bench.play(images)


@fault('JPEGs of 3840x2160 between those of the usual size.', 'resolution changed', 'resolution changes', soon=6.0,
       compressed=True, more_memory=400.0)
def four_k_JPEG(bench: Bench) -> None:
    large = cv2.imencode('.jpg', cv2.resize(bench.scene.untouched[0], (3840, 2160)))[1].tobytes()
    for _ in range(2):
        bench.show(compressed(large))
