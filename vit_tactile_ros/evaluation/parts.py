"""The validation and test samples that a checkpoint is evaluated on: simulated, or a user's labelled touches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.data.simulated import TASKS, SimulatedTouches
from vit_tactile_ros.data.source import DataSource, SplitSettings, empty_part, read_frames, read_table, split_table
from vit_tactile_ros.data.touches import DataError, TouchTable
from vit_tactile_ros.data.training_part import check_training_part, training_part
from vit_tactile_ros.foundation.errors import check_least
from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.model import Checkpoint

# Far from the seeds that training draws its examples and its own validation from.
SEEDS = {'validation': 2_000_000_000, 'test': 3_000_000_000}
PARTS = tuple(SEEDS)


@dataclass(frozen=True)
class Part:
    """One part of the data; its images are read when `frames` is first used."""

    size: int
    description: str  # for messages
    key: str  # identifies exactly these samples
    make: Callable[[], Frames]
    groups: int = 0  # objects, recordings or presses; 0: unknown or simulated, where samples are independent

    @cached_property
    def frames(self) -> Frames:
        return self.make()


@dataclass(frozen=True)
class EvaluationData:
    """The data that a checkpoint is evaluated on; raises UserError naming the field that is wrong."""

    source: DataSource = DataSource()
    split: SplitSettings = SplitSettings()
    size: int = 2000  # simulated touches per part
    seed: int = 0
    workers: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        check_least(self, size=1, seed=0, workers=0)


def load_parts(data: EvaluationData, checkpoint: Checkpoint, needed: str) -> dict[str, Part]:
    """The validation and test parts of the data.

    Raises DataError where the part `needed` has no images, and where these parts hold images that the checkpoint was
    trained on because settings or data differ from those of its training.
    """
    if data.cache is not None:
        check_folder_writable(data.cache)
    table = read_table(data.source, checkpoint.class_names)
    if table is None:
        return {name: _simulated(name, data.size, data.seed, checkpoint) for name in PARTS}
    split = split_table(data.split, table)
    check_training_part(
        checkpoint.provenance.training_part,
        training_part(data.source, data.split.values(), table, table.subset(split.train)), table.origin)
    if not len(getattr(split, needed)):
        raise empty_part(data.split, table, needed)
    return {name: _real(name, table.subset(getattr(split, name)), data.source, checkpoint) for name in PARTS}


def _simulated(name: str, size: int, seed: int, checkpoint: Checkpoint) -> Part:
    tasks = [task for task, names in TASKS.items() if names == checkpoint.class_names]
    if not tasks:
        possible = dict.fromkeys(', '.join(names) for names in TASKS.values())
        raise DataError(f'the classes of this checkpoint are {", ".join(checkpoint.class_names)}, and those of the '
                        f'simulator are {" or ".join(possible)}: give labelled touches with --data')
    start = SEEDS[name] + seed
    touches = SimulatedTouches(size, checkpoint.preprocessing, start, task=tasks[0])
    # The simulator of another release renders other images from the same seed.
    digest = hashlib.sha256()
    for index in range(min(size, 5)):
        frame, reference, label = touches[index]
        digest.update(frame.numpy().tobytes() + reference.numpy().tobytes() + bytes([label]))
    used = f' of the task {tasks[0]}; {" and ".join(tasks[1:])} have the same classes' if tasks[1:] else ''
    return Part(size, f'{size} simulated touches ({name}, seed {start}{used})',
                f'simulated {start} {size} {digest.hexdigest()}', lambda: touches)


def _real(name: str, table: TouchTable, source: DataSource, checkpoint: Checkpoint) -> Part:
    digest = hashlib.sha256(f'{source.control} {source.border}\n'.encode())
    for touch in table.touches:
        for image in (touch.image, touch.reference, touch.previous):
            if image:
                stat = image.path.stat() if image.path.is_file() else None
                digest.update(f'{image} {stat and (stat.st_size, stat.st_mtime_ns)}\n'.encode())
        digest.update(f'{touch.label}\n'.encode())
    return Part(len(table), f'{len(table)} images of {table.origin} ({name})', f'real {digest.hexdigest()}',
                partial(read_frames, source, table, checkpoint.preprocessing),
                len(set(table.groups)) if table.has_groups else 0)
