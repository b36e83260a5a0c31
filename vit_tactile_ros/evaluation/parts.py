"""The validation and test samples that a checkpoint is judged on: simulated, or a user's labelled touches."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.simulator import CLASS_NAMES
from vit_tactile_ros.data.split import split_touches
from vit_tactile_ros.data.touches import DataError, TouchTable, load_touches, parse_splits
from vit_tactile_ros.evaluation.outputs import Frames
from vit_tactile_ros.model import Checkpoint, PreprocessingConfig

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
    data = parser.add_argument_group('data')
    data.add_argument('--data', type=Path, help='folder of class folders, .csv or bag; none: simulated touches')
    data.add_argument('--size', type=int, default=size, help='simulated touches per part (validation, test)')
    data.add_argument('--seed', type=int, default=0, help='of simulated touches, of the split and of random choices')
    data.add_argument('--validation', type=float, default=0.15, help='share of --data, 0 to 1, as in training')
    data.add_argument('--test', type=float, default=0.15, help='share of --data, 0 to 1, as in training')
    for name in ('image', 'reference', 'label', 'group', 'split'):
        data.add_argument(f'--{name}', default=name, metavar='COLUMN', help=f'column of a .csv that holds the {name}')
    data.add_argument('--splits', nargs='+', metavar='PART=NAME', help='what a .csv calls its parts, such as train=fit')
    data.add_argument('--labels', type=Path, help='CSV of intervals that labels a bag without label messages')
    data.add_argument('--reference_image', type=Path, help='no-contact picture for touches that name none')
    data.add_argument('--workers', type=int, default=0, help='processes that read or simulate; 0: this one')
    data.add_argument('--cache', type=Path, metavar='FOLDER',
                      help="keeps the network's answers there, so that calibrate and sweep need one pass")


def load_parts(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Part]:
    """The validation and test parts that the arguments name. Raises DataError for every mistake of the user's."""
    if arguments.size < 1 or arguments.seed < 0 or arguments.workers < 0:
        raise DataError(f'--size is {arguments.size}, --seed {arguments.seed} and --workers {arguments.workers}; '
                        'must be at least 1, 0 and 0')
    if arguments.data is None:
        return {name: _simulated(name, arguments.size, arguments.seed, checkpoint) for name in PARTS}
    table = load_touches(
        arguments.data, label=arguments.label, group=arguments.group, image=arguments.image,
        reference=arguments.reference, split=arguments.split,
        splits=parse_splits(arguments.splits) if arguments.splits else None, labels=arguments.labels,
        reference_image=arguments.reference_image, class_names=checkpoint.class_names)
    split = split_touches(table, arguments.validation, arguments.test, arguments.seed)
    return {name: _real(name, table.subset(getattr(split, name)), checkpoint.preprocessing) for name in PARTS}


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


def _real(name: str, table: TouchTable, preprocessing: PreprocessingConfig) -> Part:
    digest = hashlib.sha256()
    for touch in table.touches:
        for source in (touch.image, touch.reference):
            if source:
                stat = source.path.stat() if source.path.is_file() else None
                digest.update(f'{source} {stat and (stat.st_size, stat.st_mtime_ns)}\n'.encode())
        digest.update(f'{touch.label}\n'.encode())
    return Part(len(table), f'{len(table)} touches of {table.origin} ({name})', f'real {digest.hexdigest()}',
                partial(TouchFrames, table, preprocessing), len(set(table.groups)) if table.has_groups else 0)
