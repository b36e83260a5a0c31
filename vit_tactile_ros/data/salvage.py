"""Messages out of bag files that their own readers refuse: cut short, never indexed, without metadata.

Each reader goes through a file from its beginning and yields what is whole, in the order of recording.
"""

from __future__ import annotations

import bz2
import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

MCAP_MAGIC, BAG1_MAGIC = b'\x89MCAP0\r\n', b'#ROSBAG V2.0\n'
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'


class Found(NamedTuple):
    """One message as it lies in the file."""

    topic: str
    msgtype: str  # sensor_msgs/msg/Image
    received: int  # ns, the bag's clock
    raw: bytes  # CDR, or ROS 1 serialisation in a .bag


def salvage(path: Path, problems: list[str]) -> Iterator[Found]:
    """The messages of a .mcap, .db3 or .bag file; what is wrong with it is appended to `problems`.

    Raises OSError where the file can't be opened.
    """
    readers = {'.mcap': _mcap, '.db3': _sqlite, '.bag': _bag1}
    messages = readers[path.suffix](path, problems)
    while True:
        try:
            found = next(messages)
        except StopIteration:
            return
        except (KeyError, IndexError, TypeError, ValueError, struct.error, MemoryError) as error:
            # Bytes that were changed in a place where nothing tells: names, lengths, kinds of records.
            _note(problems, f'{path} is damaged, {error!r}; what follows in it is left out')
            return
        if found.raw.startswith(ZSTD_MAGIC):  # of a bag compressed message by message; CDR begins with a zero
            try:
                found = found._replace(raw=zstd().decompress(found.raw))
            except Exception as error:  # zlib, struct, ...: whatever the library raises
                problems.append(f'{path}: a message of {found.topic} cannot be decompressed: {error}')
                continue
        yield found


def zstd() -> Any:
    """The standard library's zstd or, before Python 3.14, the package that rosbags brings along."""
    try:
        from compression import zstd as module
    except ImportError:
        from backports import zstd as module
    return module


def _note(problems: list[str], text: str) -> None:
    if text not in problems:
        problems.append(text)


# MCAP (https://mcap.dev/spec): records of an opcode, a length of 8 bytes and that much content.

def _mcap(path: Path, problems: list[str]) -> Iterator[Found]:
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, int]] = {}
    ended = False
    with path.open('rb') as file:
        if file.read(8) != MCAP_MAGIC:
            _note(problems, f'{path} does not begin as an MCAP file does')
            return
        for opcode, content, whole in _mcap_records(file):
            ended |= opcode in (0x02, 0x0F)  # footer, end of data
            if opcode == 0x06:
                # Into the chunk, and as far as it goes where it was cut.
                data, complete = _mcap_chunk(content)
                if whole and not complete:
                    _note(problems, f'{path}: a chunk is damaged; its messages are left out')
                inner = _records_of(data)
            elif whole:
                inner = iter([(opcode, content)])
            else:
                continue
            for code, record in inner:
                if code == 0x03:
                    name, _ = _text(record, 2)
                    schemas[struct.unpack_from('<H', record)[0]] = name
                elif code == 0x04:
                    number, schema = struct.unpack_from('<HH', record)
                    channels[number] = (_text(record, 4)[0], schema)
                elif code == 0x05 and len(record) >= 22:
                    number, _, received = struct.unpack_from('<HIQ', record)
                    if number in channels:
                        topic, schema = channels[number]
                        yield Found(topic, schemas.get(schema, ''), received, record[22:])
    if not ended:
        _note(problems, f'{path} was cut short: its end is missing')


def _mcap_records(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """(opcode, content, whether all of it is there)."""
    end = os.fstat(file.fileno()).st_size
    while len(head := file.read(9)) == 9:
        size = struct.unpack_from('<Q', head, 1)[0]
        content = file.read(min(size, end - file.tell()))  # a damaged length may say anything
        yield head[0], content, len(content) == size
        if len(content) < size:
            return


def _records_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 9 <= len(data):
        size = struct.unpack_from('<Q', data, at + 1)[0]
        if at + 9 + size > len(data):
            return
        yield data[at], data[at + 9:at + 9 + size]
        at += 9 + size


def _mcap_chunk(content: bytes) -> tuple[bytes, bool]:
    """The records in a chunk, and whether they are all there."""
    if len(content) < 32:
        return b'', False
    size = struct.unpack_from('<Q', content, 16)[0]
    compression, at = _text(content, 28)
    try:
        data = _unpacked(compression, content[at + 8:])
    except Exception:  # the libraries' own errors, for damaged data
        return b'', False
    return data, len(data) == size


def _unpacked(compression: str, data: bytes) -> bytes:
    """Decompressed, as far as it goes."""
    if compression in ('', 'none'):
        return data
    if compression == 'zstd':
        return bytes(zstd().ZstdDecompressor().decompress(data))
    if compression == 'lz4':
        from lz4.frame import LZ4FrameDecompressor
        return bytes(LZ4FrameDecompressor().decompress(data))
    if compression == 'bz2':
        return bz2.BZ2Decompressor().decompress(data)
    raise ValueError(f'compression {compression!r} is not known; must be none, zstd, lz4 or bz2')


def _text(record: bytes, at: int) -> tuple[str, int]:
    """The string at a place, and the place behind it."""
    size = struct.unpack_from('<I', record, at)[0]
    return record[at + 4:at + 4 + size].decode(errors='replace'), at + 4 + size


# ROS 1 (http://wiki.ros.org/Bags/Format/2.0): records of a header of name=value fields, and data.

def _bag1(path: Path, problems: list[str]) -> Iterator[Found]:
    topics: dict[int, tuple[str, str]] = {}
    with path.open('rb') as file:
        if file.readline() != BAG1_MAGIC:
            _note(problems, f'{path} does not begin as a bag of ROS 1 does')
            return
        size = path.stat().st_size
        while file.tell() < size:
            header, data, whole = _bag1_record(file)
            operation = header.get('op', b'\0')[0]
            if operation == 0x03 and struct.unpack('<Q', header['index_pos'])[0] == 0:
                _note(problems, f'{path} was never indexed: its recorder was killed')
            records = [(header, data)]
            if operation == 0x05:
                try:
                    records = _bag1_records_of(_unpacked(header['compression'].decode(), data))
                except Exception:  # the libraries' own errors, for damaged data
                    _note(problems, f'{path}: a chunk is damaged; its messages are left out')
            elif not whole:
                records = []
            for fields, body in records:
                code = fields.get('op', b'\0')[0]
                if code == 0x07:
                    about, _ = _bag1_fields(body)
                    kind = about['type'].decode()
                    kind = kind if '/msg/' in kind else '/msg/'.join(kind.split('/', 1))
                    topics[struct.unpack('<I', fields['conn'])[0]] = (fields['topic'].decode(), kind)
                elif code == 0x02:
                    seconds, nanoseconds = struct.unpack('<II', fields['time'])
                    topic, kind = topics.get(struct.unpack('<I', fields['conn'])[0], ('', ''))
                    if topic:
                        yield Found(topic, kind, seconds * 10**9 + nanoseconds, body)
            if not whole:
                _note(problems, f'{path} was cut short: its end is missing')
                return


def _bag1_record(file: BinaryIO) -> tuple[dict[str, bytes], bytes, bool]:
    header, size = {}, 0
    length = file.read(4)
    if len(length) == 4:
        text = file.read(struct.unpack('<I', length)[0])
        behind = file.read(4)
        if len(behind) == 4:
            header, size = _bag1_fields(text)[0], struct.unpack('<I', behind)[0]
            data = file.read(size)
            return header, data, len(data) == size
    return header, b'', False


def _bag1_records_of(data: bytes) -> list[tuple[dict[str, bytes], bytes]]:
    records, at = [], 0
    while at + 4 <= len(data):
        start = at + 4 + struct.unpack_from('<I', data, at)[0]
        if start + 4 > len(data):
            break
        end = start + 4 + struct.unpack_from('<I', data, start)[0]
        if end > len(data):
            break
        records.append((_bag1_fields(data[at + 4:start])[0], data[start + 4:end]))
        at = end
    return records


def _bag1_fields(header: bytes) -> tuple[dict[str, bytes], int]:
    fields, at = {}, 0
    while at + 4 <= len(header):
        size = struct.unpack_from('<I', header, at)[0]
        name, _, value = header[at + 4:at + 4 + size].partition(b'=')
        fields[name.decode(errors='replace')] = value
        at += 4 + size
    return fields, at


# rosbag2's SQLite: read-only, so that the log of a killed recorder (-wal) beside it counts and nothing is changed.

def _sqlite(path: Path, problems: list[str]) -> Iterator[Found]:
    try:
        database = sqlite3.connect(f'{path.absolute().as_uri()}?mode=ro', uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        _note(problems, f'{path} cannot be opened: {error}')
        return
    try:
        database.execute('PRAGMA writable_schema=ON')  # or a file shorter than it says would be refused as a whole
        topics = {number: (name, kind) for number, name, kind in database.execute('SELECT id, name, type FROM topics')}
        for number, received, data in database.execute('SELECT topic_id, timestamp, data FROM messages ORDER BY id'):
            if number in topics:
                yield Found(*topics[number], received, bytes(data))
    except sqlite3.Error as error:
        _note(problems, f'{path} is damaged or was cut short: {error}')
    finally:
        database.close()
