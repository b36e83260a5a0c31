"""The readers of bytes from outside, for `fuzz`: valid inputs, the call, the documented error, limits."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bag_mutations
import cv2
import numpy as np
from mutations import mutate_bytes, mutate_values, places_in

from vit_tactile_ros.foundation.errors import UserError


@dataclass(frozen=True)
class Reader:
    name: str
    prepare: Callable[[Path], list[Path]]  # writes valid inputs to a folder, each in one of its own
    call: Callable[[Path], str | None]  # the outcome; raises AssertionError for a wrong one
    documented: tuple[type[Exception], ...] = (UserError,)
    mutate: Callable[[bytes, random.Random], bytes] = mutate_bytes
    strategy: Callable[[dict[Path, bytes]], Any] | None = None  # of hypothesis, from the valid contents
    seconds: float = 1.0  # of the CPU
    sample: int = 60  # inputs in `make test`
    megabytes: int = 300  # above those of the process without input; also what it may grow by over all inputs


def readers() -> list[Reader]:
    return [
        Reader('raw message', raw_messages, read_message, mutate=mutate_message, strategy=message_strategy),
        Reader('compressed message', compressed_messages, read_compressed, mutate=mutate_image, megabytes=700),
        Reader('image file', image_files, read_image_file, mutate=mutate_image, megabytes=700),
        Reader('checkpoint', checkpoints, read_checkpoint, mutate=mutate_checkpoint),
        Reader('training state', training_states, read_training_state, state_errors(), mutate=mutate_checkpoint),
        Reader('stored reference', stored_references, read_stored_reference, mutate=mutate_npz),
        Reader('stored outputs', stored_outputs, read_stored_outputs, damaged_outputs(), mutate=mutate_npz),
        Reader('example table', example_tables, read_example_table, mutate=mutate_npz),
        Reader('sensor file', sensor_files, read_sensor_file, mutate=mutate_json, strategy=json_strategy),
        Reader('touches csv', touch_tables, read_touch_table, mutate=mutate_text, strategy=csv_strategy),
        Reader('intervals csv', interval_tables, read_interval_table, mutate=mutate_text, strategy=csv_strategy),
        Reader('presses csv', press_tables, read_press_table, mutate=mutate_text, strategy=csv_strategy),
        Reader('frames csv', frame_tables, read_frame_table, mutate=mutate_text),
        Reader('metadata yaml', metadata_files, read_metadata_file, (ValueError,), mutate=mutate_text,
               strategy=yaml_strategy),
        *([Reader('parameters yaml', parameter_files, read_parameter_file, (), mutate=mutate_text,
                  strategy=yaml_strategy)] if importlib.util.find_spec('rclpy') else []),  # the library works without
        *(Reader(f'bag {kind}', functools.partial(write_bag, kind), functools.partial(judge_bag, kind), (),
                 mutate=functools.partial(mutate_bytes, gentle=True), sample=24, megabytes=700)
          for kind in bag_mutations.FORMATS),
        *(Reader(f'hostile bag {kind}', functools.partial(write_bag, kind), read_bag, (), sample=10, megabytes=700)
          for kind in bag_mutations.FORMATS),
    ]


def own(folder: Path, *files: tuple[str, bytes]) -> list[Path]:
    """Each file in a folder of its own."""
    paths = []
    for number, (name, data) in enumerate(files):
        path = folder / str(number) / name
        path.parent.mkdir()
        path.write_bytes(data)
        paths.append(path)
    return paths


# Images

def noise(height: int = 24, width: int = 32, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)
    pixels[:, :, 3:] = np.iinfo(dtype).max  # opaque
    return pixels[:, :, 0] if channels == 1 else pixels


def message_bytes(about: dict[str, Any], data: bytes) -> bytes:
    return json.dumps(about).encode() + b'\n' + data


def raw_messages(folder: Path) -> list[Path]:
    from vit_tactile_ros.inference.decode import ENCODINGS

    made = []
    for name, encoding in ENCODINGS.items():
        step = 32 * encoding.channels * encoding.sample_bytes
        data = random.Random(0).randbytes(int(24 * encoding.rows) * step)
        made.append((f'{name}.message', message_bytes({'height': 24, 'width': 32, 'encoding': name, 'is_bigendian': 0,
                                                       'step': step}, data)))
    return own(folder, *made)


def mutate_message(data: bytes, rng: random.Random) -> bytes:
    head, _, pixels = data.partition(b'\n')
    about = json.loads(head)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(about))
        if name == 'encoding':
            about[name] = rng.choice(('', 'rgb8', 'mono16', 'bayer_rggb8', 'nv12', 'x' * 10_000, 'rgb8\n', '32FC1'))
        else:
            about[name] = rng.choice((0, 1, 2, 3, 7, 24, 31, 33, 96, 10**4, 2**16, 2**25, 2**31, 2**32 - 1,
                                      about[name] + 1, max(about[name] - 1, 0), about[name] * 2))
    if rng.random() < 0.3:
        pixels = mutate_bytes(pixels, rng)
    if rng.random() < 0.3 and about['step'] * about['height'] < 2**20:  # sizes that agree
        pixels = bytes(about['step'] * about['height'])
    return message_bytes(about, pixels)


def message_strategy(_: dict[Path, bytes]) -> Any:
    from hypothesis import strategies as st

    from vit_tactile_ros.inference.decode import ENCODINGS

    side = st.one_of(st.integers(0, 70), st.integers(0, 2**32 - 1))
    step = st.one_of(st.integers(0, 600), st.integers(0, 2**32 - 1))
    encoding = st.one_of(st.sampled_from(list(ENCODINGS)), st.text(max_size=20))

    @st.composite
    def message(draw: Any) -> bytes:
        about = {'height': draw(side), 'width': draw(side), 'encoding': draw(encoding),
                 'is_bigendian': draw(st.integers(0, 255)), 'step': draw(step)}
        known = ENCODINGS.get(about['encoding'])
        if known and draw(st.booleans()):
            about['step'] = min(about['width'] * known.channels * known.sample_bytes, 2**32 - 1)
        size = int(about['height'] * about['step'] * (known.rows if known else 1))
        if size > 2**20 or draw(st.booleans()):
            size = draw(st.integers(0, 2000))
        return message_bytes(about, bytes(size))

    return message()


@functools.cache
def preprocessing() -> Any:
    from vit_tactile_ros.model import PreprocessingConfig

    return PreprocessingConfig(image_size=(32, 48), reference='difference', orientation='match', crop='center')


def update(message: Any) -> str:
    """The whole way of an image in the node up to the network."""
    from vit_tactile_ros.inference.frames import SensorFrames
    from vit_tactile_ros.inference.reference import Reference

    frames = SensorFrames(Reference(1), preprocessing(), expects_grey=False)
    for stamp in (0, 1):
        frame = frames.update(message, stamp)
    assert frame.image.shape == (32, 48, 3) and frame.image.dtype == np.uint8
    assert frame.reference is not None and np.isfinite(frame.reference).all()
    return 'read'


def read_message(path: Path) -> str:
    head, _, pixels = path.read_bytes().partition(b'\n')
    return update(SimpleNamespace(**json.loads(head), data=pixels))


def encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, options)[1])


def compressed_messages(folder: Path) -> list[Path]:
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    return own(folder, ('a.jpg', encoded('.jpg', noise())), ('b.jpg', encoded('.jpg', noise(channels=1))),
               ('c.jpg', encoded('.jpg', noise(), *progressive)), ('d.png', encoded('.png', noise())),
               ('e.png', encoded('.png', noise(channels=4, dtype=np.uint16))),
               ('f.jpg', encoded('.jpg', noise())[:2] + exif(6) + encoded('.jpg', noise())[2:]))


def exif(orientation: int) -> bytes:
    body = b'Exif\0\0II*\0\x08\0\0\0' + struct.pack('<HHHIHH', 1, 0x0112, 3, 1, orientation, 0) + bytes(4)
    return b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body


def image_files(folder: Path) -> list[Path]:
    return [*compressed_messages(made(folder / 'both')), *own(
        made(folder / 'files'), ('a.bmp', encoded('.bmp', noise())), ('b.tif', encoded('.tif', noise())),
        ('c.tif', encoded('.tif', noise(channels=1, dtype=np.uint16))), ('d.tif', encoded('.tif', noise(channels=4))),
        ('e.webp', encoded('.webp', noise())), ('f.webp', encoded('.webp', noise(channels=4), 64, 101)))]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def mutate_image(data: bytes, rng: random.Random) -> bytes:
    """Half of the changed PNGs have right checksums."""
    if not data.startswith(b'\x89PNG') or rng.random() < 0.5:
        return mutate_bytes(data, rng)
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = struct.unpack_from('>I', data, at)[0]
        chunks.append((data[at + 4:at + 8], data[at + 8:at + 8 + size]))
        at += 12 + size
    number = rng.randrange(len(chunks))
    kind, body = chunks[number]
    if kind == b'IDAT' and rng.random() < 0.7:
        body = zlib.compress(mutate_bytes(zlib.decompress(body), rng) if rng.random() < 0.9 else bytes(10**7))
    else:
        body = mutate_bytes(body or b'\0', rng)
    chunks[number] = (rng.choice((kind, kind, kind, b'PLTE', b'tRNS', b'eXIf', b'iCCP', b'acTL')), body)
    return data[:8] + b''.join(struct.pack('>I', len(b)) + k + b + struct.pack('>I', zlib.crc32(k + b))
                               for k, b in chunks)


def read_compressed(path: Path) -> str:
    return update(SimpleNamespace(format='jpeg', data=path.read_bytes()))


def read_image_file(path: Path) -> str:
    from vit_tactile_ros.inference.image_file import ImageFileError, read_image
    from vit_tactile_ros.inference.preprocess import fit

    try:
        image = read_image(path)
    except ImageFileError as error:
        assert str(error).startswith(str(path))
        raise
    assert fit(image, preprocessing()).shape == (32, 48, 3)
    return 'read'


# Checkpoints and states

def checkpoints(folder: Path) -> list[Path]:
    from toy_outputs import toy_checkpoint

    from vit_tactile_ros.model import Calibration, DropBound, Provenance, save_checkpoint

    path, other = folder / '0' / 'good.safetensors', folder / '1' / 'motion.safetensors'
    save_checkpoint(path, toy_checkpoint(
        calibration=Calibration((1.5, 1.2, 0.9), 0.7, (DropBound(0.01, 0.95, (0.5, 0.6)),), 100, (0.1, 0.1, 0.1)),
        provenance=Provenance('train --output x', 'touches', '2026-01-02', {'accuracy': 0.25})))
    save_checkpoint(other, toy_checkpoint(exits=(1,), motion=0.08))
    return [path, other]


def mutate_checkpoint(data: bytes, rng: random.Random) -> bytes:
    """The header as text, as JSON, or the JSON within it; half of them with the right digest; or any bytes."""
    import safetensors.torch

    from vit_tactile_ros.model.checkpoint import digest

    way = rng.randrange(4)
    if way == 0:
        return mutate_bytes(data, rng)
    size = struct.unpack('<Q', data[:8])[0]
    if way == 1:
        text = mutate_bytes(data[8:8 + size], rng)
        return struct.pack('<Q', len(text)) + text + data[8 + size:]
    header = json.loads(data[8:8 + size])
    if way == 2:
        header = mutate_values(header, rng)
    else:
        sections = {}
        for name, value in header['__metadata__'].items():
            sections[name] = value if name in ('format', 'version', 'digest') else json.loads(value)
        sections = {name: value if isinstance(value, str) else json.dumps(value)
                    for name, value in mutate_values(sections, rng).items()}
        if rng.random() < 0.5:
            with contextlib.suppress(UnicodeEncodeError):
                sections['digest'] = digest(sections, safetensors.torch.load(data))
        header['__metadata__'] = sections
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + data[8 + size:]


def read_checkpoint(path: Path) -> str:
    from vit_tactile_ros.model import CheckpointError, load_checkpoint

    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError as error:
        assert str(error).startswith(str(path))
        raise
    assert all(np.isfinite(weight.numpy()).all() for weight in checkpoint.model.state_dict().values())
    return 'read'


def training_states(folder: Path) -> list[Path]:
    import torch

    from vit_tactile_ros.training.state import STATE, RunFolder

    weights, average = ({'w': torch.arange(100.0), 'scale': torch.tensor(2.0)} for _ in range(2))
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    with RunFolder(made(folder / '0')) as run:
        run.save({'epoch': 1, 'step': 2, 'loss_sum': 0.5, 'model': weights, 'average': average,
                  'optimizer': optimizer.state_dict(), 'settings': {'lr': 0.1, 'exits': [1, 2], 'init': None},
                  'class_names': ['a', 'b']})
    return [folder / '0' / STATE]


def state_errors() -> tuple[type[Exception], ...]:
    from vit_tactile_ros.training.state import StateError

    return (StateError,)


def read_training_state(path: Path) -> str:
    import torch

    from vit_tactile_ros.training.state import RunFolder

    with RunFolder(path.parent) as run:
        state = run.load()
    assert state is not None and torch.equal(state['model']['w'], torch.arange(100.0)), 'other weights than saved'
    return 'read'


# Arrays

def mutate_npz(data: bytes, rng: random.Random) -> bytes:
    """An array replaced by one with changed bytes, with another shape in its header, or of many zeros."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    way = rng.randrange(6)
    if way < 3:
        members[name] = mutate_bytes(members[name], rng)
    elif way == 3:
        del members[name]
    else:
        shape = rng.choice(((10**12,), (2**31, 2**31, 3), (0, 10**9), (32, 48, 3), (-5,), (10**6, 3)))
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {
            'descr': rng.choice(('<f4', '<U1000000', '|O', '<i8', '|V9', '<M8[ns]')), 'fortran_order': False,
            'shape': shape})
        members[name] = head.getvalue() + (bytes(100) if way == 4 else members[name][100:])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w', rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
        for member, content in members.items():
            if member != name or rng.random() < 0.98:
                archive.writestr(member, content)
    if rng.random() < 0.02:
        return bomb(name)
    return packed.getvalue()


@functools.cache
def bomb(name: str) -> bytes:
    """An array of 400 MB in 2 MB."""
    packed = io.BytesIO()
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {'descr': '|u1', 'fortran_order': False, 'shape': (4 * 10**8,)})
    with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(name, 'w') as file:
            file.write(head.getvalue())
            for _ in range(40):
                file.write(bytes(10**7))
    return packed.getvalue()


def stored_references(folder: Path) -> list[Path]:
    from vit_tactile_ros.inference.reference_store import StoredReference, write_reference

    path = made(folder / '0') / 'left.reference.npz'
    write_reference(path, StoredReference(np.full((32, 48, 3), 100, np.float32), np.ones((4, 6), np.float32), (24, 32)),
                    preprocessing())
    return [path]


def read_stored_reference(path: Path) -> str:
    from vit_tactile_ros.inference.frames import SensorFrames
    from vit_tactile_ros.inference.reference import Reference
    from vit_tactile_ros.inference.reference_store import read_reference

    frames = SensorFrames(Reference(1), preprocessing())
    frames.keep_in(path)  # as the node does, which goes on without it
    message = SimpleNamespace(height=24, width=32, encoding='rgb8', is_bigendian=0, step=96, data=bytes(24 * 96))
    for stamp in (0, 10**9):
        frame = frames.update(message, stamp)
    assert frame.reference is not None and np.isfinite(frame.reference).all()
    read_reference(path, preprocessing())
    return 'read'


def stored_outputs(folder: Path) -> list[Path]:
    from toy_outputs import toy_outputs

    from vit_tactile_ros.evaluation.cache import write_outputs

    path = made(folder / '0') / 'outputs.npz'
    write_outputs(path, 'key', toy_outputs(50))
    return [path]


def damaged_outputs() -> tuple[type[Exception], ...]:
    from vit_tactile_ros.evaluation.cache import DamagedOutputs

    return (DamagedOutputs,)


def read_stored_outputs(path: Path) -> str:
    from toy_outputs import NAMES, toy_checkpoint

    from vit_tactile_ros.evaluation.cache import read_outputs

    _, outputs = read_outputs(path, NAMES, toy_checkpoint().model.config)
    outputs.decide(0.7)
    return 'read'


def example_tables(folder: Path) -> list[Path]:
    path = made(folder / '0') / 'table.npz'
    np.savez(path, bins=5, **{f'grad_{c}': np.ones((5, 5, 6)) for c in 'rgb'})
    return [path]


def read_example_table(path: Path) -> str:
    from vit_tactile_ros.sensor_fit.example_table import load_table

    load_table(path).change(np.ones(3), np.ones(3), np.ones(3), np.ones(3))
    return 'read'


# Text

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


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    return mutate_bytes(data, rng) if rng.random() < 0.3 else json.dumps(mutate_values(json.loads(data), rng)).encode()


def json_strategy(whole: dict[Path, bytes]) -> Any:
    """The values of a valid file with one replaced by any JSON."""
    from hypothesis import strategies as st

    values = json.loads(next(iter(whole.values())))
    anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
                            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner,
                                                                                        max_size=4), max_leaves=8)

    @st.composite
    def changed(draw: Any) -> bytes:
        own_values = json.loads(json.dumps(values))
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
    return [write_csv(made(folder / '0') / 'touches.csv', rows, pictures=False)]


def read_touch_table(path: Path) -> str:
    from vit_tactile_ros.data.labels_csv import read_csv
    from vit_tactile_ros.data.table import build_table

    for row in range(8):
        (path.parent / f'{row}.png').touch()
    (path.parent / 'none.png').touch()
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


# Bags

def write_bag(kind: str, folder: Path) -> list[Path]:
    path = bag_mutations.write(made(folder / '0'), kind)
    whole_digests.cache_clear()
    return [path]


@functools.cache
def whole_digests(kind: str) -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        whole, problems, refused = bag_mutations.digests(bag_mutations.write(Path(folder), kind))
    assert whole.total() == bag_mutations.COUNT and not problems and not refused, (kind, problems)
    return whole


def judge_bag(kind: str, path: Path) -> str:
    outcome, about = bag_mutations.judge(whole_digests(kind), path, bag_mutations.has_checksums(kind))
    assert not outcome.startswith('silent'), f'{outcome}: {about}'
    return outcome


def read_bag(path: Path) -> str:
    """Whatever is in it: times, types and topics of all messages, and each of them."""
    _, problems, refused = bag_mutations.digests(path)
    return 'reported' if problems or refused else 'read'
