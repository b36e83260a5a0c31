"""Labelled touches: where they are, how they are split and shown, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from vit_tactile_ros.data.controls import BorderOnly, references_as_images
from vit_tactile_ros.data.frames import Frames, TouchFrames
from vit_tactile_ros.data.split import Split, split_touches
from vit_tactile_ros.data.table import UnreadableImages
from vit_tactile_ros.data.touches import DataError, TouchTable, load_touches, parse_splits
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.model import PreprocessingConfig

SIMULATOR = 'simulator'


@dataclass(frozen=True)
class DataSource:
    """Simulated touches, or the user's with what explains them; raises UserError naming the field that is wrong."""

    data: str = SIMULATOR  # or a path
    label: str = 'label'
    group: str = 'group'
    image: str = 'image'
    reference: str = 'reference'
    previous: str = 'previous'
    split: str = 'split'
    splits: tuple[str, ...] = ()
    labels: Path | None = None
    reference_image: Path | None = None
    control: Literal['none', 'reference', 'border'] = 'none'
    border: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.border < 0.5:
            raise UserError(f'border is {self.border}; must be above 0 and below 0.5')
        if self.control != 'none' and self.is_simulated:
            raise UserError(f'control is {self.control}, which needs labelled images; name them with --data')

    @property
    def is_simulated(self) -> bool:
        return self.data == SIMULATOR


@dataclass(frozen=True)
class SplitSettings:
    """How touches are split whose data does not name parts; the same values give the same parts in every command.

    None means that the user did not choose: other values are refused where the data names the splits. Raises UserError
    naming the field that is wrong.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {'split_by': 'auto', 'validation': 0.15, 'test': 0.15}

    split_by: Literal['auto', 'group', 'frame'] | None = None
    validation: float | None = None
    test: float | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        values = self.values()
        check_least(self, split_seed=0)
        for name in ('validation', 'test'):
            if not 0 <= values[name] < 1:
                raise UserError(f'{name} is {values[name]}; must be from 0 to below 1')
        if values['validation'] + values['test'] >= 1:
            raise UserError(f'validation is {values["validation"]} and --test is {values["test"]}; their sum must be '
                            'below 1 to keep images for training')

    def values(self) -> dict[str, Any]:
        """The values in effect, by field."""
        return {name: self.DEFAULTS.get(name) if value is None else value for name, value in vars(self).items()}

    def overrides(self) -> dict[str, Any]:
        """The values that the user chose and that have no effect where the data names the splits, by field."""
        return {name: value for name, value in vars(self).items() if name in self.DEFAULTS and value is not None}


def read_table(source: DataSource, class_names: Sequence[str] | None = None) -> TouchTable | None:
    """The labelled touches of the source, None for the simulator; raises `data.touches.DataError`."""
    if source.is_simulated:
        return None
    table = load_touches(Path(source.data), label=source.label, group=source.group, image=source.image,
                         reference=source.reference, previous=source.previous, split=source.split,
                         splits=parse_splits(source.splits) or None, labels=source.labels,
                         reference_image=source.reference_image, class_names=class_names)
    if source.control == 'reference':
        references_as_images(table)  # refuses a touch without a reference now, not when its part is read
    return table


def read_all(reads: Iterable[Callable[[], Frames | None]], total: int) -> list[Frames | None]:
    """The result of each; raises `data.touches.UnreadableImages` for the unreadable ones of all `total` images."""
    found: list[Frames | None] = []
    broken: dict[str, UserError] = {}  # parts may share a reference
    origin = ''
    for read in reads:
        try:
            found.append(read())
        except UnreadableImages as error:
            broken |= {str(each): each for each in error.errors}
            origin = error.origin
    if broken:
        raise UnreadableImages(origin, list(broken.values()), total)
    return found


def read_frames(source: DataSource, table: TouchTable, preprocessing: PreprocessingConfig,
                keep: bool = True) -> Frames:
    """The images of the table as a network sees them; raises `data.touches.UnreadableImages`.

    keep: False reads all of them once, as a check, and each again when it is used.
    """
    if source.control == 'reference':
        # Not in `read_table`: images with the same reference count as copies, which would change the split.
        if preprocessing.reference == 'difference':
            raise DataError('--control reference replaces each image by its reference, but the input of this network '
                            'is the difference of the two, which would be zero; use a network that was trained with '
                            '--control reference or --input frame')
        table = references_as_images(table)
    frames = TouchFrames(table, preprocessing, cache=keep)
    if not keep:
        frames.check()
    return BorderOnly(frames, source.border) if source.control == 'border' else frames


def split_table(split: SplitSettings, table: TouchTable) -> Split:
    """The parts of the table; raises `data.touches.DataError`, also for settings that would have no effect."""
    if table.has_splits and (overrides := split.overrides()):
        flags = ' '.join(f'--{name} {value}' for name, value in overrides.items())
        raise DataError(f'{table.origin} names the images for training, validation and test, so {flags} would have no '
                        "effect; remove it (or, to split a CSV by chance, give --split '')")
    values = split.values()
    return split_touches(table, values['validation'], values['test'], values['split_seed'], values['split_by'])


def empty_part(split: SplitSettings, table: TouchTable, part: str) -> DataError:
    """The error for the part 'validation' or 'test' of a split table that is needed but has no images."""
    remedy = (f'name some of them {part} in its split column or folders' if table.has_splits else
              f'--{part} is {split.values()[part]:g}: give a larger share')
    return DataError(f'{table.origin}: no {part} images; {remedy}')
