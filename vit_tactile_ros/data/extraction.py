"""Labelled images of bags, Parquet and LeRobot written as files with a CSV, for inspection and for training."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vit_tactile_ros.data.bags.find import find_recordings, unique_names
from vit_tactile_ros.data.bags.touches import read_bags, read_pictures
from vit_tactile_ros.data.field_images import FieldColumns, field_images, field_size
from vit_tactile_ros.data.table import DataError, NamedTouch, Source, TouchTable, build_table, previous_of
from vit_tactile_ros.foundation.files import folder_written_whole, written_whole
from vit_tactile_ros.inference.image_file import read_image, write_png

TABLE = 'touches.csv'
REFERENCES = 'references'
# Windows refuses them, with any suffix.
_DEVICES = {'con', 'prn', 'aux', 'nul', *(f'{port}{number}' for port in ('com', 'lpt') for number in range(10))}


@dataclass(frozen=True)
class Extracted:
    """What was written."""

    table: Path  # the CSV for `--data`
    images: int
    touches: int
    references: int
    images_of_class: dict[str, int]
    unlabelled: int = 0  # rows of Parquet and LeRobot without a label, which are left out


def touches_of_bags(paths: Sequence[Path], labels: Path | None = None,
                    reference_image: Path | None = None) -> TouchTable:
    """The labelled images of several bags, or folders of bags, in one table, which may have a single class.

    labels, reference_image: as in `touches.load_touches`. Raises DataError for a path that is not a bag, and as
    `bags.read_bags` does.
    """
    touches = read_bags(find_recordings(paths), labels, references=reference_image is None)
    if reference_image is not None:
        if not reference_image.is_file():
            raise DataError(f'reference_image {reference_image} does not exist')
        touches = [dataclasses.replace(touch, reference=Source(reference_image)) for touch in touches]
    return build_table(_once(touches), ', '.join(map(str, paths)), sorted({touch.label for touch in touches}) or None)


def thin(table: TouchTable, every: int) -> TouchTable:
    """The first frame of each touch and every `every`-th one after it: neighbours are nearly identical."""
    seen = Counter[str]()
    kept = []
    for index, touch in enumerate(table.touches):
        if seen[touch.group] % every == 0:
            kept.append(index)
        seen[touch.group] += 1
    return table.subset(kept)


def extract(table: TouchTable, folder: Path, progress: bool | None = None, motion: float = 0.0) -> Extracted:
    """Write the images (PNG, lossless), the references and `touches.csv` (image, reference, label, group).

    motion: above 0, also the image so many s before each, in the column previous.

    A folder per class, with a folder per touch. Whole or not at all: everything is written to a temporary folder beside
    `folder`, which is renamed at the end. progress: a bar on stderr; None shows one in a terminal.

    Raises DataError for a folder that is not empty and for a message that cannot be read; OSError if writing fails.
    """
    check_unused(folder)
    with folder_written_whole(folder) as partial:
        counts = _write(table, partial, sys.stderr.isatty() if progress is None else progress, motion)
    return dataclasses.replace(counts, table=folder / TABLE)


def extract_field(paths: Sequence[Path], columns: FieldColumns, folder: Path, every: int = 1,
                  reference_image: Path | None = None, progress: bool | None = None) -> Extracted:
    """As `extract`, for Parquet files with image columns and LeRobot data sets (`field_images`); read once, in order.

    The CSV has the column split if the data names more than one part, and the column group if it has groups. every: of
    each group, one image in so many. reference_image: for all images, instead of those of the data.

    Raises DataError as `field_images` does, and for the first image without a group, or file without a part, among
    others that have one: images of one object could be in two parts.
    """
    check_unused(folder)
    show = sys.stderr.isatty() if progress is None else progress
    given = None if reference_image is None else read_image(reference_image)
    rows: list[tuple[str, str, str, str, str]] = []  # image, reference, label, group, split
    seen = Counter[tuple[str, str, str]]()
    references: dict[bytes, str] = {}
    groups = _AllOrNone('group', 'images of one object could be in two parts: complete that column, or name another '
                                 'with --group')
    parts = _AllOrNone('part in its name (train, validation, test)', 'its images could be in the training and in the '
                       'test: rename it, or extract it by itself')
    with folder_written_whole(folder) as partial, tqdm(
            total=sum(map(field_size, paths)), desc='writing images', unit='row', disable=not show, leave=False) as bar:
        for path, name in zip(paths, unique_names(paths), strict=True):
            for found in field_images(path, columns):
                bar.update()
                if columns.group and not found.group:
                    raise DataError(f'{found.where} has no {columns.group}, which --group names: complete that column, '
                                    'or name another')
                groups.check(found.group, found.where)
                parts.check(found.split, found.source)
                group = f'{name}/{found.group}' if found.group and len(paths) > 1 else found.group
                seen[key := (str(path), found.group, found.label)] += 1
                if (seen[key] - 1) % every:
                    continue
                image = f'{_plain(found.label)}/{len(rows) // 1000:04d}_{_plain(group)}/{len(rows):07d}.png'
                _write_picture(partial, [image], found.image)
                reference = found.reference if given is None else given
                rows.append((image, '' if reference is None else _kept(reference, partial, references), found.label,
                             group, found.split))
        if not rows:
            raise DataError(f'{", ".join(map(str, paths))}: no image has a label')
        has_splits = len({row[-1] for row in rows}) > 1
        has_groups = bool(rows[0][3])
        with written_whole(partial / TABLE) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow(('image', 'reference', 'label') + ('group',) * has_groups + ('split',) * has_splits)
            for row in rows:
                writer.writerow(row[:3] + row[3:4] * has_groups + row[4:] * has_splits)
    counts = Counter(row[2] for row in rows)
    return Extracted(folder / TABLE, len(rows), len({row[3] for row in rows if row[3]}), len(references),
                     dict(sorted(counts.items())), sum(map(field_size, paths)) - seen.total())


class _AllOrNone:
    """Something that every image has, or none."""

    def __init__(self, what: str, harm: str) -> None:
        self._what, self._harm = what, harm
        self._first: tuple[bool, str] | None = None  # whether the first image has it, and where that is

    def check(self, value: str, where: str) -> None:
        """Raises DataError naming what lacks it, at the first image that differs from the first one."""
        first = self._first = self._first or (bool(value), where)
        if first[0] != bool(value):
            has, lacks = (first[1], where) if first[0] else (where, first[1])
            raise DataError(f'{lacks} has no {self._what}, but {has} has one, so that {self._harm}')


def _kept(reference: NDArray[np.uint8], folder: Path, references: dict[bytes, str]) -> str:
    """The file of a reference, written once however many images have it."""
    key = hashlib.sha256(f'{reference.shape}'.encode() + reference.tobytes()).digest()
    if key not in references:
        references[key] = f'{REFERENCES}/{len(references):05d}.png'
        _write_picture(folder, [references[key]], reference)
    return references[key]


def check_unused(folder: Path) -> None:
    """Raises DataError if the folder is not empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f'{folder} exists and is not empty; nothing is overwritten: give another folder, or remove it')


def _write(table: TouchTable, folder: Path, progress: bool, motion: float) -> Extracted:
    numbers = {group: number for number, group in enumerate(dict.fromkeys(table.groups))}
    names: dict[Source, str] = {}
    for touch in table.touches:
        touch_folder = f'{numbers[touch.group]:04d}_{_plain(touch.group)}'
        names[touch.image] = f'{_plain(table.class_names[touch.label])}/{touch_folder}/{touch.image.stamp}.png'
    references = list(dict.fromkeys(touch.reference for touch in table.touches if touch.reference))
    reference_names = {source: f'{REFERENCES}/{number:04d}_{_plain(source.path.stem + source.topic)}.png'
                       for number, source in enumerate(references)}
    previous = previous_of(table, motion)
    previous_names = {before: names[touch.image].replace('.png', '_previous.png')
                      for touch, sources in zip(table.touches, previous) for before in sources}
    wanted: dict[Source, list[str]] = {}
    for source, name in (*names.items(), *reference_names.items(), *previous_names.items()):  # one image may be several
        wanted.setdefault(source, []).append(name)
    messages = [source for source in wanted if source.topic]
    with tqdm(total=len(wanted), desc='writing images', unit='image', disable=not progress, leave=False) as bar:
        for source in wanted:
            if not source.topic:
                _write_picture(folder, wanted[source], read_image(source.path))
                bar.update()
        for place, picture in read_pictures(messages):
            _write_picture(folder, wanted[messages[place]], picture)
            bar.update()
    with written_whole(folder / TABLE) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(('image', 'reference', 'label', 'group') + ('previous',) * bool(motion))
        for touch, sources in zip(table.touches, previous):
            writer.writerow((names[touch.image], reference_names[touch.reference] if touch.reference else '',
                             table.class_names[touch.label], touch.group)
                            + tuple(previous_names[before] for before in sources))
    counts = np.bincount(table.labels, minlength=len(table.class_names)).tolist()
    return Extracted(folder / TABLE, len(table), len(numbers), len(references), dict(zip(table.class_names, counts)))


def _write_picture(folder: Path, names: Sequence[str], picture: NDArray[np.uint8]) -> None:
    for name in names:
        write_png(folder / name, picture)


def _once(touches: Sequence[NamedTouch]) -> list[NamedTouch]:
    """Without images that a bag recorded on one topic at the same time: only one of them could be found again."""
    return list({touch.image: touch for touch in touches}.values())


def _plain(name: str) -> str:
    """A name of one folder or file that every file system accepts and that is not ours; not unique."""
    plain = re.sub(r'[^\w.-]+', '-', name).strip('-.')[:60] or 'x'
    is_taken = plain in (TABLE, REFERENCES) or plain.partition('.')[0].lower() in _DEVICES
    return f'{plain}_' if is_taken else plain
