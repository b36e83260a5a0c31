"""The validation and test samples that a checkpoint is judged on: simulated, or a user's labelled touches."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from vit_tactile_ros.data.arguments import (
    add_split_arguments,
    add_table_arguments,
    empty_part,
    read_frames,
    read_table,
    split_table,
)
from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.table import UnreadableImages
from vit_tactile_ros.data.touches import DataError, TouchTable
from vit_tactile_ros.data.training_part import check_training_part, training_part
from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.model import Checkpoint
from vit_tactile_ros.simulator import CLASS_NAMES

# Far from the seeds that training draws its examples and its own validation from.
SEEDS = {'validation': 2_000_000_000, 'test': 3_000_000_000}
PARTS = tuple(SEEDS)


@dataclass(frozen=True)
class Part:
    """One part of the data; its pictures are read when `frames` is first called."""

    size: int
    description: str  # for people
    key: str  # says exactly which samples these are
    make: Callable[[], Frames]
    groups: int = 0  # objects, recordings or presses; 0: unknown or simulated, where samples are independent

    @cached_property
    def _frames(self) -> Frames:
        return self.make()

    def frames(self) -> Frames:
        return self._frames


def add_data_arguments(parser: argparse.ArgumentParser, size: int) -> None:
    """What names the data, for `load_parts`; `size` is the default number of simulated touches per part."""
    add_table_arguments(parser)
    add_split_arguments(parser)
    group = parser.add_argument_group('what is judged on')
    group.add_argument('--size', type=int, default=size, help='simulated touches per part (validation, test)')
    group.add_argument('--seed', type=int, default=0, help='of simulated touches and of random choices')
    group.add_argument('--workers', type=int, default=0, help='processes that read or simulate; 0: this one')
    group.add_argument('--cache', type=Path, metavar='FOLDER',
                       help="keeps the network's answers there, so that calibrate and sweep need one pass")


def load_parts(arguments: argparse.Namespace, checkpoint: Checkpoint, needed: str) -> dict[str, Part]:
    """The validation and test parts that the arguments name.

    Raises DataError for every mistake of the user's: where the part `needed` has no images, and where these parts hold
    images that the checkpoint was trained on, since flags or data are not those of its training.
    """
    if arguments.size < 1 or arguments.seed < 0 or arguments.workers < 0:
        raise DataError(f'--size is {arguments.size}, --seed {arguments.seed} and --workers {arguments.workers}; '
                        'must be at least 1, 0 and 0')
    if arguments.cache is not None:
        check_folder_writable(arguments.cache)
    table = read_table(arguments, checkpoint.class_names)
    if table is None:
        return {name: _simulated(name, arguments.size, arguments.seed, checkpoint) for name in PARTS}
    split = split_table(arguments, table)
    check_training_part(checkpoint.provenance.training_part,
                        training_part(arguments, table, table.subset(split.train)), table.origin)
    if not len(getattr(split, needed)):
        raise empty_part(arguments, table, needed)
    return {name: _real(name, table.subset(getattr(split, name)), arguments, checkpoint) for name in PARTS}


def read_now(parts: Iterable[Part]) -> None:
    """Read the pictures of all these parts, so that no broken one is found after minutes of work.

    Raises UnreadableImages for those of all parts together.
    """
    broken: dict[str, DataError] = {}
    total, origin = 0, ''
    for part in parts:
        total += part.size
        try:
            part.frames()
        except UnreadableImages as error:
            broken |= {str(each): each for each in error.errors}
            origin = error.origin
    if broken:
        raise UnreadableImages(origin, list(broken.values()), total)


def _simulated(name: str, size: int, seed: int, checkpoint: Checkpoint) -> Part:
    if checkpoint.class_names != CLASS_NAMES:
        raise DataError(f'the classes of this checkpoint are {", ".join(checkpoint.class_names)}, and the simulator '
                        f'makes {", ".join(CLASS_NAMES)}: give labelled touches with --data')
    start = SEEDS[name] + seed
    touches = SimulatedTouches(size, checkpoint.preprocessing, start)
    # Another release's simulator makes other pictures of the same seed.
    digest = hashlib.sha256()
    for index in range(min(size, 5)):
        frame, reference, label = touches[index]
        digest.update(frame.numpy().tobytes() + reference.numpy().tobytes() + bytes([label]))
    return Part(size, f'{size} simulated touches ({name}, seed {start})',
                f'simulated {start} {size} {digest.hexdigest()}', lambda: touches)


def _real(name: str, table: TouchTable, arguments: argparse.Namespace, checkpoint: Checkpoint) -> Part:
    digest = hashlib.sha256(f'{arguments.control} {arguments.border}\n'.encode())
    for touch in table.touches:
        for source in (touch.image, touch.reference):
            if source:
                stat = source.path.stat() if source.path.is_file() else None
                digest.update(f'{source} {stat and (stat.st_size, stat.st_mtime_ns)}\n'.encode())
        digest.update(f'{touch.label}\n'.encode())
    return Part(len(table), f'{len(table)} touches of {table.origin} ({name})', f'real {digest.hexdigest()}',
                partial(read_frames, arguments, table, checkpoint.preprocessing),
                len(set(table.groups)) if table.has_groups else 0)
