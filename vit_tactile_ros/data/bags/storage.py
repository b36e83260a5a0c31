"""What the readers of the three kinds of bag files share: messages, topics, decompression, the order of time."""

from __future__ import annotations

import bz2
import heapq
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, BinaryIO, NamedTuple, Protocol

LATEST = 2**63 - 1  # ns, in the year 2262: what 64 bits hold
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_LARGEST_CHUNK = 2**28  # bytes unpacked of a chunk that claims to be smaller, or claims nothing


class Found(NamedTuple):
    """One message as it lies in the file."""

    topic: str
    msgtype: str  # sensor_msgs/msg/Image
    received: int  # ns, the bag's clock; 0 to LATEST
    raw: bytes  # CDR, or ROS 1 serialisation in a .bag


class Topic(NamedTuple):
    """What a file or recording holds on one topic."""

    topic: str
    msgtype: str
    msgcount: int
    definition: str = ''  # of the type, as the file brings it along; '' where it does not
    digest: str = ''  # of the type: RIHS01_... or, in a .bag, the MD5 sum


class Problems(list[str]):
    """What is damaged in a recording, each once."""

    def note(self, text: str) -> None:
        if text not in self:
            self.append(text)


class StorageFile(Protocol):
    """One file of a recording, open."""

    topics: list[Topic]
    start: int  # ns; of the first message, LATEST where there is none
    end: int  # ns; behind the last message, 0 where there is none

    def messages(self, topics: Collection[str], start: int | None, stop: int | None) -> Iterator[Found]:
        """Those with start <= received < stop, in the order of recording; damage goes to the file's `problems`."""

    def close(self) -> None: ...


@dataclass
class Block:
    """Messages that are read together: a chunk, or a message that lies in none."""

    at: int  # byte in the file
    start: int  # ns; of its first message, 0 where that is not known
    end: int  # ns; of its last message, LATEST where that is not known
    counts: dict[int, int] | None = None  # messages per connection as its index has them; None: there is no index
    extra: dict[str, Any] = field(default_factory=dict)  # of the format


class Entry(NamedTuple):
    """A message in a block."""

    received: int
    connection: int
    raw: bytes


def in_order(blocks: Iterable[Block], load: Callable[[Block], Iterable[Entry]], start: int | None,
             stop: int | None) -> Iterator[Entry]:
    """The entries of all blocks by time, equal times in the order of the file; holds the blocks that overlap in time.

    Blocks that lie outside `start` and `stop` are not loaded.
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


def zstd() -> Any:
    """The standard library's zstd or, before Python 3.14, the package that rosbags brings along."""
    try:
        from compression import zstd as module
    except ImportError:
        from backports import zstd as module
    return module


def unpacked(compression: str, data: bytes, size: int) -> tuple[bytes, str]:
    """The data decompressed as far as it goes, and what is wrong with it ('': nothing).

    size: of the result, as the file has it. Checksums that the compression has are checked.
    """
    if compression in ('', 'none'):
        return data, '' if len(data) == size else f'it holds {len(data)} bytes, its header says {size}'
    try:
        decompressor = _decompressor(compression)
    except (ImportError, ValueError) as error:
        return b'', str(error)
    parts: list[bytes] = []
    room = max(size, _LARGEST_CHUNK) + 1  # what a damaged or hostile file may unpack to
    try:
        # Piece by piece: what comes before a damaged place is kept.
        for at in range(0, len(data), 2**20):
            parts.append(bytes(decompressor.decompress(data[at:at + 2**20], max_length=room)))
            room -= len(parts[-1])
            if decompressor.eof or room <= 0:
                break
    except Exception as error:  # the libraries' own errors, for damaged data
        return b''.join(parts), f'it cannot be decompressed ({compression}: {error})'
    unzipped = b''.join(parts) if len(parts) != 1 else parts[0]
    if not decompressor.eof:
        return unzipped, f'it cannot be decompressed ({compression}: its end is missing)'
    return unzipped, '' if len(unzipped) == size else f'it unpacks to {len(unzipped)} bytes, its header says {size}'


def unpacked_message(raw: bytes) -> tuple[bytes, str]:
    """A message that was compressed by itself, and what is wrong with it ('': nothing)."""
    decompressor = zstd().ZstdDecompressor()
    try:
        data = bytes(decompressor.decompress(raw, max_length=_LARGEST_CHUNK))
    except Exception as error:  # the library's own errors
        return b'', f'it cannot be decompressed ({error})'
    return data, '' if decompressor.eof else 'it cannot be decompressed (its end is missing)'


def _decompressor(compression: str) -> Any:
    if compression == 'zstd':
        return zstd().ZstdDecompressor()
    if compression == 'lz4':
        from lz4.frame import LZ4FrameDecompressor
        return LZ4FrameDecompressor()
    if compression == 'bz2':
        return bz2.BZ2Decompressor()
    raise ValueError(f'its compression is {compression!r}; must be none, zstd, lz4 or bz2')


def file_size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def seconds(start: int, end: int) -> str:
    """Where in time something lies, for messages."""
    return f'{start / 1e9:.3f} s' if end <= start else f'{start / 1e9:.3f} to {end / 1e9:.3f} s'
