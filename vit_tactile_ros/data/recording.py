"""One recording as a stream: bags of every kind, split, compressed or damaged, message by message."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vit_tactile_ros.data.bags import message_types, open_bag
from vit_tactile_ros.data.salvage import ZSTD_MAGIC, Found, salvage, zstd
from vit_tactile_ros.data.table import DataError

_FILES = ('.bag', '.mcap', '.db3')


class Topic(NamedTuple):
    """What a recording holds on one topic."""

    topic: str
    msgtype: str
    msgcount: int


class Recording:
    """A bag that is open; of a damaged one what can be read. Use it as a context manager.

    Memory holds one message (or chunk of the file) at a time. A bag compressed as whole files is unpacked to the
    temporary folder first.
    """

    def __init__(self, path: Path, by_record: bool = False) -> None:
        """by_record: do without the index. Raises DataError for a path where no bag lies."""
        self.path = path
        self.notes: list[str] = []  # what is unusual, but costs no message
        self.problems: list[str] = []  # what is damaged: messages may be missing
        self._stack = contextlib.ExitStack()
        self._readers: list[Any] = []  # of rosbags, one after another
        self._salvaged: list[Path] = []  # files that are read record by record
        self._types: Any = None
        if not path.exists():
            raise DataError(f'{path} does not exist')
        if not is_recording(path):
            raise DataError(f'{path} is no bag; must be a .bag, .mcap or .db3 file, or a folder with such files')
        self._files = [path] if path.is_file() else _bag_files(path)
        self._by_record = by_record
        self._is_ros1 = bool(self._files) and self._files[0].suffix == '.bag'

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
        logs = [file for file in self._files if (log := file.with_name(file.name + '-wal')).is_file()
                and log.stat().st_size]
        if logs:  # the library reads past it
            self.problems.append(f'{self.path}: its recorder was killed: {logs[0].name}-wal lies beside it')
        if logs or self._by_record:
            self._files = self._unpacked(self._files)
            self._salvaged = self._files
        else:
            try:
                self._readers = [self._stack.enter_context(open_bag(self.path))]
                if self.path.is_dir():
                    self._look_for_unlisted()
            except DataError as error:
                self._open_files(error)
        self._survey()

    def _look_for_unlisted(self) -> None:
        text = (self.path / 'metadata.yaml').read_text(errors='replace')
        if unlisted := [file.name for file in self._files if file.name not in text]:
            self.problems.append(f'{self.path}: metadata.yaml does not name {", ".join(unlisted)}; left out')

    def _open_files(self, error: DataError) -> None:
        """File by file: without metadata, or with some of them damaged."""
        if self.path.is_dir() and not (self.path / 'metadata.yaml').exists():
            self.notes.append(f'{self.path} has no metadata.yaml; its files are read one after another')
        else:
            self.notes.append(f'{error}; read record by record')
        self._files = self._unpacked(self._files)
        readers = []
        for file in self._files:
            try:
                readers.append(self._stack.enter_context(open_bag(file)))
            except DataError:
                self._salvaged = self._files  # all, so that the order of the files stays
                return
        self._readers = readers

    def _unpacked(self, files: Sequence[Path]) -> list[Path]:
        unpacked = []
        for file in files:
            if file.suffix == '.zstd':
                folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix='vit_tactile_replay_')))
                with zstd().open(file) as source, (folder / file.stem).open('wb') as target:
                    try:
                        shutil.copyfileobj(source, target)
                    except Exception as error:  # the library's own errors; what came before them is there
                        self.problems.append(f'{file} is damaged or was cut short: {error}')
                file = folder / file.stem
            unpacked.append(file)
        return unpacked

    def _survey(self) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        self.start, self.end = 2**63 - 1, 0  # ns; of the first message, behind the last one
        if self._salvaged:
            for found in self._salvage_all():
                counts[found.topic, found.msgtype] += 1
                self.start, self.end = min(self.start, found.received), max(self.end, found.received + 1)
        for reader in self._readers:
            for connection in reader.connections:
                counts[connection.topic, connection.msgtype] += connection.msgcount
            self.start, self.end = min(self.start, reader.start_time), max(self.end, reader.end_time)
        self.connections = [Topic(topic, kind, count) for (topic, kind), count in counts.items()]
        if not sum(counts.values()):
            self.problems += [note for note in self.notes if note not in self.problems]
            self.problems.append(f'{self.path}: no message can be read')

    def messages(self, topics: Collection[str], start: int | None = None, stop: int | None = None) -> Iterator[Found]:
        """Those of some topics with start <= received < stop (ns), in the order of recording.

        Damage that is met on the way goes to `problems`; what lies behind it is still looked for.
        """
        delivered: set[tuple[str, int]] = set()
        try:
            for found in self._salvage_all() if self._salvaged else self._read(topics, start, stop):
                if found.topic in topics and (start is None or found.received >= start) and (
                        stop is None or found.received < stop):
                    delivered.add((found.topic, found.received))
                    yield found
        except DataError as error:
            self.problems.append(str(error))
            with Recording(self.path, by_record=True) as rest:
                for found in rest.messages(topics, start, stop):
                    if (found.topic, found.received) not in delivered:
                        yield found
                self.problems += [problem for problem in rest.problems if problem not in self.problems]

    def _salvage_all(self) -> Iterator[Found]:
        for file in self._salvaged:
            yield from salvage(file, self.problems)

    def _read(self, topics: Collection[str], start: int | None, stop: int | None) -> Iterator[Found]:
        for reader in self._readers:
            connections = [c for c in reader.connections if c.topic in topics]
            if not connections:  # for the library none means all
                continue
            try:
                for connection, received, raw in reader.messages(connections, start=start, stop=stop):
                    if raw[:4] == ZSTD_MAGIC:  # compressed by message, and no metadata to say so
                        raw = zstd().decompress(raw)
                    yield Found(connection.topic, connection.msgtype, received, raw)
            except GeneratorExit:
                raise
            except Exception as error:  # whatever the storage's own library raises
                raise DataError(f'{self.path} is damaged: {error}') from error

    def deserialise(self, found: Found) -> Any:
        """The message. Raises DataError for one that can't be read, or a type that is not known."""
        try:
            if self._readers:
                return self._readers[0].deserialize(found.raw, found.msgtype)
            if self._types is None:
                self._types = message_types(self._is_ros1)
            read = self._types.deserialize_ros1 if self._is_ros1 else self._types.deserialize_cdr
            return read(found.raw, found.msgtype)
        except Exception as error:  # as above
            raise DataError(f'a message of {found.topic} ({found.msgtype}) cannot be read: {error!r}') from error


def stamp_of(message: Any, found: Found) -> int:
    """ns; the header's, or the bag's clock where the header has none."""
    at = message.header.stamp
    return int(at.sec) * 10**9 + int(at.nanosec) or found.received


def is_recording(path: Path) -> bool:
    """Whether a bag lies there, perhaps a damaged one."""
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or any(file.suffix != '.bag' for file in _bag_files(path))
    return path.suffix in _FILES or (path.suffix == '.zstd' and Path(path.stem).suffix in _FILES)


def find_recordings(paths: Iterable[Path]) -> list[Path]:
    """The bags at `paths`, each one or a folder (of folders) of them; DataError where there is none."""
    found: list[Path] = []
    for path in paths:
        here = [path] if not path.is_dir() or is_recording(path) else _below(path)
        if not here:
            raise DataError(f'{path} holds no bag; a bag is a .bag, .mcap or .db3 file, or a folder with such files')
        found += here
    return list(dict.fromkeys(found))


def _below(folder: Path) -> list[Path]:
    return [bag for child in sorted(folder.iterdir(), key=_natural)
            for bag in ([child] if is_recording(child) else _below(child) if child.is_dir() else [])]


def unique_names(bags: Sequence[Path]) -> list[str]:
    """A short name for each: the stem, where two are alike the whole name or with as many folders as it takes."""
    names = [bag.stem for bag in bags]
    depth = 1
    while len(set(names)) < len(names) and depth < 20:
        twice = Counter(names)
        names = ['/'.join(bag.absolute().parts[-depth:]) if twice[name] > 1 else name
                 for name, bag in zip(names, bags, strict=True)]
        depth += 1
    return names


def _bag_files(folder: Path) -> list[Path]:
    return sorted((file for file in folder.iterdir() if file.is_file() and (
        file.suffix in _FILES or (file.suffix == '.zstd' and Path(file.stem).suffix in _FILES))), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """touch_2 before touch_10."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', path.name)]
