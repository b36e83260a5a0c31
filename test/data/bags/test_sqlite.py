"""SQLite files whose columns hold other types than they should, of other schemas, or with a damaged index."""

from __future__ import annotations

import re
import resource
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from toy_recordings import COUNT, START, STEP, TOPIC, file_of, pixels, write

from vit_tactile_ros.data.bags.recording import Recording

ALL = list(range(COUNT))


def change(path: Path, *statements: str) -> Path:
    database = sqlite3.connect(file_of(path))
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()
    return path


def read(path: Path) -> tuple[list[int], str]:
    """The numbers of the images, each checked to the last pixel, and what is reported."""
    numbers = []
    with Recording(path) as recording:
        for found in recording.messages({TOPIC}):
            numbers.append((found.received - START) // STEP)
            np.testing.assert_array_equal(recording.deserialise(found).data, pixels(numbers[-1]))
    return numbers, '; '.join(recording.problems)


@pytest.mark.parametrize('place', ['folder', 'file'])
@pytest.mark.parametrize(('column', 'value', 'message'), [
    ('data', '2000000000', 'its data are of type integer, 2000000000; must be a blob'),
    ('data', '9223372036854775807', 'its data are of type integer'),
    ('data', '1.5', 'its data are of type real, 1.5'),
    ('data', "'text'", "its data are of type text, 'text'"),
    ('timestamp', "'x'", "its timestamp is of type text, 'x'; must be a whole number of ns since 1970"),
    ('timestamp', '1.5', 'its timestamp is of type real, 1.5'),
    ('timestamp', '-5', 'its timestamp is of type integer, -5'),
    ('timestamp', '99999999999999999999', r'its timestamp is of type real, 1e\+20'),
    ('timestamp', "x'00'", 'its timestamp is of type blob'),
])
def test_a_value_of_another_type(tmp_path, place, column, value, message):
    """An integer as data became that many zero bytes, a text as timestamp ended the replay with a traceback."""
    path = change(write(tmp_path, 'db3'), f'UPDATE messages SET {column}={value} WHERE id=3')
    if place == 'file':
        (path / 'metadata.yaml').unlink()
        path = file_of(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    numbers, problems = read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert numbers == [number for number in ALL if number != 2]
    assert re.search(f'message 3 of {TOPIC} is damaged: {message}', problems), problems


def test_null(tmp_path):
    """The columns of other writers may be without NOT NULL."""
    columns = 'id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB'
    path = change(write(tmp_path, 'db3'), 'ALTER TABLE messages RENAME TO old', f'CREATE TABLE messages ({columns})',
                  'INSERT INTO messages SELECT * FROM old', 'DROP TABLE old',
                  'UPDATE messages SET data=NULL WHERE id=3', 'UPDATE messages SET timestamp=NULL WHERE id=5')
    numbers, problems = read(path)
    assert numbers == [number for number in ALL if number not in (2, 4)]
    assert 'message 3 of /left/image_raw is damaged: its data are NULL' in problems
    assert 'message 5 of /left/image_raw is damaged: its timestamp is NULL' in problems


@pytest.mark.parametrize(('statement', 'message'), [
    ("UPDATE topics SET type=x'00'", 'topic 1 is damaged'), ("UPDATE topics SET name=x'ff'", 'topic 1 is damaged'),
    ('DROP TABLE topics', "has no table 'topics'"), ('DROP TABLE messages', "has no table 'messages'"),
    ('ALTER TABLE messages RENAME COLUMN data TO payload', "its table 'messages' has no column data"),
    ('UPDATE messages SET topic_id=7 WHERE id=2', 'there is no topic 7'),
    ("UPDATE messages SET topic_id='one' WHERE id=2", "there is no topic 'one'"),
    ('DELETE FROM messages WHERE id=2', f'{COUNT - 1} messages of {TOPIC} .* its metadata count {COUNT}')])
def test_damaged_tables(tmp_path, statement, message):
    """They are named, and nothing is raised."""
    numbers, problems = read(change(write(tmp_path, 'db3'), statement))
    assert re.search(message, problems), problems
    assert numbers in ([], [number for number in ALL if number != 1])


@pytest.mark.parametrize('statements', [
    ['DROP TABLE schema', 'DROP TABLE metadata', 'DROP TABLE message_definitions',
     'ALTER TABLE topics DROP COLUMN type_description_hash'],
    ['DROP TABLE schema', 'DROP TABLE metadata', 'DROP TABLE message_definitions',
     'ALTER TABLE topics DROP COLUMN type_description_hash', 'ALTER TABLE topics DROP COLUMN offered_qos_profiles'],
    ['DROP INDEX timestamp_idx'], ['UPDATE schema SET schema_version=99']])
def test_other_schemas(tmp_path, statements):
    """Those of older releases, and of ones to come."""
    assert read(change(write(tmp_path, 'db3'), *statements)) == (ALL, '')


def test_a_damaged_index_costs_no_message(tmp_path):
    """A row that its index on time lacks was lost without a word."""
    path = write(tmp_path, 'db3')
    change(path, 'PRAGMA writable_schema=ON', "UPDATE sqlite_master SET sql='CREATE INDEX timestamp_idx ON messages "
           "(timestamp ASC) WHERE id<>4' WHERE name='timestamp_idx'")
    change(path, 'REINDEX timestamp_idx')
    change(path, 'PRAGMA writable_schema=ON', "UPDATE sqlite_master SET sql='CREATE INDEX timestamp_idx ON messages "
           "(timestamp ASC)' WHERE name='timestamp_idx'")
    numbers, problems = read(path)
    assert sorted(numbers) == ALL and f"its index 'timestamp_idx' has {COUNT - 1} of {COUNT} messages" in problems
    with Recording(path) as recording:  # of a part of the time, too
        found = list(recording.messages({TOPIC}, START + 2 * STEP, START + 5 * STEP))
        assert sorted((message.received - START) // STEP for message in found) == [2, 3, 4]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """A file in WAL mode on read-only media."""
    path = change(write(tmp_path, 'db3'), 'PRAGMA journal_mode=WAL')
    file_of(path).chmod(0o444)
    path.chmod(0o555)
    try:
        assert read(path) == (ALL, '')
        assert sorted(p.name for p in path.iterdir()) == ['metadata.yaml', 'touch.db3']
    finally:
        path.chmod(0o755)
