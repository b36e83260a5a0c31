"""rosbag2's SQLite files, of every schema version: whole, damaged, or with the log of a killed recorder.

Opened read-only, so that the log (-wal) next to the file is used and nothing is changed. SQLite has no checksums: a
changed byte within a message is not noticed. Its columns hold values of any type, so each value is checked.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

from vit_tactile_ros.data.bags.metadata import Metadata, parse_metadata
from vit_tactile_ros.data.bags.storage import LATEST, Found, Problems, Topic, topics_of

_FAILURES = 100  # consecutive rows that can't be read before reading stops
_SELECT = 'SELECT id, topic_id, timestamp, data FROM messages'


class SqliteFile:
    """One .db3 file; see `storage.StorageFile`."""

    def __init__(self, path: Path, problems: Problems, shown: Path | None = None) -> None:
        """`shown` is the path in messages if `path` is a temporary copy."""
        self._path, self._problems, self._shown = path, problems, shown or path
        self.topics: list[Topic] = []
        self.start, self.end = LATEST, 0
        self._topics: dict[int, tuple[str, str]] = {}  # topic and type
        self._counts: Counter[int] = Counter()
        try:
            self._database = self._connect()
        except sqlite3.Error as error:
            raise OSError(None, str(error), str(self._shown)) from error
        try:
            self._survey()
        except sqlite3.Error as error:
            self._note(f' is damaged or was cut short: {error}')
        except BaseException:
            self._database.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        log = self._path.with_name(self._path.name + '-wal')
        has_log = log.is_file() and log.stat().st_size > 0
        if has_log:
            self._note(f': its recorder was killed: {log.name} is next to it')
        # Without a log, immutable: otherwise SQLite would write next to the file.
        for mode in ('mode=ro', 'immutable=1') if has_log else ('immutable=1',):
            database = sqlite3.connect(f'{self._path.absolute().as_uri()}?{mode}', uri=True, check_same_thread=False)
            # A text that is not UTF-8 is damage, but not a reason to stop.
            database.text_factory = lambda data: data.decode(errors='replace')
            try:
                # Otherwise a file shorter than its header claims would be refused as a whole.
                database.execute('PRAGMA writable_schema=ON')
                database.execute('SELECT count(*) FROM sqlite_master').fetchall()
            except sqlite3.OperationalError as error:  # a folder that can't be written to
                if mode == 'mode=ro':
                    self._note(f': {log.name} cannot be read ({error}); what is only in it is missing')
                    database.close()
                    continue
            except sqlite3.Error:
                pass  # the survey reports it
            break
        return database

    def close(self) -> None:
        self._database.close()

    def _note(self, text: str) -> None:
        self._problems.note(f'{self._shown}{text}')

    def _rows(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        with closing(self._database.execute(sql, values)) as rows:
            yield from rows

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._rows(f'PRAGMA table_info({table})')}

    def _survey(self) -> None:
        for table, needed in (('topics', {'id', 'name', 'type'}),
                              ('messages', {'id', 'topic_id', 'timestamp', 'data'})):
            columns = self._columns(table)
            if not needed <= columns:
                self._note(f' has no table {table!r}' if not columns else
                           f': its table {table!r} has no column {", ".join(sorted(needed - columns))}')
                return
        definitions = self._definitions()
        digest = 'type_description_hash' if 'type_description_hash' in self._columns('topics') else "''"
        about = {}
        for number, topic, kind, digest_of_type in self._rows(f'SELECT id, name, type, {digest} FROM topics'):
            if not (isinstance(topic, str) and isinstance(kind, str)):
                self._note(f': topic {number} is damaged: its name is {topic!r} and its type {kind!r}')
                continue
            self._topics[number] = topic, kind
            about[number] = definitions.get(kind, ''), digest_of_type if isinstance(digest_of_type, str) else ''
        self._count()
        self.topics = topics_of((*self._topics[number], self._counts[number], *about[number])
                                for number in self._topics)

    def _definitions(self) -> dict[str, str]:
        needed = {'topic_type', 'encoded_message_definition'}
        if not needed <= self._columns('message_definitions'):
            return {}
        return {kind: text for kind, text in
                self._rows('SELECT topic_type, encoded_message_definition FROM message_definitions')
                if isinstance(kind, str) and isinstance(text, str)}

    def metadata(self) -> Metadata | None:
        """As the recorder wrote them into the file, from schema 4 on. Raises ValueError if they are damaged."""
        try:
            if 'metadata' in self._columns('metadata'):
                for (text,) in self._rows('SELECT metadata FROM metadata ORDER BY rowid DESC LIMIT 1'):
                    return parse_metadata(text)
        except sqlite3.Error as error:
            raise ValueError(str(error)) from error
        return None

    def _count(self) -> None:
        """Messages per topic and their times, from the table itself and not from its index on time."""
        try:
            rows = list(self._rows(
                "SELECT topic_id, count(*), min(CASE WHEN typeof(timestamp) = 'integer' AND timestamp >= 0 THEN "
                "timestamp END), max(CASE WHEN typeof(timestamp) = 'integer' THEN timestamp END) FROM messages NOT "
                'INDEXED GROUP BY topic_id'))
        except sqlite3.Error as error:  # readable messages are counted one by one
            self._note(f' is damaged or was cut short: {error}')
            rows = []
            numbers = {topic: number for number, topic in self._topics.items()}
            for found in self._recovered(set(self._topics), set(), Problems()):
                rows.append((numbers[found[:2]], 1, found.received, found.received))
        for number, messages, first, last in rows:
            if number not in self._topics:
                self._note(f': {messages} messages are left out: there is no topic {number!r}')
                continue
            self._counts[number] += messages
            if first is not None:
                self.start, self.end = min(self.start, first), max(self.end, last + 1)

    def messages(self, topics: Collection[str], start: int | None, stop: int | None) -> Iterator[Found]:
        wanted = {number for number, (topic, _) in self._topics.items() if topic in topics}
        if not wanted:
            return
        seen = array('q')  # numbers of the messages that were read, damaged ones too
        is_whole = self._is_indexed
        try:
            yield from self._ordered(wanted, start, stop, seen)
        except sqlite3.Error as error:
            self._note(f' is damaged or was cut short: {error}')
            is_whole = False
        if start is None and stop is None:
            expected = sum(self._counts[number] for number in wanted)
            if is_whole and len(seen) == expected:
                return
            if len(seen) != expected:
                self._note(f': {len(seen)} of {expected} messages are read in the order of time')
        elif is_whole:
            return
        # Messages missing in the index are read by their numbers.
        for found in self._recovered(wanted, set(seen), self._problems):
            if (start is None or found.received >= start) and (stop is None or found.received < stop):
                yield found

    @cached_property
    def _is_indexed(self) -> bool:
        """Whether the index on time, if there is one, has every message: SQLite does not check that."""
        indexes = [row[1] for row in self._rows('PRAGMA index_list(messages)')]
        for index in indexes:
            try:
                name = index.replace('"', '""')
                [(found,)] = self._rows(f'SELECT count(*) FROM messages INDEXED BY "{name}"')
                [(expected,)] = self._rows('SELECT count(*) FROM messages NOT INDEXED')
            except sqlite3.Error as error:
                self._note(f': its index {index!r} is damaged: {error}')
                return False
            if found != expected:
                self._note(f': its index {index!r} has {found} of {expected} messages')
                return False
        return True

    def _ordered(self, wanted: set[int], start: int | None, stop: int | None, seen: array[int]) -> Iterator[Found]:
        numbers = ', '.join(str(number) for number in sorted(wanted))
        sql = (f'{_SELECT} WHERE topic_id IN ({numbers})' + ' AND timestamp >= ?' * (start is not None)
               + ' AND timestamp < ?' * (stop is not None) + ' ORDER BY timestamp')
        for row in self._rows(sql, *(limit for limit in (start, stop) if limit is not None)):
            seen.append(row[0])
            if self._is_sound(row, self._problems):
                yield Found(*self._topics[row[1]], row[2], row[3])

    def _recovered(self, wanted: set[int], seen: set[int], problems: Problems) -> Iterator[Found]:
        """The readable rows, by number and not by the index; others are skipped."""
        last, failures = -2**63, 0
        while failures < _FAILURES:
            try:
                for row in self._rows(f'{_SELECT} NOT INDEXED WHERE id > ? ORDER BY id', last):
                    if row[0] <= last:  # of a page in the wrong place
                        continue
                    last, failures = row[0], 0
                    if row[1] in wanted and last not in seen and self._is_sound(row, problems):
                        yield Found(*self._topics[row[1]], row[2], row[3])
                return
            except sqlite3.Error as error:
                if not failures:
                    problems.note(f'{self._shown} is damaged after message {last}: {error}')
                last, failures = last + 1, failures + 1

    def _is_sound(self, row: tuple[Any, ...], problems: Problems) -> bool:
        number, topic, time, data = row
        where = f'{self._shown}: message {number} of {self._topics[topic][0]} is damaged'
        if not isinstance(time, int) or time < 0:
            problems.note(f'{where}: its timestamp is {_shown(time)}; must be a whole number of ns since 1970')
        elif not isinstance(data, bytes):
            problems.note(f'{where}: its data are {_shown(data)}; must be a blob')
        else:
            return True
        return False


def _shown(value: Any) -> str:
    """A value and its type, as SQLite calls it, for messages."""
    if value is None:
        return 'NULL'
    kind = {int: 'integer', float: 'real', str: 'text'}.get(type(value), 'blob')
    return f'of type {kind}, {value!r:.40}'
