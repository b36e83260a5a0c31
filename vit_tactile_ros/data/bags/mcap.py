"""MCAP files (https://mcap.dev/spec): whole, truncated, without their summary, or damaged.

The heads of the records are read once and give the chunks; a chunk is unpacked when its messages are needed. What the
writer stored twice is compared, and the checksums of chunks, data and summary are checked.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from vit_tactile_ros.data.bags.block_file import BlockFile
from vit_tactile_ros.data.bags.storage import (
    LATEST,
    Block,
    Entry,
    Found,
    Problems,
    seconds,
    topics_of,
    unpacked,
)

MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, STATISTICS, DATA_END, LAST_KIND = 0x09, 0x0B, 0x0F, 0x0F
_HEAD = 9  # bytes of a record before its content: its kind, and the length of its content
_FOOTER_SIZE = _HEAD + 20 + len(MAGIC)
_RUN = 2**20  # bytes of messages outside chunks in one block


class _Schema(NamedTuple):
    name: str
    definition: str


class _Channel(NamedTuple):
    topic: str
    schema: int
    encoding: str


class _ChunkIndex(NamedTuple):
    """A chunk according to the summary."""

    start: int
    end: int
    length: int  # of the record with its head
    compression: str
    compressed: int  # bytes
    size: int  # bytes, unpacked

    @property
    def about(self) -> tuple[int, int, str, int, int]:
        return self.start, self.end, self.compression, self.compressed, self.size


class McapFile(BlockFile):
    """One MCAP file."""

    def __init__(self, path: Path, problems: Problems, shown: Path | None = None) -> None:
        self._schemas: dict[int, _Schema] = {}
        self._channels: dict[int, _Channel] = {}
        self._chunk_indexes: dict[int, _ChunkIndex] = {}  # by the chunk's place
        self._statistics: dict[int, int] | None = None  # messages per channel
        super().__init__(path, problems, shown)

    def messages(self, topics: Collection[str], start: int | None, stop: int | None) -> Iterator[Found]:
        return self._messages(self._channels, topics, start, stop)

    def _topic_of(self, number: int) -> tuple[str, str]:
        return self._channels[number].topic, self._type_of(self._channels[number])

    def _type_of(self, channel: _Channel) -> str:
        return self._schemas[channel.schema].name if channel.schema in self._schemas else ''

    def _survey(self) -> None:
        is_headed, is_ended = self._read(0, 8) == MAGIC, self._read(self._size - 8, 8) == MAGIC
        if not is_headed:
            self._note(' does not begin like an MCAP file')
            if not is_ended:
                return
        self._walk(self._read_summary() if is_ended else self._size, is_ended)
        if not is_ended:
            self._note(' was cut short: its end is missing')
        has_counts = all(block.counts is not None for block in self._blocks)
        counts = self._count(self._channels, is_complete=self._statistics is None)
        if self._statistics is not None:
            if has_counts:
                self._compare_statistics(counts)
            else:
                counts = Counter(self._statistics)
        self._note_unknown(counts, self._channels, 'channel')
        self.topics = topics_of(
            (channel.topic, self._type_of(channel), counts[number], self._schemas[channel.schema].definition
             if channel.schema in self._schemas else '', '') for number, channel in self._channels.items())

    def _compare_statistics(self, counts: Counter[int]) -> None:
        for number, expected in (self._statistics or {}).items():
            if counts[number] != expected:
                topic = self._channels[number].topic if number in self._channels else f'channel {number}'
                self._note(f': {counts[number]} messages of {topic} are found, its statistics have {expected}')
        for number in sorted(set(counts) - set(self._statistics or {})):
            self._note(f': {counts[number]} messages are of channel {number}, which its statistics do not have')

    # The summary at the end: a second copy of topics and types, the places of the chunks, and counts.

    def _read_summary(self) -> int:
        """The end of the data; keeps the contents of the summary."""
        footer_at = self._size - _FOOTER_SIZE
        footer = self._read(footer_at, _FOOTER_SIZE)
        if len(footer) < _FOOTER_SIZE or footer[0] != FOOTER or struct.unpack_from('<Q', footer, 1)[0] != 20:
            self._note(': its footer is damaged')
            return self._size
        start, _, checksum = struct.unpack_from('<QQI', footer, _HEAD)
        if not start:
            return footer_at
        if not 8 < start <= footer_at:
            self._note(f': its footer is damaged: the summary would begin at byte {start}')
            return footer_at
        summary = self._read(start, footer_at - start)
        if checksum and crc32(footer[:-len(MAGIC) - 4], crc32(summary)) != checksum:
            self._note(': the checksum of its summary is wrong; the summary is ignored')
            return start
        try:
            self._parse_summary(summary)
        except (struct.error, IndexError, ValueError) as error:
            self._note(f': its summary is damaged ({error})')
        return start

    def _parse_summary(self, summary: bytes) -> None:
        for _, kind, view in _records(summary):
            content = bytes(view)
            if kind in (SCHEMA, CHANNEL):
                self._keep(kind, content, 'its summary')
            elif kind == CHUNK_INDEX:
                start, end, at, length = struct.unpack_from('<QQQQ', content)
                place = 36 + struct.unpack_from('<I', content, 32)[0] + 8  # behind the places of its message indexes
                compression, place = _text(content, place)
                self._chunk_indexes[at] = _ChunkIndex(start, end, length, compression,
                                                      *struct.unpack_from('<QQ', content, place))
            elif kind == STATISTICS:
                size = struct.unpack_from('<I', content, 42)[0]
                self._statistics = dict(struct.iter_unpack('<HQ', content[46:46 + size]))
            elif not 0 < kind <= LAST_KIND:
                self._note(f': its summary holds a record of an unknown kind ({kind})')

    def _keep(self, kind: int, content: bytes, where: str) -> None:
        """A schema or a channel; the first copy counts, and later ones must equal it."""
        number = struct.unpack_from('<H', content)[0]
        if kind == SCHEMA:
            name, at = _text(content, 2)
            _, at = _text(content, at)
            schema = _Schema(name, _text(content, at)[0])
            if self._schemas.setdefault(number, schema) != schema:
                self._note(f': the type {schema.name} in {where} differs from its other copy')
        else:
            topic, at = _text(content, 4)
            channel = _Channel(topic, struct.unpack_from('<H', content, 2)[0], _text(content, at)[0])
            if self._channels.setdefault(number, channel) != channel:
                self._note(f': the topic {channel.topic} in {where} differs from its other copy, '
                           f'{self._channels[number].topic}')

    # The data: record by record. After a damaged one, reading resumes at the next chunk of the summary.

    def _walk(self, data_end: int, is_ended: bool) -> None:
        chunks = sorted(place for place in self._chunk_indexes if 8 <= place < data_end)
        at, last_chunk = 8, None
        while at + _HEAD <= data_end:
            after = bisect_right(chunks, at)
            limit = chunks[after] if after < len(chunks) else data_end
            kind, size = struct.unpack('<BQ', self._read(at, _HEAD))
            if at in self._chunk_indexes and kind != CHUNK:
                self._note(f': the record at byte {at} is of kind {kind} and should be a chunk')
                kind = CHUNK
            if kind == CHUNK:
                last_chunk = self._chunk(at, size, limit, is_ended)
                size = -1 if last_chunk is None else last_chunk.extra['size']
                if last_chunk is not None:
                    self._blocks.append(last_chunk)
            elif at + _HEAD + size <= limit:
                self._record(kind, at, size, last_chunk)
                if kind in (FOOTER, DATA_END):
                    return
            if size < 0 or at + _HEAD + size > limit:
                if is_ended or limit < data_end:
                    self._note(f': the record at byte {at} is damaged')
                at = limit
            else:
                at += _HEAD + size

    def _record(self, kind: int, at: int, size: int, last_chunk: Block | None) -> None:
        try:
            if kind in (SCHEMA, CHANNEL):
                self._keep(kind, self._read(at + _HEAD, size), f'byte {at}')
            elif kind == MESSAGE:
                number, _, received = struct.unpack('<HIQ', self._read(at + _HEAD, 14))
                self._message(number, received, at, size)
            elif kind == MESSAGE_INDEX:
                number, length = struct.unpack('<HI', self._read(at + _HEAD, 6))
                if last_chunk is None or length % 16 or length + 6 != size:
                    self._note(f': the message index at byte {at} is damaged')
                    return
                last_chunk.counts = last_chunk.counts or {}
                last_chunk.counts[number] = last_chunk.counts.get(number, 0) + length // 16
                last_chunk.extra.setdefault('indexes', []).append((number, at + _HEAD + 6, length))
            elif kind == DATA_END:
                checksum = struct.unpack('<I', self._read(at + _HEAD, 4))[0]
                if checksum and self._checksum(0, at) != checksum:
                    self._note(': the checksum of its data differs; any message may be changed')
            elif kind == ATTACHMENT:
                checksum = struct.unpack('<I', self._read(at + _HEAD + size - 4, 4))[0]
                if checksum and self._checksum(at + _HEAD, at + _HEAD + size - 4) != checksum:
                    self._note(f': the attachment at byte {at} is damaged: its checksum differs')
            elif not 0 < kind <= LAST_KIND:
                self._note(f': the record at byte {at} is of an unknown kind ({kind}) and left out')
        except (struct.error, IndexError) as error:
            self._note(f': the record at byte {at} is damaged ({error})')

    def _checksum(self, start: int, end: int) -> int:
        value = 0
        for at in range(start, end, 2**20):
            value = crc32(self._read(at, min(2**20, end - at)), value)
        return value

    def _message(self, number: int, received: int, at: int, size: int) -> None:
        """A message outside chunks."""
        if received > LATEST or size < 22:
            self._note(f': the message at byte {at} is damaged (time {received} ns, {size} bytes)')
            return
        last = self._blocks[-1] if self._blocks else None
        if last is None or 'places' not in last.extra or last.extra['bytes'] > _RUN:
            last = Block(at, received, received, {}, {'places': [], 'bytes': 0})
            self._blocks.append(last)
        assert last.counts is not None
        last.start, last.end = min(last.start, received), max(last.end, received)
        last.counts[number] = last.counts.get(number, 0) + 1
        last.extra['places'].append((received, number, at + _HEAD + 22, size - 22))
        last.extra['bytes'] += size

    def _chunk(self, at: int, size: int, limit: int, is_ended: bool) -> Block | None:
        """The block of a chunk; None if its head is damaged."""
        head = self._read(at + _HEAD, 32 + 64)
        try:
            start, end, unpacked_size, checksum = struct.unpack_from('<QQQI', head)
            compression, place = _text(head, 28)
            compressed = struct.unpack_from('<Q', head, place)[0]
        except (struct.error, ValueError):
            if is_ended:
                self._note(f': the chunk at byte {at} is damaged; its messages are left out')
            return None
        data_at = at + _HEAD + place + 8
        known = self._chunk_indexes.get(at)
        if known and known.about != (start, end, compression, compressed, unpacked_size):
            self._note(f': the chunk at byte {at} differs from its entry in the summary')
            # It does not matter which of the two is damaged: the entry has the position twice.
            if known.length == _HEAD + place + 8 + known.compressed:
                start, end, compression, compressed, unpacked_size = known.about
        elif not known and self._chunk_indexes:
            self._note(f': the summary does not have the chunk at byte {at}')
        if size != place + 8 + compressed:  # two of the three lengths are right
            self._note(f': the chunk at byte {at} has a wrong length' if is_ended or at + _HEAD + size <= limit else
                       ' was cut short: its end is missing')
            if known and known.length - _HEAD != size:
                size = known.length - _HEAD
        is_cut = data_at + compressed > limit
        if start > end or end > LATEST:
            start, end = 0, LATEST
        return Block(at, start, end, None, {
            'size': size, 'data': (data_at, min(compressed, limit - data_at)), 'is_cut': is_cut, 'checksum': checksum,
            'compression': compression, 'unpacked': unpacked_size, 'time': seconds(start, end)})

    # A chunk's messages.

    def _load(self, block: Block, wanted: Collection[int] | None) -> list[Entry]:
        """The messages of some channels, in the order of the file; None: of all."""
        if 'places' in block.extra:
            return [Entry(received, number, self._read(at, size)) for received, number, at, size
                    in block.extra['places'] if wanted is None or number in wanted]
        extra, where = block.extra, f': the chunk at byte {block.at} ({block.extra["time"]})'
        data, trouble = unpacked(extra['compression'], self._read(*extra['data']), extra['unpacked'])
        if extra['checksum'] and not extra['is_cut'] and crc32(data) != extra['checksum']:
            self._note(f'{where} is damaged: {trouble or "its checksum differs"}; its messages are left out')
            return []
        if trouble and not extra['is_cut']:
            self._note(f'{where} is damaged: {trouble}; messages are missing')
        entries, places, end = [], [], 0
        for at, kind, content in _records(data):
            end = at + _HEAD + len(content)
            if kind == MESSAGE and len(content) >= 22:
                number, _, received = struct.unpack_from('<HIQ', content)
                if received > LATEST:
                    self._note(f'{where}: the message at {at} in it has the time {received} ns; it is left out')
                elif wanted is None or number in wanted:
                    entries.append(Entry(received, number, content[22:]))
                    places.append((number, received, at))
            elif kind in (SCHEMA, CHANNEL):
                try:
                    self._keep(kind, bytes(content), f'the chunk at byte {block.at}')
                except (struct.error, IndexError, ValueError) as error:
                    self._note(f'{where}: the record at {at} in it is damaged ({error})')
            else:
                self._note(f'{where}: the record at {at} in it is damaged; it is left out')
        if end != len(data) and not extra['is_cut']:
            self._note(f'{where} is damaged: it ends within a message')
        if block.counts is not None:
            self._compare_index(block, wanted, places, where)
        return entries

    def _compare_index(self, block: Block, wanted: Collection[int] | None, places: list[tuple[int, int, int]],
                       where: str) -> None:
        expected = [(number, received, at) for number, place, length in block.extra['indexes']
                    if wanted is None or number in wanted
                    for received, at in struct.iter_unpack('<QQ', self._read(place, length))]
        if len(expected) != len(places):
            self._note(f'{where} holds {len(places)} messages, its index has {len(expected)}')
        elif wrong := sorted(set(places) - set(expected)):
            self._note(f'{where}: the message at {wrong[0][2]} in it has the time {wrong[0][1]} ns and the channel '
                       f'{wrong[0][0]}, its index differs')


def _records(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """(position, kind, content) of the complete records."""
    at, view = 0, memoryview(data)
    unpack = struct.Struct('<BQ').unpack_from
    while at + _HEAD <= len(data):
        kind, size = unpack(data, at)
        if at + _HEAD + size > len(data):
            return
        yield at, kind, view[at + _HEAD:at + _HEAD + size]
        at += _HEAD + size


def _text(record: bytes | memoryview, at: int) -> tuple[str, int]:
    """The string at a position, and the position after it. Raises ValueError if it is truncated."""
    size = struct.unpack_from('<I', record, at)[0]
    text = bytes(record[at + 4:at + 4 + size])
    if len(text) < size:
        raise ValueError('a string extends beyond the end of its record')
    return text.decode(errors='replace'), at + 4 + size
