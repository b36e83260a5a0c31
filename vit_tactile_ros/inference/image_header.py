"""The size and the end of a JPEG or PNG, read before it is decoded; refuses truncated and too large images.

OpenCV fills the missing part of a truncated file with grey and reports success, and allocates any size that the header
claims. So the markers of a JPEG and the chunks of a PNG are checked first: 20 to 60 us.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from vit_tactile_ros.foundation.errors import UserError

# 8K video (7680x4320) passes: 100 MB in memory. The largest tactile camera we know has 8 Mpx.
MAX_PIXELS = 2**25
_MAX_SCANS = 100  # an ordinary progressive JPEG has about ten; each pass covers the whole image
# The marker that ends a scan: not a stuffed zero, a restart marker or a fill byte.
_SCAN_END = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame, by coding process
_EXIF = b'Exif\x00\x00'
_DECODABLE_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # without the lossless and hierarchical ones


class DecodeError(UserError):
    """An image that cannot be decoded; `reason` is a short key for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return DecodeError, (self.reason, str(self))  # it crosses processes


class Header(NamedTuple):
    kind: str  # 'JPEG', 'PNG', ...
    width: int
    height: int
    end: int  # bytes of the image; others may follow
    orientation: int = 1  # EXIF, 1 to 8; only read for JPEG, OpenCV applies the others


def check_size(width: int, height: int, reason: str, kind: str = 'image') -> None:
    """Raises DecodeError for a size of zero or of more than MAX_PIXELS."""
    if width < 1 or height < 1:
        raise DecodeError(reason, f'{kind} is {width}x{height}; width and height must be at least 1')
    if width * height > MAX_PIXELS:
        raise DecodeError(reason, f'{kind} is {width}x{height}, {width * height / 1e6:.1f} Mpx; must be at most '
                                  f'{MAX_PIXELS / 1e6:.1f} Mpx')


def truncated(kind: str, data: bytes, what: str) -> DecodeError:
    return DecodeError('compressed', f'{kind} of {len(data)} bytes is truncated: {what}')


def damaged(kind: str, data: bytes, what: str) -> DecodeError:
    return DecodeError('compressed', f'{kind} of {len(data)} bytes is damaged: {what}')


def read_jpeg_header(data: bytes) -> Header:
    """The header of data that starts with JPEG's first marker; `end` is the position after the end marker.

    Cameras and phones append other bytes: padding, a second image, or a trailer, which may contain an end marker too.
    Raises DecodeError('compressed') for a JPEG that is truncated, too large, or of a kind that OpenCV decodes wrongly.
    """
    size: tuple[int, int] | None = None
    least_bits = coded_bytes = scans = 0
    orientation: int | None = None
    position = 2
    while True:
        while data[position:position + 2] == b'\xff\xff':  # any number of fill bytes
            position += 1
        if len(data) < position + 2:
            raise truncated('JPEG', data, 'no end marker')
        if data[position] != 0xFF:
            raise damaged('JPEG', data, f'no marker at byte {position}')
        marker = data[position + 1]
        position += 2
        if marker == 0xD9:
            break
        if marker in _STANDALONE:
            continue
        if marker < 0xC0 or marker == 0xD8:
            raise damaged('JPEG', data, f'marker {marker:#04x} at byte {position - 2}')
        if len(data) < position + 2:
            raise truncated('JPEG', data, 'no end marker')
        length = int.from_bytes(data[position:position + 2], 'big')
        if len(data) < position + length:
            raise truncated('JPEG', data, 'no end marker')
        if marker in _FRAMES:
            if size is not None:
                raise damaged('JPEG', data, 'more than one frame header')
            size, least_bits = _read_frame(data, data[position + 2:position + length], marker)
        elif marker == 0xE1 and not scans and orientation is None and data.startswith(_EXIF, position + 2):
            orientation = _read_orientation(data[position + 2 + len(_EXIF):position + length])
        position += length
        if marker == 0xDA:
            scans += 1
            end = _SCAN_END.search(data, position)
            if end is None:
                raise truncated('JPEG', data, 'no end marker')
            coded_bytes += end.start() - position
            position = end.start()
    if size is None or not scans:
        raise damaged('JPEG', data, 'nothing between its markers')
    if scans > _MAX_SCANS:
        raise damaged('JPEG', data, f'{scans} scans; must be at most {_MAX_SCANS}')
    # Otherwise a few kB that claim the largest size allowed would be decoded into 100 MB of grey first.
    if 8 * coded_bytes < least_bits:
        raise damaged('JPEG', data, f'{coded_bytes} bytes of pixels are too few for {size[0]}x{size[1]}')
    return Header('JPEG', *size, position, orientation if orientation and orientation <= 8 else 1)


def _read_orientation(exif: bytes) -> int | None:
    """The first entry whatever its value, as OpenCV does; None if there is none or it cannot be read."""
    order = '<' if exif[:2] == b'II' else '>'
    try:
        mark, first = struct.unpack_from(order + 'HI', exif, 2)
        if exif[:2] not in (b'II', b'MM') or mark != 42:
            return None
        for entry in range(struct.unpack_from(order + 'H', exif, first)[0]):
            tag, _, _, value = struct.unpack_from(order + 'HHIH', exif, first + 2 + 12 * entry)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        pass
    return None


def _read_frame(data: bytes, frame: bytes, marker: int) -> tuple[tuple[int, int], int]:
    """Width and height, and the least number of bits of its coded pixels."""
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise damaged('JPEG', data, 'its frame header is too short')
    if marker not in _DECODABLE_FRAMES:
        raise DecodeError('compressed', f'JPEG is lossless or hierarchical (frame marker {marker:#04x}); must be '
                                        'baseline or progressive')
    bits, height, width, components = struct.unpack_from('>BHHB', frame)
    if bits != 8:
        raise DecodeError('compressed', f'JPEG has {bits} bits per channel; must be 8')
    if components not in (1, 3):
        raise DecodeError('compressed', f'JPEG has {components} channels (4 are CMYK); must have 1 (grey) or 3 '
                                        '(colour): convert it to RGB')
    check_size(width, height, 'compressed', 'JPEG')
    sampling = [(byte >> 4, byte & 15) for byte in frame[7:7 + 3 * components:3]]
    if any(not 1 <= factor <= 4 for pair in sampling for factor in pair):
        raise damaged('JPEG', data, 'its sampling factors must be 1 to 4')
    most_h, most_v = (max(factors) for factors in zip(*sampling, strict=True))
    blocks = sum(-(-width * h // (8 * most_h)) * -(-height * v // (8 * most_v)) for h, v in sampling)
    # A block of a Huffman-coded baseline JPEG takes at least two codes, of a progressive one at least one.
    return (width, height), {0xC0: 2, 0xC1: 2, 0xC2: 1}.get(marker, 0) * blocks


def read_png_header(data: bytes) -> Header:
    """The header of data that starts with PNG's signature; `end` is the end of its last chunk.

    Raises DecodeError('compressed') for a PNG that is truncated or too large, or has a chunk with a wrong checksum.
    """
    view = memoryview(data)
    size: tuple[int, int] | None = None
    position = 8
    while True:
        if len(data) < position + 12:
            raise truncated('PNG', data, 'no end chunk')
        length, kind = struct.unpack_from('>I4s', data, position)
        if len(data) < position + 12 + length:
            raise truncated('PNG', data, 'no end chunk')
        if zlib.crc32(view[position + 4:position + 8 + length]) != struct.unpack_from('>I', data,
                                                                                      position + 8 + length)[0]:
            raise damaged('PNG', data, f'wrong checksum of the chunk at byte {position}')
        if size is None:
            if kind != b'IHDR' or length != 13:
                raise damaged('PNG', data, 'no header chunk')
            size = struct.unpack_from('>II', data, position + 8)
            check_size(*size, 'compressed', 'PNG')
        position += 12 + length
        if kind == b'IEND':
            return Header('PNG', *size, position)
