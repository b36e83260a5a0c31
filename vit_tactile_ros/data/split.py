"""Splits touches into training, validation and test: groups stay whole, classes keep their proportions."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.table import PARTS, DataError, TouchTable

logger = logging.getLogger(__name__)

Indices = NDArray[np.int64]
_TRIES = 20  # random orders of the groups to choose from; enough to balance large and small groups


@dataclass(frozen=True)
class Split:
    """Indices into a table, increasing; validation and test may be empty."""

    train: Indices
    validation: Indices
    test: Indices


def split_touches(table: TouchTable, validation: float = 0.15, test: float = 0.15, seed: int = 0,
                  by: Literal['auto', 'group', 'frame'] = 'auto') -> Split:
    """The parts of a table: those that its data names, or random ones with the given shares of every class.

    validation, test: shares of the frames, 0 (an empty part) or more, together below 1. Groups are never divided, nor
    are files with identical content. by='frame' is for data whose groups are unknown; 'auto' uses groups if they
    are known. Without groups it warns: neighbouring frames of one press are nearly identical.

    Raises DataError for by='frame' although groups are known, by='group' although they are not, a class without
    training images, and, if the data names the splits, an image or group that is in two of them.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(f'validation is {validation} and test is {test}; must be at least 0 and together below 1')
    if by not in ('auto', 'group', 'frame'):
        raise ValueError(f"by is {by!r}; must be 'auto', 'group' or 'frame'")
    if by == 'frame' and table.has_groups:
        raise DataError(f'{table.origin}: refusing to split by frame, since its {len(set(table.groups))} groups are '
                        f'known ({table.touches[0].group!r}, ...): frames of one group are nearly identical, so '
                        'the result would measure memorisation. Split by group; if the groups are meaningless, load '
                        'without them')
    if by == 'group' and not table.has_groups:
        raise DataError(f'{table.origin} names no groups to split by; give a group column, subfolders of the class '
                        "folders, or file names 'group__image.png'")
    if table.has_splits:
        return _given(table)
    unit_of = _units(table)
    num_units = int(unit_of.max()) + 1
    wanted = 1 + (validation > 0) + (test > 0)
    if num_units < wanted:
        raise DataError(f'{table.origin}: {num_units} group(s) {sorted(set(table.groups))} cannot be divided into '
                        f'{wanted} splits; record more, or set validation or test to 0')
    if not table.has_groups:
        logger.warning('%s names no groups, so it is split by frame: several frames of one press are nearly identical, '
                       'and accuracies would be too high', table.origin)
    counts = np.zeros((num_units, len(table.class_names)), np.int64)
    np.add.at(counts, (unit_of, table.labels), 1)
    rng = np.random.default_rng(seed)
    tries = (_draw(counts, validation, test, rng) for _ in range(_TRIES if num_units < 5000 else 1))
    part_of_unit = min(tries, key=lambda parts: _unevenness(counts, parts, (validation, test)))
    parts = part_of_unit[unit_of]
    split = Split(*(np.flatnonzero(parts == part) for part in range(3)))
    _check(table, split)
    return split


def folds(table: TouchTable, num_folds: int, seed: int = 0, validation: float = 0.0) -> list[Split]:
    """Splits for cross-validation: every touch is in the test part of exactly one of them.

    Groups (without groups: files with identical content) stay whole and classes keep their proportions, by
    scikit-learn's StratifiedGroupKFold. validation: share of the frames that is taken from the training part, also by
    groups. Parts that the data names are ignored. Raises DataError for fewer groups than folds, and for a class that a
    training part would lack because one fold has all of it.
    """
    if num_folds < 2:
        raise ValueError(f'num_folds is {num_folds}; must be at least 2')
    from sklearn.model_selection import StratifiedGroupKFold  # not at the top: the import takes a second

    unit_of = _units(table)
    num_units = int(unit_of.max()) + 1
    if num_units < num_folds:
        raise DataError(f'{table.origin}: {num_units} group(s) cannot make {num_folds} folds; record more, or make '
                        'fewer')
    units_of_class = [len(np.unique(unit_of[table.labels == c])) for c in range(len(table.class_names))]
    if alone := [name for name, count in zip(table.class_names, units_of_class) if count == 1]:
        raise DataError(f'{table.origin}: class {alone[0]!r} has a single group, so the fold that tests it has no '
                        'training image of it; record more groups of it, or remove it')
    splits = []
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    for number, (rest, test) in enumerate(splitter.split(unit_of, table.labels, unit_of)):
        train, chosen = rest, np.empty(0, np.int64)
        if validation > 0:
            counts = np.zeros((num_units, len(table.class_names)), np.int64)
            np.add.at(counts, (unit_of[rest], table.labels[rest]), 1)
            rng = np.random.default_rng((seed, number))
            tries = [_draw(counts, validation, 0.0, rng) for _ in range(_TRIES)]
            parts = min(tries, key=lambda parts: _unevenness(counts, parts, (validation, 0.0)))[unit_of[rest]]
            train, chosen = rest[parts == 0], rest[parts == 1]
        split = Split(np.sort(train), np.sort(chosen), np.sort(test))
        _check(table, split)
        splits.append(split)
    return splits


def _given(table: TouchTable) -> Split:
    parts = np.array([PARTS.index(touch.split) for touch in table.touches])
    part_of_group: dict[str, int] = {}
    for touch, part in zip(table.touches, parts.tolist()):
        if touch.group and part_of_group.setdefault(touch.group, part) != part:
            raise DataError(f'{table.origin}: group {touch.group!r} is both in {PARTS[part_of_group[touch.group]]} and '
                            f'in {PARTS[part]} ({touch.image}): frames of one group are nearly identical. Move it to '
                            'one of them, or name another group')
    for same in _same_pictures(table):
        first = same[0]
        for other in same[1:]:
            if parts[other] != parts[first]:
                raise DataError(f'{table.origin}: {table.touches[first].image} ({PARTS[parts[first]]}) and '
                                f'{table.touches[other].image} ({PARTS[parts[other]]}) are the same image; '
                                'remove it from one of the two')
    split = Split(*(np.flatnonzero(parts == part) for part in range(3)))
    _check(table, split)
    return split


def _check(table: TouchTable, split: Split) -> None:
    labels = table.labels
    for name, part in zip(PARTS, (split.train, split.validation, split.test)):
        present = np.isin(np.arange(len(table.class_names)), labels[part])
        absent = [c for c, there in zip(table.class_names, present) if not there]
        if not absent:
            continue
        if name == 'train' and not len(part):
            raise DataError(f'{table.origin}: {len(table)} images, but none for training; name these too, so that a '
                            'network is not evaluated on them: train=NAMES besides test=NAMES in --splits, or a folder '
                            'train/')
        if name == 'train':
            raise DataError(f'{table.origin}: no training images of the class {absent[0]!r}, which has '
                            f'{int((labels == table.class_names.index(absent[0])).sum())} in all; add some to train')
        if len(part):
            logger.warning('%s: the %s split has no images of %s', table.origin, name, ', '.join(absent))


def _units(table: TouchTable) -> Indices:
    """For every touch the number of its unit, which must stay together: a group, and groups that share an image."""
    key_of = [touch.group or str(touch.image) for touch in table.touches]
    parent = {key: key for key in key_of}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for same in _same_pictures(table):
        for other in same[1:]:
            parent[root(key_of[other])] = root(key_of[same[0]])
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(root(key), len(numbers)) for key in key_of], np.int64)


def _same_pictures(table: TouchTable) -> list[list[int]]:
    """Lists of touches, two or more, whose files hold the same bytes. Messages of bags are not compared."""
    by_size: dict[int, dict[Path, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, touch in enumerate(table.touches):
        if not touch.image.topic:
            try:
                size = touch.image.path.stat().st_size
            except OSError as error:
                raise DataError(f'{table.origin}: {touch.image} cannot be read: {error.strerror}') from error
            by_size[size][touch.image.path].append(index)
    found = []
    for paths in by_size.values():
        if len(paths) == 1:  # no other file has this size: nothing to compare
            found += [indices for indices in paths.values() if len(indices) > 1]
            continue
        by_content: dict[bytes, list[int]] = defaultdict(list)
        for path, indices in paths.items():
            by_content[hashlib.sha256(path.read_bytes()).digest()] += indices
        found += [sorted(indices) for indices in by_content.values() if len(indices) > 1]
    return found


def _draw(counts: Indices, validation: float, test: float, rng: np.random.Generator) -> Indices:
    """The part (0, 1, 2: train, validation, test) of every unit, whose frames per class are counts (units, C).

    Class by class, the rarest first, units in random order go to a part while that brings it closer to its share. As
    long as a class has units enough, every part gets one, and training always keeps one.
    """
    parts = np.zeros(len(counts), np.int64)
    holds = counts > 0
    left = holds.sum(axis=0)  # units of every class that are still in train
    order = rng.permutation(len(counts))
    scarce_first = np.argsort(left, kind='stable')
    members = {c: order[holds[order, c]] for c in scarce_first}
    for part, share in ((2, test), (1, validation)):
        if share <= 0:
            continue
        have = np.zeros(counts.shape[1])
        wanted = share * counts.sum(axis=0)
        # Test comes first and keeps one more for validation if there are three.
        reserve = np.where((part == 2) & (validation > 0) & (holds.sum(axis=0) >= 3), 2, 1)
        for c in scarce_first:
            for unit in members[c]:
                if left[c] <= reserve[c] or (have[c] > 0 and have[c] >= wanted[c]):
                    break
                if parts[unit] or (left - reserve)[holds[unit]].min() < 1:
                    continue
                closer = abs(have[c] + counts[unit, c] - wanted[c]) < abs(have[c] - wanted[c])
                if closer or have[c] == 0:
                    parts[unit] = part
                    have += counts[unit]
                    left = left - holds[unit]
    return parts


def _unevenness(counts: Indices, parts: Indices, shares: Sequence[float]) -> float:
    """How far the parts are from their shares of every class; a class that a part lacks weighs most."""
    total = np.maximum(counts.sum(axis=0), 1)
    badness = 0.0
    for part, share in enumerate(shares, start=1):
        got = counts[parts == part].sum(axis=0) / total
        badness += float(((got - share) ** 2).sum()) + (float((got == 0).sum()) if share > 0 else 0.0)
    return badness
