"""The size in the header of a BMP, TIFF or WebP, before it is decoded; OpenCV itself refuses truncated ones."""

from __future__ import annotations

import struct

from vit_tactile_ros.inference.image_header import DecodeError, Header, check_size, damaged, truncated

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_SHORT, _TIFF_LONG = 3, 4


def read_bmp_header(data: bytes) -> Header:
    if len(data) < 26:
        raise truncated('BMP', data, 'its header takes 26 bytes')
    header_size = struct.unpack_from('<I', data, 14)[0]
    # A negative height means rows from the top down.
    width, height = struct.unpack_from('<HH' if header_size == 12 else '<ii', data, 18)
    check_size(width, abs(height), 'compressed', 'BMP')
    return Header('BMP', width, abs(height), len(data))


def read_webp_header(data: bytes) -> Header:
    if len(data) < 30:
        raise truncated('WebP', data, 'its header takes 30 bytes')
    size, kind = struct.unpack_from('<I', data, 4)[0], data[12:16]
    if len(data) < 8 + size:
        raise truncated('WebP', data, f'its header gives {8 + size} bytes')
    if kind == b'VP8X':
        width, height = (1 + int.from_bytes(data[place:place + 3], 'little') for place in (24, 27))
    elif kind == b'VP8L':
        bits = int.from_bytes(data[21:25], 'little')
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b'VP8 ':
        width, height = (value & 0x3FFF for value in struct.unpack_from('<HH', data, 26))
    else:
        raise damaged('WebP', data, f'its first chunk is {kind!r}')
    check_size(width, height, 'compressed', 'WebP')
    return Header('WebP', width, height, 8 + size)


def read_tiff_header(data: bytes) -> Header:
    """The header of the first image in the file."""
    order = '<' if data[:2] == b'II' else '>'
    try:
        first = struct.unpack_from(order + 'I', data, 4)[0]
        values: dict[int, int] = {}
        for index in range(struct.unpack_from(order + 'H', data, first)[0]):
            place = first + 2 + 12 * index
            tag, kind, _ = struct.unpack_from(order + 'HHI', data, place)
            if kind in (_TIFF_SHORT, _TIFF_LONG):
                values[tag] = struct.unpack_from(order + 'HI'[kind - _TIFF_SHORT], data, place + 8)[0]
    except struct.error as error:
        raise truncated('TIFF', data, 'its directory lies beyond its end') from error
    if not {_TIFF_WIDTH, _TIFF_HEIGHT} <= values.keys():
        raise DecodeError('compressed', f'TIFF of {len(data)} bytes is damaged: it has no size')
    width, height = values[_TIFF_WIDTH], values[_TIFF_HEIGHT]
    check_size(width, height, 'compressed', 'TIFF')
    return Header('TIFF', width, height, len(data))
