"""Chunks of MCAP files and of ROS 1 bags: what is stored twice is compared, and what has a checksum is checked."""

from __future__ import annotations

import bz2
import tracemalloc
from pathlib import Path

import bag_mutations
import lz4.frame
import pytest
from bag_mutations import COUNT, START, STEP, TOPIC, digests, write

from vit_tactile_ros.data.bags import mcap, storage
from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.bags.storage import unpacked, zstd


def numbers(path: Path, start: int | None = None, stop: int | None = None) -> tuple[list[int], str]:
    with Recording(path) as recording:
        found = [(message.received - START) // STEP for message in recording.messages({TOPIC}, start, stop)]
        return found, '; '.join(recording.problems)


def file_of(path: Path) -> Path:
    return path if path.is_file() else next(path.glob('*.mcap'))


def change(path: Path, old: bytes, new: bytes, count: int = 1, last: bool = False) -> Path:
    data = file_of(path).read_bytes()
    assert old in data and len(old) == len(new)
    file_of(path).write_bytes(new.join(data.rsplit(old, count)) if last else data.replace(old, new, count))
    return path


@pytest.mark.parametrize('kind', [
    'mcap crc', 'mcap zstd crc', 'mcap lz4 crc', 'mcap flat crc', 'bag', 'bag lz4', 'mcap'])
def test_whole(tmp_path, kind):
    assert numbers(write(tmp_path, kind)) == (list(range(COUNT)), '')


def test_without_chunks(tmp_path, monkeypatch):
    """In blocks of a limited size, as chunks are; the order is that of the times."""
    monkeypatch.setattr(mcap, '_RUN', 2000)
    path = write(tmp_path, 'mcap flat')
    assert numbers(path, START + 3 * STEP, START + 6 * STEP) == ([3, 4, 5], '')
    order = [2, 0, 1, 5, 4, 3]
    bag_mutations.write_mcap(file_of(path), '', [(START + n * STEP, bytes([n])) for n in order], 'mcap flat')
    assert numbers(path)[0] == sorted(order)


def test_a_chunk_whose_checksum_differs(tmp_path):
    """A changed pixel came out as if it were right."""
    path = write(tmp_path, 'mcap crc')
    data = bytearray(file_of(path).read_bytes())
    data[len(data) // 2] ^= 1
    file_of(path).write_bytes(data)
    found, problems = numbers(path)
    assert found == [0, 1, 2, 3, 8, 9, 10, 11]
    assert ('(1700000000.400 to 1700000000.700 s) is damaged: its checksum differs; its messages are left out'
            in problems)
    assert 'the checksum of its data differs' in problems


@pytest.mark.parametrize('kind', ['mcap', 'bag'])
def test_messages_that_an_index_knows(tmp_path, kind):
    """A message of a changed kind within a chunk was skipped without a word, of a part of the time too."""
    path = write(tmp_path, kind)
    data = bytearray(file_of(path).read_bytes())
    stamp = (START + 5 * STEP).to_bytes(8, 'little')
    if kind == 'mcap':
        data[data.index(b'\x05', data.index(stamp, 200) - 15)] = 0x0C  # the index follows its chunk
    else:
        place = data.index(b'time=' + (1_700_000_000).to_bytes(4, 'little') + (5 * STEP).to_bytes(4, 'little'))
        place = data.rindex(b'op=\x02', 0, place + 40)
        data[place + 3] = 7
    file_of(path).write_bytes(data)
    found, problems = numbers(path)
    assert 5 not in found and 11 in found and 'the chunk at byte' in problems
    found, problems = numbers(path, START + 3 * STEP, START + 7 * STEP)
    assert 5 not in found and 'the chunk at byte' in problems


def test_a_damaged_length_costs_no_other_chunk(tmp_path):
    """What lies behind it is found by the summary."""
    path = write(tmp_path, 'mcap')
    data = bytearray(file_of(path).read_bytes())
    place = data.index((START + 4 * STEP).to_bytes(8, 'little') + (START + 7 * STEP).to_bytes(8, 'little'))
    data[place - 1] = 0x7F  # of the chunk's length
    file_of(path).write_bytes(data)
    found, problems = numbers(path)
    assert found == list(range(COUNT)) and 'has a wrong length' in problems


def test_a_header_that_counts_fewer_chunks(tmp_path):
    """The last chunk was lost without a word."""
    path = write(tmp_path, 'bag')
    data = file_of(path).read_bytes()
    place = data.index(b'chunk_count=') + len(b'chunk_count=')
    file_of(path).write_bytes(data[:place] + bytes([data[place] - 1]) + data[place + 1:])
    found, problems = numbers(path)
    assert found == list(range(COUNT)) and 'its header gives' in problems


@pytest.mark.parametrize('pack', (
    lambda data: ('lz4', lz4.frame.compress(data)), lambda data: ('lz4', lz4.frame.compress(data, store_size=False)),
    lambda data: ('zstd', zstd().compress(data)), lambda data: ('zstd', zstd().compress(b'a') + zstd().compress(data)),
    lambda data: ('bz2', bz2.compress(data))))
def test_a_chunk_that_unpacks_to_too_much(pack, monkeypatch):
    """lz4 had no limit, nor had the second frame of zstd; whole chunks are as before."""
    compression, data = pack(bytes(300_000))
    whole, trouble = unpacked(compression, data, len(b'a' * data.startswith(zstd().compress(b'a'))) + 300_000)
    assert not trouble and len(whole) in (300_000, 300_001)
    monkeypatch.setattr(storage, '_LARGEST_CHUNK', 200_000)
    found, trouble = unpacked(compression, data)
    assert len(found) <= 200_000 and (trouble or found == b'a')


@pytest.mark.parametrize('compression', ('lz4', 'zstd', 'bz2'))
def test_an_empty_chunk(compression):
    assert unpacked(compression, b'', 10) == (b'', f'it cannot be decompressed ({compression}: its end is missing)')


@pytest.mark.parametrize('change', (
    lambda data: data[:-9], lambda data: lz4.frame.LZ4FrameCompressor().begin(2**28 - 1) + data[15:]))
def test_damaged_lz4_takes_no_more_memory_than_it_unpacks_to(change):
    """268 MB were allocated for each 65 kB of a chunk that is cut short, or gives a wrong size."""
    data = change(lz4.frame.compress(bytes(300_000)))
    unpacked('lz4', data)
    tracemalloc.start()
    try:
        found, trouble = unpacked('lz4', data, 300_000)
        assert trouble and len(found) > 200_000 and tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_overlapping_chunks_are_in_the_order_of_time(tmp_path):
    path = write(tmp_path, 'mcap')
    definition = (Path(__file__).parents[3] / 'msg' / 'TactileLabel.msg').read_text()
    order = [0, 4, 2, 1, 6, 3, 5, 7]
    bag_mutations.write_mcap(file_of(path), definition, [(START + n * STEP, bytes([n])) for n in order], 'mcap', 3)
    (path / 'metadata.yaml').unlink()
    assert numbers(path) == (sorted(order), '')
    assert numbers(path, START + 2 * STEP, START + 5 * STEP) == ([2, 3, 4], '')


def test_the_files_of_metadata(tmp_path):
    """Files that are missing, and counts that differ."""
    path = write(tmp_path, 'mcap')
    text = (path / 'metadata.yaml').read_text()
    (path / 'metadata.yaml').write_text(text.replace(f'message_count: {COUNT}', f'message_count: {COUNT + 1}'))
    assert f'{COUNT} messages of {TOPIC} (sensor_msgs/msg/Image) are found, its metadata count {COUNT + 1}' in numbers(
        path)[1]
    (path / 'metadata.yaml').write_text(text.replace('b.mcap', 'c.mcap'))
    found, problems = numbers(path)
    assert not found and 'names c.mcap, which is not there' in problems and 'does not name b.mcap' in problems
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: [1, 2')
    found, problems = numbers(path)
    assert found == list(range(COUNT)) and 'metadata.yaml cannot be read' in problems
    assert digests(path)[0].total() == COUNT
