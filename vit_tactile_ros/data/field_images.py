"""Labelled images of the formats in which others publish them: Parquet with image columns, LeRobot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.bags.find import find_bags, natural
from vit_tactile_ros.data.lerobot import INFO, LeRobot
from vit_tactile_ros.data.parquet_file import ParquetFile, image_of, label_of
from vit_tactile_ros.data.table import DataError, part_of
from vit_tactile_ros.foundation.errors import shown
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class FieldColumns:
    """Which columns hold what; '' is the default of the format."""

    image: str = ''  # of images; LeRobot: a camera
    label: str = ''
    group: str = ''  # frames of one object or recording


@dataclass(frozen=True)
class FieldImage:
    """One labelled image."""

    image: Image
    label: str
    group: str
    split: str  # train, validation, test, or ''
    source: str  # the file, or the episode of a data set
    number: int  # in it
    reference: Image | None = None

    @property
    def where(self) -> str:
        """The source and the number, for errors."""
        return f'{self.source}, row {self.number}'


def is_field_format(path: Path) -> bool:
    """A Parquet file, a folder with some, or a LeRobot data set; raises DataError for a folder with bags, too."""
    if path.is_file() or (path / INFO).is_file():
        return path.suffix.lower() == '.parquet' or path.is_dir()
    files = _files(path) if path.is_dir() else []
    if files and (bags := find_bags(path)):
        raise DataError(f'{path} holds bags ({bags[0]}) and Parquet files ({files[0]}); extract each by itself, into a '
                        'folder of its own')
    return bool(files)


def field_size(path: Path) -> int:
    """Rows that `field_images` reads, for a progress bar; raises DataError for a damaged file."""
    if (path / INFO).is_file():
        return LeRobot(path).frames
    return sum(_rows(file) for file in _files(path))


def field_images(path: Path, columns: FieldColumns) -> Iterator[FieldImage]:
    """The labelled images in the order of files and rows; those without a label are left out.

    Raises DataError naming file, row and column of what cannot be read.
    """
    if (path / INFO).is_file():
        yield from _of_lerobot(LeRobot(path), columns)
        return
    for file in _files(path):
        yield from _of_parquet(file, columns)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob('*.parquet'), key=lambda one: natural(one))


def _rows(file: Path) -> int:
    with ParquetFile(file) as parquet:
        return parquet.rows


def _of_parquet(path: Path, columns: FieldColumns) -> Iterator[FieldImage]:
    split = part_of(re.split(r'[-_.]', path.name)[0]) or ''  # train-00000-of-00002.parquet
    with ParquetFile(path) as file:
        label = columns.label or 'label'
        images = [name for name in file.image_columns() if name != 'reference']
        image = columns.image or (images[0] if len(images) == 1 else 'image')
        if image not in images:
            raise DataError(f'{path} has no image column {shown(image)}; its image columns are '
                            f'{shown(images)}: choose one with --image')
        group = columns.group or ('group' if 'group' in file.columns else '')
        reference = 'reference' if 'reference' in file.image_columns() and image != 'reference' else ''
        names = file.class_names(label)
        for number, row in file.read([name for name in dict.fromkeys((image, label, group, reference)) if name]):
            where = f'{path}, row {number}, column'
            name = label_of(row[label], names, f'{where} {label}')
            if not name:
                continue
            own = label_of(row[group], file.class_names(group), f'{where} {group}') if group else ''
            shown_reference = image_of(row[reference], f'{where} {reference}') if reference and row[reference] else None
            yield FieldImage(image_of(row[image], f'{where} {image}'), name, own, split, str(path), number,
                             shown_reference)


def _of_lerobot(data: LeRobot, columns: FieldColumns) -> Iterator[FieldImage]:
    camera = data.camera(columns.image)
    for episode, images in data.images(camera, columns.label, columns.group):
        first: list[FieldImage] = []  # which the reference is made of
        reference: Image | None = None
        source, split = f'{data.path}, episode {episode.number}', data.split_of(episode.number)
        for number, image, row in images:
            group = (row.group and f'{columns.group} {row.group}') if columns.group else f'episode {episode.number}'
            found = FieldImage(image, row.label, group, split, source, number, reference)
            if reference is None:
                first.append(found)
                if len(first) < min(REFERENCE_FRAMES, episode.length):
                    continue
                if len({one.image.shape for one in first}) > 1:
                    raise DataError(f'{source}: the first images differ in size')
                mean = np.mean([one.image for one in first], axis=0, dtype=np.float64)
                reference = np.rint(mean).astype(np.uint8)
            for one in [found] if found.reference is not None else first:
                if one.label:
                    yield replace(one, reference=reference)
