"""Files of arrays for `fuzz`: checkpoints and training states (safetensors), and .npz."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import struct
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fuzz_folders import made
from fuzz_images import preprocessing
from mutations import mutate_bytes, mutate_values


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


@functools.lru_cache(4)
def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def mutate_npz(data: bytes, rng: random.Random) -> bytes:
    """An array replaced by one with changed bytes, with another shape in its header, or of many zeros."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    members = dict(members_of(data))
    name = rng.choice(list(members))
    if rng.random() < 0.01:
        return bomb(name.encode())
    way = rng.randrange(6)
    if way < 3:
        members[name] = mutate_bytes(members[name], rng)
    elif way == 3:
        del members[name]
    else:
        shape = rng.choice(((10**12,), (2**31, 2**31, 3), (0, 10**9), (32, 48, 3), (-5,), (10**6, 3)))
        head = array_header(rng.choice(('<f4', '<U1000000', '|O', '<i8', '|V9', '<M8[ns]')), shape)
        members[name] = head + (bytes(100) if way == 4 else members[name][100:])
    packed = io.BytesIO()
    kind = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
    with zipfile.ZipFile(packed, 'w', kind, compresslevel=1) as archive:
        for member, content in members.items():
            if member != name or rng.random() < 0.98:
                archive.writestr(member, content)
    return packed.getvalue()


def array_header(kind: str, shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {'descr': kind, 'fortran_order': False, 'shape': shape})
    return head.getvalue()


@functools.cache
def many_zeros() -> tuple[bytes, int, int]:
    """An array of 400 MB in 2 MB, deflated: its bytes, checksum and size."""
    head, packer = array_header('|u1', (4 * 10**8,)), zlib.compressobj(1, zlib.DEFLATED, -15)
    packed, check = packer.compress(head), zlib.crc32(head)
    for _ in range(40):
        packed += packer.compress(bytes(10**7))
        check = zlib.crc32(bytes(10**7), check)
    return packed + packer.flush(), check, len(head) + 4 * 10**8


def bomb(name: bytes) -> bytes:
    """An archive of `many_zeros` under a name; zipfile would compress them for each name."""
    packed, check, size = many_zeros()
    about = struct.pack('<5H3I2H', 20, 0, 8, 0, 33, check, len(packed), size, len(name), 0)
    local = b'PK\3\4' + about + name
    central = b'PK\1\2\x14\0' + about + bytes(14) + name
    end = b'PK\5\6' + struct.pack('<4H2IH', 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    return local + packed + central + end


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


@functools.cache
def toy_config() -> Any:
    from toy_outputs import toy_checkpoint

    return toy_checkpoint().model.config


def read_stored_outputs(path: Path) -> str:
    from toy_outputs import NAMES

    from vit_tactile_ros.evaluation.cache import read_outputs

    _, outputs = read_outputs(path, NAMES, toy_config())
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
