"""The command-line arguments that name labelled touches, the same for every command, and what they read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vit_tactile_ros.data.controls import BorderOnly, references_as_images
from vit_tactile_ros.data.frames import Frames, TouchFrames
from vit_tactile_ros.data.split import Split, split_touches
from vit_tactile_ros.data.table import UnreadableImages
from vit_tactile_ros.data.touches import DataError, TouchTable, load_touches, parse_splits
from vit_tactile_ros.model import PreprocessingConfig

SIMULATOR = 'simulator'
_SPLIT_DEFAULTS = {'split_by': 'auto', 'validation': 0.15, 'test': 0.15}


def add_table_arguments(parser: argparse.ArgumentParser, default: str | None = SIMULATOR) -> None:
    """`--data` and what explains it; `default` None makes it required, for commands that need real touches."""
    group = parser.add_argument_group('data')
    simulated = f"; '{SIMULATOR}' for simulated touches" if default else ''
    group.add_argument('--data', default=default, required=default is None, metavar='PATH',
                       help=f'folder of class folders, CSV, or bag{simulated}')
    group.add_argument('--label', default='label', metavar='COLUMN', help='column of a CSV with the class')
    group.add_argument('--group', default='group', metavar='COLUMN',
                       help='column with the object, recording or press; a+b joins two')
    group.add_argument('--image', default='image', metavar='COLUMN', help="column with the picture's path")
    group.add_argument('--reference', default='reference', metavar='COLUMN',
                       help="column with the no-contact picture's path, or a pattern of columns: gel{gel}.png")
    group.add_argument('--split', default='split', metavar='COLUMN', help='column with train, validation or test')
    group.add_argument('--splits', nargs='+', default=[], metavar='PART=NAMES',
                       help='what the names in that column mean, as test=new_pose,regrasp')
    group.add_argument('--labels', type=Path, default=None, metavar='CSV',
                       help='intervals with the labels of a bag: start,end,label')
    group.add_argument('--reference_image', type=Path, default=None, metavar='PICTURE',
                       help='no-contact picture of all images that name none')
    group.add_argument('--control', choices=('none', 'reference', 'border'), default='none',
                       help='show no touch, only what tells one recording from another: the no-contact picture in '
                            'place of the image, or the border of the image alone')
    group.add_argument('--border', type=float, default=0.15, metavar='SHARE', help='width of that border, of the image')


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """How touches are split where the data names no parts; the same values give the same parts in every command."""
    group = parser.add_argument_group('split, where the data names no parts')
    group.add_argument('--split_by', choices=('auto', 'group', 'frame'), default=None,
                       help='what is kept together; by default auto: groups where they are known')
    for part in ('validation', 'test'):
        group.add_argument(f'--{part}', type=float, default=None, metavar='SHARE',
                           help=f'of the images, 0 to 1; by default {_SPLIT_DEFAULTS[part]}')
    group.add_argument('--split_seed', type=int, default=0,
                       help='of that split, apart from --seed: all commands must judge on the same images')


def check_table_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if not 0 < arguments.border < 0.5:
        parser.error(f'--border is {arguments.border}; must be above 0 and below 0.5')
    if arguments.control != 'none' and arguments.data == SIMULATOR:
        parser.error(f'--control {arguments.control} needs real touches: name them with --data')


def check_split_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Also fills in what was not given, and notes in `split_asked` what was."""
    check_table_arguments(parser, arguments)
    arguments.split_asked = [f'--{name} {getattr(arguments, name)}' for name in _SPLIT_DEFAULTS
                             if getattr(arguments, name) is not None]
    for name, default in _SPLIT_DEFAULTS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    if arguments.split_seed < 0:
        parser.error(f'--split_seed is {arguments.split_seed}; must be at least 0')
    for name in ('validation', 'test'):
        if not 0 <= getattr(arguments, name) < 1:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be from 0 to below 1')
    if arguments.validation + arguments.test >= 1:
        parser.error(f'--validation {arguments.validation} and --test {arguments.test} leave nothing to train on; '
                     'their sum must be below 1')


def judging_flags(arguments: argparse.Namespace) -> list[str]:
    """The flags that name the same data with the same parts to another command, without those that have no effect."""
    parser = argparse.ArgumentParser()
    add_table_arguments(parser)
    add_split_arguments(parser)
    flags: list[str] = []
    for name, default in vars(parser.parse_args([])).items():
        value = getattr(arguments, name)
        default = _SPLIT_DEFAULTS.get(name, default)
        if value != default:
            flags += [f'--{name}', *(map(str, value) if isinstance(value, list) else [str(value)])]
    return flags


def read_table(arguments: argparse.Namespace, class_names: Sequence[str] | None = None) -> TouchTable | None:
    """The labelled touches that the arguments name, None for the simulator; raises `data.touches.DataError`."""
    if arguments.data == SIMULATOR:
        return None
    table = load_touches(Path(arguments.data), label=arguments.label, group=arguments.group, image=arguments.image,
                        reference=arguments.reference, split=arguments.split,
                        splits=parse_splits(arguments.splits) or None, labels=arguments.labels,
                        reference_image=arguments.reference_image, class_names=class_names)
    if arguments.control == 'reference':
        references_as_images(table)  # refuses a touch without one now, not when its part is read
    return table


def read_parts(arguments: argparse.Namespace, parts: Sequence[TouchTable], preprocessing: PreprocessingConfig,
               keep: Sequence[bool]) -> list[Frames | None]:
    """`read_frames` of each part, None for an empty one; those not to be kept are read as well, as a check.

    Raises `data.touches.UnreadableImages` for the unreadable ones of all parts together.
    """
    found: list[Frames | None] = []
    broken: dict[str, DataError] = {}  # parts may share a reference
    for part, kept in zip(parts, keep, strict=True):
        try:
            found.append(read_frames(arguments, part, preprocessing, kept) if len(part) else None)
        except UnreadableImages as error:
            broken |= {str(each): each for each in error.errors}
    if broken:
        raise UnreadableImages(parts[0].origin, list(broken.values()), sum(map(len, parts)))
    return found


def read_frames(arguments: argparse.Namespace, table: TouchTable, preprocessing: PreprocessingConfig,
                keep: bool = True) -> Frames:
    """The pictures of the table as a network is to see them; raises `data.touches.UnreadableImages`.

    keep: False reads them all once, as a check, and again whenever one is asked for.
    """
    if arguments.control == 'reference':
        # Here and not in the table: images of one reference count as copies, which would change how it is split.
        if preprocessing.reference == 'difference':
            raise DataError('--control reference: shows the reference in place of the image, and this network looks at '
                            'the difference of the two, in which nothing would be left; take a network that was '
                            'trained with --control reference or --input frame')
        table = references_as_images(table)
    frames = TouchFrames(table, preprocessing, cache=keep)
    if not keep:
        frames.check()
    return BorderOnly(frames, arguments.border) if arguments.control == 'border' else frames


def split_table(arguments: argparse.Namespace, table: TouchTable) -> Split:
    """The parts of the table; raises `data.touches.DataError`, also for flags that the table leaves no use for."""
    if table.has_splits and arguments.split_asked:
        raise DataError(f'{table.origin} says itself which images are for training, validation and test, so '
                        f'{" ".join(arguments.split_asked)} would have no effect; leave it out (or, to split a CSV '
                        "regardless, give --split '')")
    return split_touches(table, arguments.validation, arguments.test, arguments.split_seed, arguments.split_by)


def empty_part(arguments: argparse.Namespace, table: TouchTable, part: str) -> DataError:
    """What to say when the part 'validation' or 'test' of a split table is needed and has no images."""
    remedy = (f'name some of them {part} in its split column or folders' if table.has_splits else
              f'--{part} is {getattr(arguments, part):g}: give a larger share')
    return DataError(f'{table.origin}: there are no {part} images; {remedy}')
