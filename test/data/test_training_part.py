"""Judging on training images is found out, and nothing else is mistaken for it."""

from __future__ import annotations

import shutil

import pytest
from toy_touches import write_folders, write_picture

from vit_tactile_ros.data.source import DataSource, SplitSettings, empty_part, read_table, split_table
from vit_tactile_ros.data.touches import DataError
from vit_tactile_ros.data.training_part import check_training_part, training_part


def part(data, **split) -> dict[str, str]:
    source, split = DataSource(str(data)), SplitSettings(**split)
    table = read_table(source)
    return training_part(source, split.values(), table, table.subset(split_table(split, table).train))


@pytest.fixture
def folder(tmp_path):
    return write_folders(tmp_path / 'touches', [f'{c}/g{g}__{i}.png' for c in 'ab' for g in range(6) for i in range(2)])


@pytest.mark.parametrize(('changes', 'said'), (
    ({'split_seed': 7}, 'was trained with --split_seed 0, now it is 7'),
    ({'test': 0.4}, 'was trained with --test 0.15, now it is 0.4'),
))
def test_another_split_is_refused_and_the_flag_named(folder, changes, said):
    before = part(folder)
    check_training_part(before, part(folder), 'touches')
    with pytest.raises(DataError, match=said):
        check_training_part(before, part(folder, **changes), 'touches')


def test_a_moved_folder_is_still_the_same_data(folder, tmp_path):
    """Training images judged on since the folder has another name by now."""
    before = part(folder)
    moved = shutil.move(folder, tmp_path / 'moved')
    check_training_part(before, part(moved), 'moved')
    with pytest.raises(DataError, match='--split_seed 0, now it is 7'):
        check_training_part(before, part(moved, split_seed=7), 'moved')


def test_changed_data_is_refused(folder):
    """More images draw another split, and what was trained on lands in the test part."""
    before = part(folder)
    for seed, name in enumerate(f'{c}/new{g}__0.png' for c in 'ab' for g in range(4)):
        write_picture(folder / name, 100 + seed)
    with pytest.raises(DataError, match='the data has changed since this checkpoint was trained on 16 images'):
        check_training_part(before, part(folder), 'touches')


def test_other_data_and_other_commands_are_fine(folder, tmp_path):
    other = write_folders(tmp_path / 'other', [f'{c}/h{g}__{i}.png' for c in 'ab' for g in range(6) for i in range(2)])
    check_training_part(part(folder), part(other, split_seed=7), 'other')
    check_training_part({}, part(folder), 'touches')


def test_no_path_is_told(folder):
    """A checkpoint that is given away and names its maker's folders."""
    assert not any('/' in value for value in part(folder).values())


def test_flags_without_effect_are_refused(tmp_path):
    """--test 0.5 where the folders say what is for testing, taken and ignored."""
    data = write_folders(tmp_path, [f'{p}/{c}/{n}.png' for p in ('train', 'test') for c in 'ab' for n in range(2)])
    for name, value in {'test': 0.5, 'validation': 0.15, 'split_by': 'auto'}.items():
        with pytest.raises(DataError, match=f'--{name} {value} would have no effect'):
            part(data, **{name: value})
    part(data)


def test_the_remedy_for_an_empty_part_is_one(folder, tmp_path):
    """--validation recommended where the data gives the parts, so that it has no effect."""
    table = read_table(DataSource(str(folder)))
    assert '--validation is 0: give a larger share' in str(empty_part(SplitSettings(validation=0), table, 'validation'))
    data = write_folders(tmp_path / 'parts', [f'{p}/{c}/{p}.png' for p in ('train', 'test') for c in 'ab'])
    said = str(empty_part(SplitSettings(), read_table(DataSource(str(data))), 'validation'))
    assert 'name some of them validation in its split column or folders' in said and '--' not in said
