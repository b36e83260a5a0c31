"""Labelled touches of a folder of class folders, a CSV, or bags."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from vit_tactile_ros.data.bags.find import find_bags, is_recording
from vit_tactile_ros.data.bags.touches import read_bags
from vit_tactile_ros.data.folders import has_pictures, read_folders
from vit_tactile_ros.data.labels_csv import read_csv
from vit_tactile_ros.data.table import (
    DataError,
    NamedTouch,
    Source,
    Touch,
    TouchTable,
    build_table,
    parse_splits,
)

__all__ = ['DataError', 'Source', 'Touch', 'TouchTable', 'load_touches', 'parse_splits']


def load_touches(path: Path, *, label: str = 'label', group: str = 'group', image: str = 'image',
                 reference: str = 'reference', previous: str = 'previous', split: str = 'split',
                 splits: Mapping[str, Sequence[str]] | None = None, labels: Path | None = None,
                 reference_image: Path | None = None, class_names: Sequence[str] | None = None) -> TouchTable:
    """The touches of `path`; no image is read yet.

    path: a folder of class folders (`folders.read_folders`), a .csv (`labels_csv.read_csv`, which explains label,
    group, image, reference, previous, split and splits), or a bag or a folder of bags (`bags.read_bags`: `labels` is a
    CSV of intervals for bags without label messages). reference_image: one image for all touches without a reference.
    class_names: the classes and their order, if a checkpoint or the user prescribes them.

    Raises DataError for every mistake of the user.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f'{path} does not exist; must be a folder of class folders, a .csv or a bag')
    # Class folders may contain recordings further down; it is a folder of bags if it contains one, or no images.
    is_direct = path.is_file() or is_recording(path) or any(is_recording(child) for child in path.iterdir())
    bags = find_bags(path) if is_direct or not has_pictures(path) else []
    if labels is not None and not bags:
        raise DataError(f'labels {labels} are for bags, and {path} is not a bag')
    found: list[NamedTouch]
    if bags:
        found = read_bags(bags, labels, references=reference_image is None)
    elif path.is_dir():
        found = read_folders(path)
    elif path.suffix.lower() == '.csv':
        found = read_csv(path, image=image, label=label, group=group, reference=reference, previous=previous,
                         split=split, splits=splits)
    else:
        raise DataError(f'{path} is neither a folder of class folders nor a .csv nor a bag (.bag, .mcap, .db3)')
    if reference_image is not None:
        if not Path(reference_image).expanduser().is_file():
            raise DataError(f'reference_image {reference_image} does not exist')
        source = Source(Path(reference_image).expanduser())
        found = [touch if touch.reference else dataclasses.replace(touch, reference=source) for touch in found]
    return build_table(found, str(path), class_names)
