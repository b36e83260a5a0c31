"""Shared by the readers of the three kinds of bag files: messages, topics, decompression, the order of time."""

from __future__ import annotations

import bz2
import heapq
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any, BinaryIO, NamedTuple, Protocol

LATEST = 2**63 - 1  # ns, in the year 2262: what 64 bits hold
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_PIECE = 2**16  # bytes that are unpacked, or taken from the unpacked data, at a time
_LARGEST_CHUNK = 2**28  # most bytes of an unpacked chunk or message: a damaged or hostile one may be endless


class Found(NamedTuple):
    """One message as stored in the file."""

    topic: str
    msgtype: str  # sensor_msgs/msg/Image
    received: int  # ns, the bag's clock; 0 to LATEST
    raw: bytes  # CDR, or ROS 1 serialisation in a .bag


class Topic(NamedTuple):
    """The contents of one topic in a file or recording."""

    topic: str
    msgtype: str
    msgcount: int
    definition: str = ''  # of the type, from the file; '' if it has none
    digest: str = ''  # of the type: RIHS01_... or, in a .bag, the MD5 sum


class Problems(list[str]):
    """The damage in a recording, each once."""

    def note(self, text: str) -> None:
        if text not in self:
            self.append(text)


class StorageFile(Protocol):
    """One file of a recording, open."""

    topics: list[Topic]
    start: int  # ns; of the first message, LATEST if there is none
    end: int  # ns; after the last message, 0 if there is none

    def messages(self, topics: Collection[str], start: int | None, stop: int | None) -> Iterator[Found]:
        """Those with start <= received < stop, in the order of recording; damage goes to the file's `problems`."""

    def close(self) -> None: ...


@dataclass
class Block:
    """Messages that are read together: a chunk, or a message outside chunks."""

    at: int  # byte in the file
    start: int  # ns; of its first message, 0 if unknown
    end: int  # ns; of its last message, LATEST if unknown
    counts: dict[int, int] | None = None  # messages per connection as its index has them; None: there is no index
    extra: dict[str, Any] = field(default_factory=dict)  # of the format


class Entry(NamedTuple):
    """A message in a block."""

    received: int
    connection: int
    raw: bytes | memoryview  # of the chunk: copied when its turn comes


def in_order(blocks: Iterable[Block], load: Callable[[Block], Iterable[Entry]], start: int | None,
             stop: int | None) -> Iterator[Entry]:
    """The entries of all blocks by time, equal times in the order of the file; holds the blocks that overlap in time.

    Blocks outside `start` and `stop` are not loaded.
    """
    waiting: list[tuple[int, int, Entry]] = []
    number = count()
    first, last = start or 0, LATEST + 1 if stop is None else stop
    for block in sorted(blocks, key=lambda b: b.start):
        if block.end < first or block.start >= last:
            continue
        while waiting and waiting[0][0] < block.start:
            yield heapq.heappop(waiting)[2]
        for entry in load(block):
            if first <= entry.received < last:
                heapq.heappush(waiting, (entry.received, next(number), entry))
    while waiting:
        yield heapq.heappop(waiting)[2]


def topics_of(connections: Iterable[tuple[str, str, int, str, str]]) -> list[Topic]:
    """Connections of one topic and type are one topic."""
    merged: dict[tuple[str, str], Topic] = {}
    for topic, msgtype, messages, definition, digest in connections:
        known = merged.get((topic, msgtype), Topic(topic, msgtype, 0))
        merged[topic, msgtype] = Topic(topic, msgtype, known.msgcount + messages, known.definition or definition,
                                       known.digest or digest)
    return list(merged.values())


@cache  # a failed import would be tried each time
def zstd() -> Any:
    """The standard library's zstd or, before Python 3.14, the package that rosbags depends on."""
    try:
        from compression import zstd as module
    except ImportError:
        from backports import zstd as module
    return module


def unpacked(compression: str, data: bytes, size: int | None = None) -> tuple[bytes, str]:
    """The data, decompressed as far as possible, and what is wrong with it ('': nothing).

    size: of the result, from the file; None if it has none. Checksums that the compression has are checked.
    """
    if compression in ('', 'none'):
        return data, '' if size in (None, len(data)) else f'it holds {len(data)} bytes, its header gives {size}'
    try:
        result = _unpacked_at_once(compression, data)
        trouble = ''
    except (ImportError, _Unknown) as error:
        return b'', str(error)
    except Exception:  # the libraries' own errors, for damaged data
        result, trouble = _unpacked_in_parts(compression, data)
    if not trouble and size not in (None, len(result)):
        trouble = f'it unpacks to {len(result)} bytes, its header gives {size}'
    return result, trouble


class _Unknown(ValueError):
    pass


def _unpacked_at_once(compression: str, data: bytes) -> bytes:
    """Twice as fast. Raises an error of the library for damaged data, and for data that may exceed the memory."""
    if compression == 'zstd':
        module, size, rest = zstd(), 0, memoryview(data)
        while rest:  # of each frame
            size += module.get_frame_info(rest).decompressed_size  # TypeError: unknown
            rest = rest[module.get_frame_size(rest):]
            if size > _LARGEST_CHUNK:
                raise ValueError(f'{size} bytes')
        return bytes(module.decompress(data))
    if compression == 'lz4':
        from lz4.frame import decompress, get_frame_info
        # At most 255 times its size. It allocates the size that it gives, and refuses more.
        most = 255 * len(data)
        if (get_frame_info(data)['content_size'] or most) > min(most, _LARGEST_CHUNK):
            raise ValueError(f'{len(data)} bytes may become too many')
        return bytes(decompress(data))
    if compression == 'bz2':
        raise ValueError('one byte may unpack to thousands')
    raise _Unknown(f'its compression is {compression!r}; must be none, zstd, lz4 or bz2')


def _unpacked_in_parts(compression: str, data: bytes) -> tuple[bytes, str]:
    """Piece by piece, so that everything before a damaged place is kept."""
    decompressor = _decompressor(compression)
    result, room, trouble = io.BytesIO(), _LARGEST_CHUNK, ''
    try:
        for at in range(0, len(data), _PIECE):
            piece = data[at:at + _PIECE]
            while not decompressor.eof:  # lz4 allocates max_length, whatever there is
                room = _LARGEST_CHUNK - result.tell()
                result.write(decompressor.decompress(piece, max_length=min(room, _PIECE)))
                if decompressor.needs_input or not room:
                    break
                piece = b''
            if decompressor.eof or not room:
                break
    except Exception as error:  # the libraries' own errors
        trouble = f'it cannot be decompressed ({compression}: {error})'
    if decompressor.eof:
        rest = len(decompressor.unused_data or b'') + len(data) - at - _PIECE
        trouble = trouble or (f'{rest} bytes follow its end' if rest > 0 else '')
    else:
        trouble = trouble or f'it cannot be decompressed ({compression}: ' + (
            'its end is missing)' if room else f'it unpacks to more than {_LARGEST_CHUNK} bytes)')
    return result.getvalue(), trouble


def _decompressor(compression: str) -> Any:
    if compression == 'zstd':
        return zstd().ZstdDecompressor()
    if compression == 'lz4':
        from lz4.frame import LZ4FrameDecompressor
        return LZ4FrameDecompressor()
    return bz2.BZ2Decompressor()


def file_size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def seconds(start: int, end: int) -> str:
    """A time span, for messages."""
    return f'{start / 1e9:.3f} s' if end <= start else f'{start / 1e9:.3f} to {end / 1e9:.3f} s'
