"""Bags of ROS 1 (http://wiki.ros.org/Bags/Format/2.0): whole, truncated, never indexed, or damaged.

The headers of the records are read once; a chunk is unpacked when its messages are needed. The index after each
chunk and the one at the end of the file are compared with what is found. The format has no checksums.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

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

MAGIC = b'#ROSBAG V2.0\n'
MESSAGE, BAG, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 4, 5, 6, 7
_LARGEST_HEADER = 2**20  # bytes
Fields = dict[str, bytes]


class _Connection(NamedTuple):
    topic: str
    msgtype: str
    definition: str
    md5: str


class _Info(NamedTuple):
    """A chunk according to the index at the end of the file."""

    start: int
    end: int
    counts: dict[int, int]


class _Damaged(ValueError):
    """A record that can't be read, with the reason."""


class Bag1File(BlockFile):
    """One bag of ROS 1."""

    def __init__(self, path: Path, problems: Problems, shown: Path | None = None) -> None:
        self._connections: dict[int, _Connection] = {}
        self._infos: dict[int, _Info] = {}  # by the chunk's place
        self._index_at = 0
        super().__init__(path, problems, shown)

    def messages(self, topics: Collection[str], start: int | None, stop: int | None) -> Iterator[Found]:
        return self._messages(self._connections, topics, start, stop)

    def _topic_of(self, number: int) -> tuple[str, str]:
        return self._connections[number].topic, self._connections[number].msgtype

    def _survey(self) -> None:
        if self._read(0, len(MAGIC)) != MAGIC:
            self._note(' does not begin like a ROS 1 bag')
            if b'ROSBAG' not in self._read(0, len(MAGIC)):
                return
        self._read_end()
        self._walk()
        counts = self._count(self._connections, is_complete=True)
        self._note_unknown(counts, self._connections, 'connection')
        self.topics = topics_of((c.topic, c.msgtype, counts[number], c.definition, c.md5)
                                for number, c in self._connections.items())

    # The index at the end: connections, and the chunks with their times and counts.

    def _read_end(self) -> None:
        at = len(MAGIC)
        try:
            fields, data_at, size = self._header(at)
            if fields.get('op') != bytes([BAG]):
                raise _Damaged('it is not a bag header')
            self._index_at = struct.unpack('<Q', fields['index_pos'])[0]
            connections, chunks = (struct.unpack('<I', fields[name])[0] for name in ('conn_count', 'chunk_count'))
        except (_Damaged, KeyError, struct.error) as error:
            self._note(f': its header is damaged ({error})')
            return
        if not self._index_at:
            self._note(' was never indexed: its recorder was killed')
            return
        if not data_at + size <= self._index_at <= self._size:
            self._note(' was cut short: its end is missing' if self._index_at > self._size else
                       f': its header is damaged: the index would begin at byte {self._index_at}')
            self._index_at = 0
            return
        found: Counter[int] = Counter()
        at = self._index_at
        while at < self._size:
            try:
                fields, data_at, size = self._header(at)
                kind = fields['op'][0]
                if kind == CONNECTION:
                    self._keep(fields, self._read(data_at, size), 'its index')
                elif kind == CHUNK_INFO:
                    number = struct.unpack('<I', fields['count'])[0]
                    if size != 8 * number:
                        raise _Damaged(f'{size} bytes for {number} connections')
                    self._infos[struct.unpack('<Q', fields['chunk_pos'])[0]] = _Info(
                        _time(fields['start_time']), _time(fields['end_time']),
                        dict(struct.iter_unpack('<II', self._read(data_at, size))))
                else:
                    raise _Damaged(f'kind {kind}')
            except (_Damaged, KeyError, IndexError, struct.error) as error:
                self._note(f': its index is damaged at byte {at} ({error})')
                return
            found[kind] += 1
            at = data_at + size
        for what, kind, expected in (('connections', CONNECTION, connections), ('chunks', CHUNK_INFO, chunks)):
            if found[kind] != expected:
                self._note(f': its index holds {found[kind]} {what}, its header gives {expected}')

    def _keep(self, fields: Fields, data: bytes, where: str) -> None:
        """A connection; the first copy counts, and later ones must equal it."""
        about = _fields(data)
        kind = about['type'].decode(errors='replace')
        kind = kind if '/msg/' in kind else '/msg/'.join(kind.split('/', 1))
        # As in rosbags: without double slashes.
        topic = fields['topic'].decode(errors='replace')
        topic = '/' * topic.startswith('/') + '/'.join(part for part in topic.split('/') if part)
        connection = _Connection(topic, kind, about['message_definition'].decode(errors='replace'),
                                 about['md5sum'].decode(errors='replace'))
        number = struct.unpack('<I', fields['conn'])[0]
        if self._connections.setdefault(number, connection) != connection:
            self._note(f': the topic {topic} in {where} differs from its other copy, {self._connections[number].topic}')

    def _header(self, at: int) -> tuple[Fields, int, int]:
        """The fields of the record at a position, the place of its data, and its claimed size."""
        length = self._read(at, 4)
        size = struct.unpack('<I', length)[0] if len(length) == 4 else 0
        text = self._read(at + 4, size + 4) if size <= _LARGEST_HEADER else b''
        if len(text) < size + 4 or not size:
            raise _Damaged('cut short' if at + 8 + size > self._size else f'a header of {size} bytes')
        return _fields(text[:-4]), at + 8 + size, struct.unpack('<I', text[-4:])[0]

    # The chunks. After a damaged record, reading resumes at the next chunk of the index.

    def _walk(self) -> None:
        chunks = sorted(place for place in self._infos if len(MAGIC) <= place < self._size)
        end = self._index_at or self._size
        at, last, seen = len(MAGIC), None, set()
        while at < end:
            after = bisect_right(chunks, at)
            limit = chunks[after] if after < len(chunks) else end
            try:
                fields, data_at, size = self._header(at)
                kind = fields['op'][0]
                if at in self._infos and kind != CHUNK:
                    raise _Damaged(f'kind {kind}, and should be a chunk')
                if data_at + size > limit and not (kind == CHUNK and not self._index_at):
                    raise _Damaged(f'{size} bytes')
                if kind == CHUNK:
                    last = self._chunk(at, fields, data_at, size, limit)
                    seen.add(at)
                elif kind == INDEX:
                    self._index(at, fields, data_at, size, last)
                elif kind == CONNECTION:  # of a bag that was never indexed
                    self._keep(fields, self._read(data_at, size), f'byte {at}')
                elif kind not in (BAG, CHUNK_INFO):
                    raise _Damaged(f'kind {kind}')
            except (_Damaged, KeyError, IndexError, struct.error) as error:
                self._note(': was cut short: its end is missing' if str(error) == 'cut short' else
                           f': the record at byte {at} is damaged ({error}); messages are missing')
                at = limit
                continue
            if data_at + size > limit:
                self._note(' was cut short: its end is missing')
            at = data_at + size
        for place in sorted(set(chunks) - seen):
            self._note(f': the chunk at byte {place} is damaged; its messages are left out')
        for block in self._blocks:
            info = self._infos.get(block.at)
            if info is None:
                if self._infos:
                    self._note(f': its index does not have the chunk at byte {block.at}')
                continue
            if block.counts != info.counts:
                self._note(f': the chunk at byte {block.at} has {block.counts or "no"} messages in the index behind '
                           f'it, {info.counts} in the one at the end')
            if block.counts is None:
                continue
            if (block.start, block.end) != (info.start, info.end):
                self._note(f': the chunk at byte {block.at} lies at {seconds(block.start, block.end)} by the index '
                           f'behind it, at {seconds(info.start, info.end)} by the one at the end')
                block.start, block.end = min(block.start, info.start), max(block.end, info.end)

    def _chunk(self, at: int, fields: Fields, data_at: int, size: int, limit: int) -> Block:
        self._blocks.append(Block(at, 0, LATEST, None, {
            'data': (data_at, min(size, limit - data_at)), 'is_cut': data_at + size > limit,
            'compression': fields['compression'].decode(errors='replace'),
            'unpacked': struct.unpack('<I', fields['size'])[0], 'index': []}))
        return self._blocks[-1]

    def _index(self, at: int, fields: Fields, data_at: int, size: int, last: Block | None) -> None:
        number, messages = (struct.unpack('<I', fields[name])[0] for name in ('conn', 'count'))
        if last is None or size != 12 * messages:
            raise _Damaged(f'an index of {size} bytes for {messages} messages')
        if not messages:
            return
        times = [s * 10**9 + ns for s, ns, _ in struct.iter_unpack('<III', self._read(data_at, size))]
        is_first = last.counts is None
        last.counts = last.counts or {}
        last.counts[number] = last.counts.get(number, 0) + messages
        last.start = min(times) if is_first else min(last.start, *times)
        last.end = max(times) if is_first else max(last.end, *times)
        last.extra['index'].append((number, data_at, size))

    def _load(self, block: Block, wanted: Collection[int] | None) -> list[Entry]:
        """The messages of some connections, in the order of the file; None: of all."""
        extra = block.extra
        time = extra.setdefault('time', f' ({seconds(block.start, block.end)})' if block.counts else '')
        where = f': the chunk at byte {block.at}{time}'
        data, trouble = unpacked(extra['compression'], self._read(*extra['data']), extra['unpacked'])
        if trouble and not extra['is_cut']:
            self._note(f'{where} is damaged: {trouble}; messages are missing')
        entries, places, end, view = [], [], 0, memoryview(data)
        try:
            for at, fields, start, end in _records(data):
                kind = fields['op'][0]
                if kind == CONNECTION:
                    self._keep(fields, data[start:end], f'the chunk at byte {block.at}')
                elif kind == MESSAGE:
                    number, received = struct.unpack('<I', fields['conn'])[0], _time(fields['time'])
                    if wanted is None or number in wanted:
                        entries.append(Entry(received, number, view[start:end]))
                        places.append((number, received, at))
                else:
                    self._note(f'{where}: the record at {at} in it is of kind {kind}; it is left out')
        except (_Damaged, KeyError, IndexError, struct.error) as error:
            self._note(f'{where} is damaged after {end} bytes: {error!r}; messages are missing')
        else:
            if end != len(data) and not trouble and not extra['is_cut']:
                self._note(f'{where} is damaged: it ends within a message')
        if block.counts is not None:
            self._compare_index(block, wanted, places, where)
        return entries

    def _compare_index(self, block: Block, wanted: Collection[int] | None, places: list[tuple[int, int, int]],
                       where: str) -> None:
        # Without the positions: those in an index may be of the connection before a message.
        expected = [(number, s * 10**9 + ns) for number, place, size in block.extra['index']
                    if wanted is None or number in wanted
                    for s, ns, _ in struct.iter_unpack('<III', self._read(place, size))]
        if len(expected) != len(places):
            self._note(f'{where} holds {len(places)} messages, its index has {len(expected)}')
        elif wrong := sorted((Counter(place[:2] for place in places) - Counter(expected)).elements()):
            self._note(f'{where}: a message in it has the time {wrong[0][1]} ns or the connection {wrong[0][0]}, its '
                       'index differs')


def _records(data: bytes) -> Iterator[tuple[int, Fields, int, int]]:
    """(position, fields, start and end of its data) of the complete records."""
    at = 0
    while at + 8 <= len(data):
        start = at + 4 + struct.unpack_from('<I', data, at)[0] + 4
        if start > len(data):
            return
        end = start + struct.unpack_from('<I', data, start - 4)[0]
        if end > len(data):
            return
        yield at, _fields(data[at + 4:start - 4]), start, end
        at = end


def _fields(header: bytes) -> Fields:
    """Raises _Damaged for bytes that are not a list of fields."""
    fields, at = {}, 0
    while at < len(header):
        size = struct.unpack_from('<I', header, at)[0] if at + 4 <= len(header) else len(header)
        name, equals, value = header[at + 4:at + 4 + size].partition(b'=')
        if not equals or at + 4 + size > len(header):
            raise _Damaged('a header that is not a list of fields')
        fields[name.decode(errors='replace')] = value
        at += 4 + size
    return fields


def _time(field: bytes) -> int:
    s, ns = struct.unpack('<II', field)
    return int(s) * 10**9 + int(ns)
