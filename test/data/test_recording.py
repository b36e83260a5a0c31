"""Recordings of every kind as a stream, and what comes out of damaged ones."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_recordings import COUNT, KINDS, START, STEP, TOPIC, file_of, pixels, write

from vit_tactile_ros.data.bags.find import find_recordings, unique_names
from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.bags.storage import ZSTD_MAGIC, zstd
from vit_tactile_ros.data.table import DataError


def read(path: Path, start: int | None = None, stop: int | None = None) -> tuple[list[int], Recording]:
    """The numbers of the pictures in a recording, each checked to the last pixel."""
    numbers = []
    with Recording(path) as recording:
        for found in recording.messages({TOPIC}, start, stop):
            numbers.append((found.received - START) // STEP)
            message = recording.deserialise(found)
            np.testing.assert_array_equal(message.data, pixels(numbers[-1]))
            assert (message.header.stamp.sec * 10**9 + message.header.stamp.nanosec) == found.received
    return numbers, recording


@pytest.mark.parametrize(('kind', 'compression'), KINDS)
def test_every_kind(tmp_path, kind, compression):
    """The same pictures at the same times, the whole or a stretch of time."""
    path = write(tmp_path, kind, compression)
    numbers, recording = read(path)
    assert numbers == list(range(COUNT)) and not recording.problems + recording.notes
    assert (recording.start, recording.end) == (START, START + (COUNT - 1) * STEP + 1)
    assert read(path, START + 5 * STEP, START + 8 * STEP)[0] == [5, 6, 7]


@pytest.mark.parametrize(('kind', 'compression'), [k for k in KINDS if k[0] != 'bag'])
def test_no_metadata(tmp_path, kind, compression):
    path = write(tmp_path, kind, compression)
    (path / 'metadata.yaml').unlink()
    assert find_recordings([tmp_path]) == [path]
    for place in (path, file_of(path)):
        numbers, recording = read(place)
        assert numbers == list(range(COUNT)) and not recording.problems


@pytest.mark.parametrize(('kind', 'compression'), [k for k in KINDS if k[1] != 'bz2'])
def test_cut_short(tmp_path, kind, compression):
    """What a killed recorder leaves: all that is whole comes out, and the damage is named."""
    path = write(tmp_path, kind, compression)
    file = file_of(path)
    file.write_bytes(file.read_bytes()[:file.stat().st_size * 6 // 10])
    if path.is_dir() and compression != 'file':
        (path / 'metadata.yaml').unlink()
    numbers, recording = read(path)
    assert numbers == list(range(len(numbers))) and recording.problems
    assert len(numbers) >= COUNT // 5  # chunks and blocks of compression are larger than a picture


def test_an_unindexed_bag(tmp_path):
    """Killed before the index was written: ROS 1 leaves 0 as its place."""
    path = write(tmp_path, 'bag')
    data = path.read_bytes()
    place = data.index(b'index_pos=') + len(b'index_pos=')
    path.write_bytes(data[:place] + bytes(8) + data[place + 8:])
    numbers, recording = read(path)
    assert numbers == list(range(COUNT)) and 'never indexed' in recording.problems[0]


def test_an_mcap_without_summary(tmp_path):
    path = write(tmp_path, 'mcap', 'storage')
    file = file_of(path)
    data = file.read_bytes()
    file.write_bytes(data[:data.rindex(b'\x0f\x04\0\0\0\0\0\0\0')])  # the record that ends the data
    numbers, recording = read(file)
    assert numbers == list(range(COUNT)) and 'cut short' in recording.problems[0]


def test_a_damaged_chunk_in_the_middle(tmp_path):
    """Its messages are lost, those behind it are not."""
    path = write(tmp_path, 'mcap', 'storage')
    file = file_of(path)
    data = bytearray(file.read_bytes())
    place = data.index(ZSTD_MAGIC, len(data) // 4)
    data[place:place + 4] = bytes(4)
    file.write_bytes(data)
    numbers, recording = read(path)
    assert 0 in numbers and COUNT - 1 in numbers and COUNT // 2 < len(numbers) < COUNT
    assert len(set(numbers)) == len(numbers) and 'damaged' in ' '.join(recording.problems)


def test_the_log_of_a_killed_recorder(tmp_path):
    """Messages that lie only in the -wal file beside the database."""
    path = file_of(write(tmp_path, 'db3', numbers=range(10)))
    message = sqlite3.connect(path).execute('SELECT topic_id, data FROM messages WHERE id = 1').fetchone()
    code = ('import sqlite3, sys, os\nd = sqlite3.connect(sys.argv[1])\nd.execute("PRAGMA journal_mode=WAL")\n'
            'd.execute("INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, timestamp + 1000000000, data '
            'FROM messages WHERE id = 1")\nd.commit()\nos._exit(1)')
    subprocess.run([sys.executable, '-c', code, str(path)], check=False)
    with Recording(path.parent) as recording:
        found = list(recording.messages({TOPIC}))
    assert len(found) == 11 and found[-1].raw == message[1] and '-wal is next to it' in recording.problems[0]


def test_a_split_bag(tmp_path):
    """Ten files and more, in the order of their numbers, with and without the metadata."""
    folder = tmp_path / 'split'
    folder.mkdir()
    for part in range(11):
        single = write(tmp_path, 'mcap', numbers=range(3 * part, 3 * part + 3), name=f'part{part}')
        file_of(single).rename(folder / f'split_{part}.mcap')
    assert read(folder)[0] == list(range(33))
    (folder / 'split_4.mcap').write_bytes((folder / 'split_4.mcap').read_bytes()[:100_000])
    numbers, recording = read(folder)
    assert numbers == sorted(set(range(33)) - {n for n in (12, 13, 14) if n not in numbers})
    assert len(recording.problems) == 1 and 'split_4.mcap' in recording.problems[0]


def test_a_compressed_file_cut_short(tmp_path):
    folder = tmp_path / 'b'
    folder.mkdir()
    data = zstd().compress(file_of(write(tmp_path, 'mcap')).read_bytes())
    (folder / 'b_0.mcap.zstd').write_bytes(data[:len(data) // 2])
    numbers, recording = read(folder)
    assert numbers == list(range(len(numbers))) and len(numbers) > 5 and recording.problems


def test_paths(tmp_path):
    with pytest.raises(DataError, match='no does not exist'):
        Recording(tmp_path / 'no')
    with pytest.raises(DataError, match='does not contain a bag'):
        find_recordings([tmp_path])
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, 'bag', numbers=range(1))
    found = find_recordings([tmp_path, tmp_path / 'a'])
    assert found == [tmp_path / 'a' / 'touch.bag', tmp_path / 'b' / 'touch.bag']
    assert unique_names(found) == ['a/touch.bag', 'b/touch.bag']


@pytest.mark.parametrize('name', ['x.bag', 'x.mcap', 'x.db3'])
def test_nothing_readable(tmp_path, name):
    (tmp_path / name).write_bytes(b'nothing')
    assert read(tmp_path / name)[0] == []
    with Recording(tmp_path / name) as recording:
        assert 'no message can be read' in recording.problems[-1]


@pytest.mark.parametrize(('kind', 'compression'), [('mcap', ''), ('mcap', 'storage'), ('bag', ''), ('db3', '')])
def test_no_changed_byte_gets_out_as_an_exception(tmp_path, kind, compression):
    """A damaged name or length ended the replay of all bags with a KeyError, or asked for a TiB of memory."""
    path = file_of(write(tmp_path, kind, compression, range(3)))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    # What is not pixels, mostly: where a number of pictures' worth of bytes begins and ends.
    places = [*range(0, 300), *range(len(whole) - 1500, len(whole)), *rng.integers(0, len(whole), 200).tolist()]
    damaged = path.with_name(f'damaged{path.suffix}')
    for place in rng.choice(places, 400).tolist():
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(data)
        with Recording(damaged) as recording:
            assert len(list(recording.messages({TOPIC}))) <= 4
