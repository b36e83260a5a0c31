"""Splits and folds: what must stay together does, and what can't be split fairly is refused."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy_touches import write_csv, write_folders

from vit_tactile_ros.data.split import Split, folds, split_touches
from vit_tactile_ros.data.table import Source, Touch, TouchTable
from vit_tactile_ros.data.touches import DataError, load_touches


def table_of(labels, groups, splits=None) -> TouchTable:
    """Touches whose pictures lie in bags, so that no file is asked for."""
    touches = tuple(Touch(Source(Path('bag'), '/image_raw', n), None, int(label), str(group), split)
                    for n, (label, group, split) in enumerate(zip(labels, groups, splits or itertools.repeat(''))))
    return TouchTable(tuple(f'class {c}' for c in range(int(max(labels)) + 1)), touches, 'toy')


def random_table(seed: int, num_classes: int = 4, num_groups: int = 40, mixed: bool = False) -> TouchTable:
    rng = np.random.default_rng(seed)
    labels, groups = [], []
    for group in range(num_groups):
        size = int(rng.integers(1, 30))
        labels += rng.integers(0, num_classes, size).tolist() if mixed else [group % num_classes] * size
        groups += [f'g{group}'] * size
    return table_of(labels, groups)


def parts_of(split: Split):
    return split.train, split.validation, split.test


def assert_is_partition(table: TouchTable, split: Split) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate(parts_of(split))), np.arange(len(table)))
    for part in parts_of(split):
        assert (np.diff(part) > 0).all()
    groups = [{table.groups[i] for i in part} for part in parts_of(split)]
    for a, b in itertools.combinations(groups, 2):
        assert not a & b


@pytest.mark.parametrize('mixed', [False, True])
@pytest.mark.parametrize('seed', range(5))
def test_groups_are_kept_apart_and_classes_in_proportion(seed, mixed):
    table = random_table(seed, mixed=mixed)
    split = split_touches(table, 0.2, 0.2, seed)
    assert_is_partition(table, split)
    total = np.bincount(table.labels)
    for part in (split.validation, split.test):
        np.testing.assert_allclose(np.bincount(table.labels[part], minlength=4) / total, 0.2, atol=0.1)


def test_every_part_gets_every_class_that_has_three_groups():
    """Seven folds by the usual tools leave most classes out of the test part when each has few groups."""
    groups = [f'{c}/{g}' for c in range(19) for g in range(3) for _ in range(12)]
    table = table_of([int(group.split('/')[0]) for group in groups], groups)
    for part in parts_of(split_touches(table)):
        assert len(np.unique(table.labels[part])) == 19


def test_a_class_with_one_group_is_trained_on():
    groups = [f'a{n}' for n in range(10)] + [f'b{n}' for n in range(10)] + ['c'] * 5
    table = table_of([0] * 10 + [1] * 10 + [2] * 5, groups)
    split = split_touches(table, 0.2, 0.2)
    assert (table.labels[split.train] == 2).sum() == 5


def test_the_same_seed_the_same_split():
    table = random_table(0)
    one, again, other = (split_touches(table, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.test, again.test)
    assert not np.array_equal(one.test, other.test)


def test_empty_parts():
    table = random_table(0)
    split = split_touches(table, validation=0, test=0.2)
    assert len(split.validation) == 0 and len(split.test) > 0
    split = split_touches(table, validation=0, test=0)
    np.testing.assert_array_equal(split.train, np.arange(len(table)))
    for wrong in ((-0.1, 0.1), (0.5, 0.5), (float('nan'), 0.1)):
        with pytest.raises(ValueError, match='together below 1'):
            split_touches(table, *wrong)


def test_by_frame_is_refused_when_groups_are_known():
    """The fault behind most too good figures on touch: neighbouring frames of a press in both parts."""
    table = random_table(0)
    with pytest.raises(DataError, match='refusing to split by frame, since its 40 groups are known'):
        split_touches(table, by='frame')
    with pytest.raises(ValueError, match="by is 'press'"):
        split_touches(table, by='press')


def test_without_groups_it_warns(tmp_path, caplog):
    table = load_touches(write_folders(tmp_path, [f'{c}/{n}.png' for c in 'ab' for n in range(10)]))
    with caplog.at_level(logging.WARNING):
        split = split_touches(table, 0.2, 0.2)
    assert 'nearly identical' in caplog.text
    assert [len(part) for part in parts_of(split)] == [12, 4, 4]
    with pytest.raises(DataError, match='names no groups to split by'):
        split_touches(table, by='group')


@pytest.mark.parametrize('grouped', [False, True])
def test_copies_of_a_picture_stay_together(tmp_path, grouped):
    """A file copied under another name must not be trained and tested on, whatever group it is said to be of."""
    rows = [{'image': f'{n}.png', 'label': 'ab'[n % 2], 'group': n} for n in range(40)]
    path = write_csv(tmp_path / 'labels.csv', rows)
    for n in range(0, 20, 2):
        shutil.copy(tmp_path / f'{n}.png', tmp_path / f'{n + 20}.png')
    table = load_touches(path, group='group' if grouped else '')
    for seed in range(5):
        for split in (split_touches(table, 0.2, 0.2, seed), *folds(table, 4, seed)):
            part = {int(table.touches[i].image.path.stem): p
                    for p, indices in enumerate(parts_of(split)) for i in indices}
            assert all(part[n] == part[n + 20] for n in range(0, 20, 2))


def test_too_few_groups():
    with pytest.raises(DataError, match=r"2 group\(s\) \['a', 'b'\] cannot be divided into 3 splits"):
        split_touches(table_of([0, 1, 0, 1], 'aabb'))


def test_given_splits_win():
    table = table_of([0, 1, 0, 1, 0], 'abcde', ['train', 'train', 'test', 'validation', 'train'])
    split = split_touches(table, 0.5, 0.4, seed=9)
    assert [part.tolist() for part in parts_of(split)] == [[0, 1, 4], [3], [2]]


def test_a_split_column_that_names_no_training_pictures():
    """`--splits test=new_pose` alone: a message about one class, and the advice to add pictures to it."""
    with pytest.raises(DataError, match='4 images, but none for training.*train=NAMES besides test=NAMES'):
        split_touches(table_of([0, 1, 0, 1], ['a', 'b', 'c', 'd'], ['test'] * 4))


def test_given_splits_that_share_a_group():
    table = table_of([0, 1, 0, 1], 'abac', ['train', 'train', 'test', 'test'])
    with pytest.raises(DataError, match="group 'a' is both in train and in test"):
        split_touches(table)


def test_given_splits_that_share_a_picture(tmp_path):
    write_folders(tmp_path, ['train/a/1.png', 'train/b/2.png', 'test/a/3.png', 'test/b/4.png'])
    shutil.copy(tmp_path / 'train' / 'a' / '1.png', tmp_path / 'test' / 'a' / 'copy.png')
    with pytest.raises(DataError, match=r'copy.png \(test\).*are the same image|1.png \(train\).*copy.png'):
        split_touches(load_touches(tmp_path))


def test_a_class_without_training_pictures(tmp_path):
    write_folders(tmp_path, ['train/a/1.png', 'train/b/2.png', 'test/c/3.png'])
    with pytest.raises(DataError, match="no training images of the class 'c', which has 1 in all"):
        split_touches(load_touches(tmp_path))


@pytest.mark.parametrize('validation', [0.0, 0.2])
def test_folds_test_every_touch_once(validation):
    table = random_table(1)
    splits = folds(table, 5, seed=2, validation=validation)
    for split in splits:
        assert_is_partition(table, split)
        assert (len(split.validation) > 0) == (validation > 0)
        assert len(np.unique(table.labels[split.train])) == 4
    np.testing.assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(len(table)))
    again = folds(table, 5, seed=2, validation=validation)
    assert all(np.array_equal(a.train, b.train) for a, b in zip(splits, again))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(splits, folds(table, 5, seed=3)))


def test_folds_that_cannot_be_made():
    with pytest.raises(DataError, match=r'3 group\(s\) cannot make 5 folds'):
        folds(table_of([0, 1, 0], 'abc'), 5)
    with pytest.raises(DataError, match="class 'class 1' has a single group"):
        folds(table_of([0, 0, 0, 1], 'abcd'), 2)
    with pytest.raises(ValueError, match='num_folds is 1'):
        folds(random_table(0), 1)


def test_folds_ignore_given_splits():
    table = random_table(0)
    marked = dataclasses.replace(table, touches=tuple(dataclasses.replace(t, split='train') for t in table.touches))
    assert len(folds(marked, 3)[0].test) > 0


def test_many_frames_without_groups_take_no_time():
    table = table_of(np.arange(20_000) % 7, [''] * 20_000)
    split = split_touches(table)
    assert len(split.test) == pytest.approx(3000, abs=10)
