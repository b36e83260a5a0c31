"""Files of text for `fuzz`: JSON, CSV and YAML."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bag_mutations
from fuzz_folders import made, own
from mutations import mutate_bytes, mutate_values, places_in


def sensor_files(folder: Path) -> list[Path]:
    import dataclasses

    from vit_tactile_ros.simulator import GELSIGHT, Markers, save_sensor

    path = folder / '0' / 'mine.json'
    save_sensor(path, dataclasses.replace(GELSIGHT, markers=Markers()))
    return [path]


def read_sensor_file(path: Path) -> str:
    from vit_tactile_ros.simulator import load_sensor

    load_sensor(path)
    return 'read'


def lerobot_sets(folder: Path) -> list[Path]:
    """A data set without episodes: its info.json and tasks.jsonl are what this package parses itself."""
    meta = folder / '0' / 'meta'
    meta.mkdir(parents=True)
    (meta / 'info.json').write_text(json.dumps({
        'codebase_version': 'v2.1', 'fps': 10, 'total_episodes': 3, 'total_frames': 30, 'chunks_size': 1000,
        'splits': {'train': '0:2', 'test': '2:3'}, 'data_path': '{episode_chunk:03d}/{episode_index:06d}.parquet',
        'video_path': 'videos/{video_key}/{episode_index:06d}.mp4',
        'features': {'camera': {'dtype': 'video', 'info': {'video.codec': 'av1'}}, 'state': {'dtype': 'float32'}}}))
    (meta / 'tasks.jsonl').write_text('{"task_index": 0, "task": "hold it"}\n\n{"task_index": 1, "task": "let go"}\n')
    return [folder / '0']


def read_lerobot_set(path: Path) -> str:
    """Up to the first file that an episode names: the data set has none, so that error is the expected end."""
    from vit_tactile_ros.data.lerobot import LeRobot
    from vit_tactile_ros.data.table import DataError

    data = LeRobot(path)
    camera = data.camera()
    data.split_of(1)
    data.task(0, 'here')
    try:
        next(data.episodes(camera), None)
    except DataError as error:
        if 'not there' not in str(error):
            raise
    return 'read'


def mutate_lerobot(data: bytes, rng: random.Random) -> bytes:
    """One JSON value, or lines of them."""
    return mutate_text(data, rng) if data.count(b'\n') > 1 else mutate_json(data, rng)


CONDITIONS = {'format': '1', 'torch': '2.13.0', 'openvino': '2026.4.1', 'cpu': 'A', 'threads': '1', 'network': '0' * 64}


def engine_choices(folder: Path) -> list[Path]:
    import dataclasses

    from vit_tactile_ros.inference.engines.choice import Choice

    choice = Choice(CONDITIONS, 'openvino', 'int8', '2026-11-27', 15, {'torch float32': 7.5, 'openvino int8': 2.5})
    return own(folder, ('engine.json', json.dumps(dataclasses.asdict(choice)).encode()))


def read_engine_choice(path: Path) -> str:
    from vit_tactile_ros.inference.engines.choice import read_choice

    choice = read_choice(path, CONDITIONS)
    assert choice.conditions == CONDITIONS and str(choice)
    return 'read'


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    return mutate_bytes(data, rng) if rng.random() < 0.3 else json.dumps(mutate_values(json.loads(data), rng)).encode()


def json_strategy(whole: dict[Path, bytes]) -> Any:
    """The values of a valid file with one replaced by any JSON."""
    from hypothesis import strategies as st

    text = next(iter(whole.values()))
    anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
                            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner,
                                                                                        max_size=4), max_leaves=8)

    @st.composite
    def changed(draw: Any) -> bytes:
        own_values = json.loads(text)
        parent, key = draw(st.sampled_from(list(places_in(own_values))))
        parent[key] = draw(anything)
        return json.dumps(own_values).encode()

    return changed()


FIELDS = ('', '""', '"', 'nan', 'inf', '-1', '1e999', '0', '1', '9' * 5000, '../../x', '/etc/hostname', 'a\nb', '\r',
          'ü', '"a\n\nb"', ',', ';', '\t', 'a+b', 'train', 'x' * 300, '\u2028', '=1+1', '{gel}', '\x1b[2J',
          'sep=;', '\x00')


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Bytes, or lines removed, repeated and in another order, fields replaced, another encoding."""
    way = rng.randrange(7)
    try:
        text = data.decode()
    except UnicodeDecodeError:  # an image beside a table
        return mutate_bytes(data, rng)
    lines = text.split('\n')
    at = rng.randrange(len(lines))
    if way < 2:
        return mutate_bytes(data, rng)
    if way == 2:
        del lines[at]
    elif way == 3:
        lines[at:at] = [lines[rng.randrange(len(lines))]] * rng.choice((1, 2, 200))
    elif way < 6:
        separator = rng.choice((',', ',', ':'))
        for _ in range(rng.choice((1, 1, 3))):
            fields = lines[at].split(separator)
            fields[rng.randrange(len(fields))] = rng.choice(FIELDS)
            lines[at] = separator.join(fields)
            at = rng.randrange(len(lines))
    else:
        return text.encode(rng.choice(('utf-16', 'utf-16-le', 'utf-32', 'utf-8-sig', 'utf-7', 'cp1252')), 'replace')
    return '\n'.join(lines).encode('utf-8', 'surrogatepass')


def csv_strategy(whole: dict[Path, bytes]) -> Any:
    """Tables with the right columns and fields of any text."""
    from hypothesis import strategies as st

    columns, *rows = next(iter(whole.values())).decode().splitlines()
    known = [field for row in rows for field in row.split(',')]
    field = st.one_of(st.sampled_from(known), st.sampled_from(FIELDS), st.text(max_size=12),
                      st.floats().map(repr), st.integers().map(str))
    separator = st.sampled_from((',', ',', ';', '\t'))
    names = st.permutations(columns.split(','))

    @st.composite
    def table(draw: Any) -> bytes:
        own_separator, own_names = draw(separator), draw(names)
        lines = draw(st.lists(st.lists(field, min_size=len(own_names), max_size=len(own_names)), max_size=8))
        return '\n'.join(own_separator.join(line) for line in [own_names, *lines]).encode('utf-8', 'surrogatepass')

    return table()


def touch_tables(folder: Path) -> list[Path]:
    from toy_touches import write_csv

    rows = [{'image': f'{n}.png', 'label': 'ab'[n % 2], 'group': f'g{n // 2}', 'reference': 'none.png',
             'split': ('train', 'test')[n // 4]} for n in range(8)]
    path = write_csv(made(folder / '0') / 'touches.csv', rows, pictures=False)
    for name in ('none', *range(8)):
        (path.parent / f'{name}.png').touch()
    return [path]


def read_touch_table(path: Path) -> str:
    from vit_tactile_ros.data.labels_csv import read_csv
    from vit_tactile_ros.data.table import build_table

    build_table(read_csv(path), str(path))
    return 'read'


def interval_tables(folder: Path) -> list[Path]:
    return own(folder, ('intervals.csv', b'start,end,label,sensor,bag\n0,0.5,ball,left,b\n0.6,1.1,edge,,\n2,3,x,,b\n'
                                         b'1700000000.1,1700000000.4,far,right,c\n'))


def read_interval_table(path: Path) -> str:
    from vit_tactile_ros.data.bags.labels import IntervalLabels, read_intervals

    file = read_intervals(path)
    bag = SimpleNamespace(path=path.parent / 'b', start=17 * 10**17, end=17 * 10**17 + 10**9)
    labels = IntervalLabels(file, bag, ('left', 'right'), 'b')
    for sensor in ('left', 'right'):
        for time in (bag.start, bag.start + 2 * 10**8):
            labels.of(sensor, time, None)
    labels.finish(True)
    file.others([bag.path])
    file.unused([bag.path], labels.used)
    return 'read'


def press_tables(folder: Path) -> list[Path]:
    from toy_presses import write_presses

    write_presses(made(folder / '0'))
    return [folder / '0' / 'presses.csv']


def read_press_table(path: Path) -> str:
    from vit_tactile_ros.sensor_fit.presses import read_presses

    read_presses(path, path.parent / 'reference.png')
    return 'read'


def frame_tables(folder: Path) -> list[Path]:
    import dataclasses

    from toy_frames import toy_frames

    from vit_tactile_ros.evaluation.recordings.frame_table import Rejection

    path = made(folder / '0') / 'frames.csv'
    dataclasses.replace(toy_frames(12), rejections=(Rejection('toy', '/x', 'size', 7, 'at 3: x'),)).write_csv(path)
    return [path]


def read_frame_table(path: Path) -> str:
    from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable

    table = FrameTable.read_csv(path)
    table.decided(0.9)
    assert table.shares.size == len(table)
    return 'read'


def metadata_files(folder: Path) -> list[Path]:
    bag_mutations.write(made(folder / 'bag'), 'db3')
    text = (folder / 'bag' / 'b' / 'metadata.yaml').read_bytes()
    for file in (folder / 'bag' / 'b').iterdir():
        file.unlink()
    (folder / 'bag' / 'b').rmdir()
    (folder / 'bag').rmdir()
    return own(folder, ('metadata.yaml', text))


def read_metadata_file(path: Path) -> str:
    from vit_tactile_ros.data.bags.metadata import read_metadata

    about = read_metadata(path.parent)
    assert about is not None and all('/' not in name for name in about.files)
    return 'read'


def parameter_files(folder: Path) -> list[Path]:
    config = Path(__file__).parents[2] / 'config'
    return own(folder, *((file.name, file.read_bytes()) for file in sorted(config.glob('*.yaml'))))


def read_parameter_file(path: Path) -> str:
    from vit_tactile_ros.ros.start import parameters_in

    for section, names in parameters_in(str(path)):
        assert isinstance(section, str) and all(isinstance(name, str) for name in names)
    return 'read'


def yaml_strategy(whole: dict[Path, bytes]) -> Any:
    """Any values as YAML, with anchors that hold themselves and each other."""
    import yaml
    from hypothesis import strategies as st

    known = sorted({word for text in whole.values() for word in text.decode().replace(':', ' ').split()})
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.sampled_from(known),
                      st.dates(), st.binary(max_size=9))
    key = st.one_of(st.sampled_from(known), plain)
    values = st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(key, inner, max_size=4),
                          max_leaves=12)

    @st.composite
    def text(draw: Any) -> bytes:
        dumped = yaml.dump(draw(values))
        if draw(st.integers(0, 9)) == 0:
            dumped = 'a0: &a0 {k: x}\n' + ''.join(
                f'a{n}: &a{n} {{{", ".join(f"k{m}: *a{n - 1}" for m in range(9))}}}\n' for n in range(1, 12))
        if draw(st.integers(0, 9)) == 0:
            dumped = 'x: &x\n  ros__parameters: *x\n  rosbag2_bagfile_information: *x\n  y: {ros__parameters: *x}\n'
        if draw(st.integers(0, 9)) == 0:
            dumped = '[' * draw(st.integers(1, 5000)) + dumped
        return dumped.encode('utf-8', 'surrogatepass')

    return text()
