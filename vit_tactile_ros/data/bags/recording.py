"""One recording as a stream: bags of every kind, split, compressed or damaged, message by message."""

from __future__ import annotations

import contextlib
import errno
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from vit_tactile_ros.data.bags.bag1 import Bag1File
from vit_tactile_ros.data.bags.find import WHAT_IS_A_BAG, bag_files, is_recording
from vit_tactile_ros.data.bags.mcap import McapFile
from vit_tactile_ros.data.bags.metadata import Metadata, read_metadata
from vit_tactile_ros.data.bags.sqlite import SqliteFile
from vit_tactile_ros.data.bags.storage import (
    LATEST,
    ZSTD_MAGIC,
    Found,
    Problems,
    StorageFile,
    Topic,
    topics_of,
    unpacked,
    zstd,
)
from vit_tactile_ros.data.bags.types import MessageTypes, check_rosbags
from vit_tactile_ros.data.table import DataError

_STORAGES: dict[str, type[McapFile] | type[SqliteFile] | type[Bag1File]] = {
    '.mcap': McapFile, '.db3': SqliteFile, '.bag': Bag1File}
_LEAST_FREE = 2**28  # bytes of the disk that are left free when a file is unpacked
_CHECKED_EVERY = 2**26  # bytes written between two looks at the free space
# Exceptions caused by changed bytes that no checksum covers: in names, lengths, kinds of records.
_DAMAGE = (ArithmeticError, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError, struct.error)


class Recording:
    """An open bag; of a damaged one whatever can be read. Use it as a context manager.

    Memory holds one message (or chunk of the file) at a time. A bag compressed as whole files is unpacked to the
    temporary folder first.
    """

    def __init__(self, path: Path) -> None:
        """Raises DataError for a path without a bag, MissingPackageError if rosbags is not installed."""
        self.path = path
        self.notes: list[str] = []  # what is unusual but loses no message
        self.problems = Problems()  # what is damaged: messages may be missing or changed
        self.connections: list[Topic] = []
        self.start, self.end = LATEST, 0  # ns; of the first message, and after the last one
        self._stack = contextlib.ExitStack()
        self._storages: list[tuple[Path, StorageFile]] = []
        self._types: MessageTypes | None = None
        self._is_compressed = False  # each message by itself, according to the metadata
        if not path.exists():
            raise DataError(f'{path} does not exist; {WHAT_IS_A_BAG}')
        if not is_recording(path):
            raise DataError(f'{path} is not a bag; {WHAT_IS_A_BAG}')
        check_rosbags(path)

    def __enter__(self) -> Recording:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        metadata = None
        files = [self.path]
        if self.path.is_dir():
            metadata = self._metadata()
            files = self._files(metadata)
        for file in files:
            self._open_file(file)
        for _, storage in self._storages:
            self.start, self.end = min(self.start, storage.start), max(self.end, storage.end)
        self.connections = topics_of((*topic[:4], topic.digest or (metadata.digests.get(topic.msgtype, '') if metadata
                                                                  else ''))
                                     for _, storage in self._storages for topic in storage.topics)
        if not sum(topic.msgcount for topic in self.connections):
            self.problems.note(f'{self.path}: no message can be read')
        if metadata is None and len(files) == 1 and self.connections:
            metadata = self._metadata_in(*self._storages[0])
        if metadata is not None:
            self._is_compressed = metadata.is_compressed
            self._compare(metadata)

    def _metadata(self) -> Metadata | None:
        try:
            metadata = read_metadata(self.path)
        except ValueError as error:
            self.problems.note(f'{error}; the files are read one after another')
            return None
        if metadata is None:
            self.notes.append(f'{self.path} has no metadata.yaml; its files are read one after another')
        return metadata

    def _metadata_in(self, file: Path, storage: StorageFile) -> Metadata | None:
        """Of one file that is the whole recording; a killed recorder has written none, or one without messages."""
        if not isinstance(storage, SqliteFile):
            return None
        try:
            metadata = storage.metadata()
        except ValueError as error:
            self.problems.note(f'{file}: its metadata is damaged: {error}')
            return None
        return metadata if metadata and len(metadata.files) == 1 and any(metadata.counts.values()) else None

    def _files(self, metadata: Metadata | None) -> list[Path]:
        files = bag_files(self.path)
        if metadata is None:
            return files
        named = [self.path / name for name in metadata.files]
        if missing := [file.name for file in named if file not in files]:
            self.problems.note(f'{self.path}: metadata.yaml names {", ".join(missing)}, which is not there')
        if unlisted := [file.name for file in files if file not in named]:
            self.problems.note(f'{self.path}: metadata.yaml does not name {", ".join(unlisted)}; left out')
        return [file for file in named if file in files]

    def _open_file(self, file: Path) -> None:
        try:
            path = self._unpacked(file) if file.suffix == '.zstd' else file
            storage = _STORAGES[path.suffix](path, self.problems, file)
        except _DAMAGE as error:
            self.problems.note(f'{file} cannot be read: {_reason(error)}; it is left out')
            return
        self._stack.callback(storage.close)
        self._storages.append((file, storage))

    def _unpacked(self, file: Path) -> Path:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix='vit_tactile_replay_')))
        with zstd().open(file) as source, (folder / file.stem).open('wb') as target:
            checked = 0
            try:
                while piece := source.read(2**16):  # of a file that was cut short, what comes before the cut is kept
                    target.write(piece)
                    if target.tell() - checked > _CHECKED_EVERY:  # a small file may unpack to any size
                        checked = target.tell()
                        if shutil.disk_usage(folder).free < _LEAST_FREE:
                            raise OSError(errno.ENOSPC, f'unpacked, it would fill the disk of {folder}')
            except OSError:
                raise  # for instance the disk is full
            except Exception as error:  # errors of the library; what was read before them is kept
                self.problems.note(f'{file} is damaged or was cut short: {error}')
        return folder / file.stem

    def _compare(self, metadata: Metadata) -> None:
        """Compare the recorder's counts with what is there."""
        found = Counter({(topic.topic, topic.msgtype): topic.msgcount for topic in self.connections})
        for topic, kind in sorted(found.keys() | metadata.counts.keys()):
            expected = metadata.counts.get((topic, kind), 0)
            if found[topic, kind] != expected:
                self.problems.note(f'{self.path}: {found[topic, kind]} messages of {topic} ({kind}) are found, its '
                                   f'metadata count {expected}')
        if metadata.start is not None and self.end and abs(metadata.start - self.start) > 10**9:
            self.notes.append(f'{self.path}: its first message is of {self.start / 1e9:.3f} s, by its metadata it '
                              f'starts at {metadata.start / 1e9:.3f} s')

    def messages(self, topics: Collection[str], start: int | None = None, stop: int | None = None) -> Iterator[Found]:
        """Those of some topics with start <= received < stop (ns), in the order of recording.

        Damage goes to `problems`; reading resumes after it.
        """
        held = {connection.topic for connection in self.connections}
        for topic in sorted(set(topics) - held):
            self.problems.note(f'{self.path}: no topic {topic}; it has {", ".join(sorted(held)) or "none"}')
        problems, counts = len(self.problems), Counter[str]()
        for file, storage in self._storages:
            messages = storage.messages(topics, start, stop)
            while True:
                try:
                    found = next(messages)
                except StopIteration:
                    break
                except _DAMAGE as error:
                    self.problems.note(f'{file} is damaged: {_reason(error)}; what follows in it is left out')
                    break
                if self._is_compressed or found.raw.startswith(ZSTD_MAGIC):  # CDR begins with a zero
                    raw, trouble = unpacked('zstd', found.raw)
                    if trouble:
                        self.problems.note(f'{file}: the message of {found.topic} at {found.received} ns is damaged: '
                                           f'{trouble}; it is left out')
                        continue
                    found = found._replace(raw=raw)
                counts[found.topic] += 1
                yield found
        if start is None and stop is None and len(self.problems) == problems:  # no other problem reports a loss
            for topic in topics:
                expected = sum(c.msgcount for c in self.connections if c.topic == topic)
                if counts[topic] != expected:
                    self.problems.note(f'{self.path}: {counts[topic]} of {expected} messages of {topic} are read')

    def deserialise(self, found: Found) -> Any:
        """The message. Raises DataError for one that can't be read, or whose type is unknown or was changed."""
        if self._types is None:
            self._types = MessageTypes(self.connections, isinstance(self._storages[0][1], Bag1File))
        known = len(self._types.problems)
        try:
            return self._types.deserialise(found)
        finally:
            for problem in self._types.problems[known:]:
                self.problems.note(f'{self.path}: {problem}')


def stamp_of(message: Any, found: Found) -> int:
    """ns; of the header, or of the bag's clock if the header has none."""
    at = message.header.stamp
    return int(at.sec) * 10**9 + int(at.nanosec) or found.received


def _reason(error: Exception) -> str:
    return f'{error.strerror}' if isinstance(error, OSError) and error.strerror else repr(error)
