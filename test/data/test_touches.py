"""Folders and CSVs to tables of touches, and every mistake in them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from real_data import real_data
from toy_touches import write_csv, write_folders, write_picture

from vit_tactile_ros.data.split import split_touches
from vit_tactile_ros.data.touches import DataError, Source, load_touches, parse_splits


def names(table) -> list[tuple[str, str, str, str]]:
    return [(t.image.path.name, table.class_names[t.label], t.group, t.split) for t in table.touches]


def test_class_folders(tmp_path):
    write_folders(tmp_path, ['smooth/a.png', 'smooth/b.png', 'rough/c.png', '.hidden/d.png'])
    (tmp_path / 'rough' / 'notes.txt').write_text('no picture')
    table = load_touches(tmp_path)
    assert table.class_names == ('rough', 'smooth')
    assert names(table) == [('c.png', 'rough', '', ''), ('a.png', 'smooth', '', ''), ('b.png', 'smooth', '', '')]
    np.testing.assert_array_equal(table.labels, [0, 1, 1])
    assert not table.has_groups and not table.has_splits and len(table) == 3
    assert table.subset([2, 0]).touches == (table.touches[2], table.touches[0])


def test_whole_numbers_are_ordered_as_numbers(tmp_path):
    table = load_touches(write_folders(tmp_path, ['10/a.png', '9/b.png', '0/c.png']))
    assert table.class_names == ('0', '9', '10')


def test_groups_from_subfolders(tmp_path):
    table = load_touches(write_folders(tmp_path, ['smooth/cup/a.png', 'smooth/cup/late/b.png', 'rough/file/c.png']))
    assert table.groups == ['file', 'cup', 'cup']


def test_groups_from_file_names(tmp_path):
    table = load_touches(write_folders(tmp_path, ['smooth/cup__1.png', 'smooth/can__1.png', 'rough/file__a__b.png']))
    assert table.groups == ['file', 'can', 'cup']


def test_a_double_underscore_in_one_name_is_no_group(tmp_path):
    assert not load_touches(write_folders(tmp_path, ['smooth/a__1.png', 'rough/b.png'])).has_groups


def test_some_pictures_without_group(tmp_path):
    write_folders(tmp_path, ['smooth/cup/a.png', 'smooth/b.png', 'rough/file/c.png'])
    with pytest.raises(DataError, match='1 of 3 images have no group.*b.png'):
        load_touches(tmp_path)


def test_split_folders(tmp_path):
    table = load_touches(write_folders(tmp_path, ['train/smooth/a.png', 'train/rough/b.png', 'val/smooth/c.png',
                                                  'Test/rough/d.png']))
    assert table.class_names == ('rough', 'smooth')
    assert {name: split for name, _, _, split in names(table)} == {
        'a.png': 'train', 'b.png': 'train', 'c.png': 'validation', 'd.png': 'test'}


def test_another_folder_beside_train(tmp_path):
    write_folders(tmp_path, ['train/smooth/a.png', 'train/rough/b.png', 'backup/smooth/c.png'])
    with pytest.raises(DataError, match='backup/'):
        load_touches(tmp_path)


def test_the_nearest_reference_counts(tmp_path):
    """And no reference is taken for an example."""
    write_folders(tmp_path, ['reference.png', 'rough/a.png', 'smooth/reference.png', 'smooth/cup/b.png',
                             'smooth/can/reference.png', 'smooth/can/c.png', 'rough/x/d.png'])
    (tmp_path / 'rough' / 'a.png').unlink()
    table = load_touches(tmp_path)
    assert {t.image.path.name: t.reference.path.relative_to(tmp_path).as_posix() for t in table.touches} == {
        'd.png': 'reference.png', 'b.png': 'smooth/reference.png', 'c.png': 'smooth/can/reference.png'}


def test_reference_image_fills_gaps_only(tmp_path):
    write_folders(tmp_path, ['rough/a.png', 'smooth/reference.png', 'smooth/b.png'])
    own = write_picture(tmp_path.parent / 'gel.png')
    table = load_touches(tmp_path, reference_image=own)
    assert [t.reference for t in table.touches] == [Source(own), Source(tmp_path / 'smooth' / 'reference.png')]
    with pytest.raises(DataError, match='nowhere.png does not exist'):
        load_touches(tmp_path, reference_image=tmp_path / 'nowhere.png')


@pytest.mark.parametrize(('files', 'message'), [
    ([], 'no folders'),
    (['a.png', 'b.png'], 'no folders'),
    (['a.png', 'smooth/b.png', 'rough/c.png'], 'a.png is not in a class folder'),
    (['smooth/a.png'], "all 1 images are of the class 'smooth'"),
    (['smooth/a.png', 'rough/reference.png'], 'class folder .*rough has no images'),
])
def test_folders_that_are_no_data(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        load_touches(write_folders(tmp_path, files))


def test_a_folder_that_holds_a_csv_is_not_read_as_classes(tmp_path):
    """images/ and reference/ beside labels.csv would be two classes, and learned perfectly."""
    write_csv(tmp_path / 'labels.csv', [{'image': 'images/a.png', 'reference': 'reference/r.png', 'label': 'x'}])
    with pytest.raises(DataError, match='labels.csv; give that file'):
        load_touches(tmp_path)


def test_prescribed_classes_keep_their_order(tmp_path):
    """A checkpoint evaluated on data that lacks one of its classes."""
    write_folders(tmp_path, ['smooth/a.png'])
    table = load_touches(tmp_path, class_names=['smooth', 'rough'])
    assert table.class_names == ('smooth', 'rough') and table.touches[0].label == 0
    with pytest.raises(DataError, match=r"label 'smooth' of .*a.png is not one of the classes rough, flat"):
        load_touches(tmp_path, class_names=['rough', 'flat'])


@pytest.mark.parametrize('name', ['nowhere', 'notes.txt'])
def test_a_path_that_is_no_data(tmp_path, name):
    (tmp_path / 'notes.txt').write_text('x')
    with pytest.raises(DataError, match=name):
        load_touches(tmp_path / name)


def row(number: int, label: str = 'smooth', **more) -> dict[str, object]:
    return {'image': f'images/{number}.png', 'label': label, **more}


def test_csv(tmp_path):
    path = write_csv(tmp_path / 'labels.csv', [row(0, reference='r.png', group='cup', split='train'),
                                               row(1, 'rough', reference='r.png', group='file', split='val')])
    table = load_touches(path)
    assert names(table) == [('0.png', 'smooth', 'cup', 'train'), ('1.png', 'rough', 'file', 'validation')]
    assert all(t.reference == Source(tmp_path / 'r.png') for t in table.touches)
    assert table.touches[0].image == Source(tmp_path / 'images' / '0.png')


def test_csv_with_other_columns(tmp_path):
    """Columns under other names, a group of two columns, and a reference given by a pattern."""
    rows = [{'file': f'{n}.png', 'object': name, 'press': n, 'gel': gel, 'image': f'{n}.png', 'reference': f'{gel}.png'}
            for n, (name, gel) in enumerate([('cup', 'A'), ('cup', 'B'), ('can', 'A')])]
    path = write_csv(tmp_path / 'index.csv', rows)
    table = load_touches(path, image='file', label='object', group='object+press', reference='{gel}.png')
    assert table.groups == ['cup+0', 'cup+1', 'can+2']
    assert [t.reference.path.name for t in table.touches] == ['A.png', 'B.png', 'A.png']
    assert not load_touches(path, image='file', label='object', group='', reference='').has_groups


def test_a_missing_column_names_the_flag(tmp_path):
    with pytest.raises(DataError, match=r"no column 'label' for the labels; its columns are .*\(--label chooses one\)"):
        load_touches(write_csv(tmp_path / 'index.csv', [{'image': 'a.png', 'kind': 'x'}]))


@pytest.mark.parametrize('separator', [';', '\t'])
def test_csv_from_a_spreadsheet(tmp_path, separator):
    """Another separator and the mark that Excel puts first."""
    write_picture(tmp_path / 'a.png')
    write_picture(tmp_path / 'b.png')
    path = tmp_path / 'labels.csv'
    path.write_text(f'image{separator}label\r\na.png{separator}x\r\nb.png{separator}y\r\n', encoding='utf-8-sig')
    assert load_touches(path).class_names == ('x', 'y')


def test_rows_without_a_label_are_left_out_and_counted(tmp_path, caplog):
    path = write_csv(tmp_path / 'labels.csv', [row(0), row(1, 'rough'), row(2, '')])
    with caplog.at_level(logging.WARNING):
        assert len(load_touches(path)) == 2
    assert 'skipped 1 of 3 rows, whose label is empty' in caplog.text


def test_splits_by_other_names(tmp_path, caplog):
    path = write_csv(tmp_path / 'labels.csv', [row(n, label, split=split) for n, (label, split) in enumerate(
        [('x', 'train'), ('y', 'train'), ('x', 'val_pose'), ('y', 'cross_gel'), ('y', 'no_contact')])])
    with pytest.raises(DataError, match=r'val_pose \(1\).*must be train, validation, test'):
        load_touches(path)
    splits = parse_splits(['train=train', 'val=val_pose', 'test=cross_gel'])
    with caplog.at_level(logging.WARNING):
        table = load_touches(path, splits=splits)
    assert [t.split for t in table.touches] == ['train', 'train', 'validation', 'test']
    assert 'skipped the splits no_contact (1)' in caplog.text
    with pytest.raises(DataError, match='match no row'):
        load_touches(path, splits={'train': ['nothing']})
    assert not load_touches(path, split='').has_splits


def test_parse_splits():
    assert parse_splits(['test=a, b', 'test=c', 'train=d']) == {'test': ('a', 'b', 'c'), 'train': ('d',)}
    for text in ('test', 'test=', 'exam=a', '=a'):
        with pytest.raises(DataError, match='must be one of train, validation, test'):
            parse_splits([text])
    with pytest.raises(ValueError, match="'exam'"):
        load_splits_with_a_wrong_part()


def load_splits_with_a_wrong_part():
    from vit_tactile_ros.data.table import part_of
    part_of('a', {'exam': ['a']})


@pytest.mark.parametrize(('rows', 'arguments', 'message'), [
    ([row(0), row(1)], {'label': 'class'}, "no column 'class' for the labels; its columns are image, label"),
    ([row(0), row(1)], {'image': 'file'}, "no column 'file' for the images"),
    ([row(0), row(1)], {'reference': 'background'}, "no column 'background' for the references"),
    ([row(0), row(1)], {'reference': '{gel}.png'}, "no column 'gel' for the references"),
    ([row(0), row(1)], {'reference': '{gel.png'}, 'neither a column nor a pattern'),
    ([row(0), row(1)], {'group': 'object+press'}, "no column 'object' for the groups"),
    ([row(0), row(1)], {'split': 'part'}, "no column 'part' for the splits"),
    ([row(0, ''), row(1, '')], {}, "the column 'label' is empty in all 2 rows"),
    ([row(0), row(1)], {}, "all 2 images are of the class 'smooth'"),
    ([row(0), row(0, 'rough')], {}, "line 3: .*0.png is labelled 'rough', and 'smooth' above"),
    ([row(0, group='a'), row(1, 'rough', group='')], {}, 'line 3: no group'),
    ([row(0, split='train'), row(1, 'rough', split='')], {}, '1 of 2 images have no split'),
])
def test_wrong_csv(tmp_path, rows, arguments, message):
    with pytest.raises(DataError, match=message):
        load_touches(write_csv(tmp_path / 'labels.csv', rows), **arguments)


@pytest.mark.parametrize(('text', 'message'), [
    (b'', 'no rows'), (b'image,label\n', 'no rows'), (b'image,label\na.png\n', 'line 2: 1 fields'),
    (b'\xff\xfe\x00image!', 'cannot be read as a CSV: it begins as utf-16 and is damaged at byte'),
    (b'\xff\xfe\x00image', 'no rows'),
    (b'image,label\na.png,x\nb.png,y\n', '2 of 2 images are missing'),
    (b'image,label\n' + b'a' * 300 + b'.png,x\n', '1 of 1 images are missing'),  # OSError: File name too long
])
def test_text_that_is_no_csv(tmp_path, text, message):
    path = tmp_path / 'labels.csv'
    path.write_bytes(text)
    with pytest.raises(DataError, match=message):
        load_touches(path)


def test_labels_are_for_bags(tmp_path):
    with pytest.raises(DataError, match='are for bags'):
        load_touches(write_folders(tmp_path, ['a/a.png', 'b/b.png']), labels=tmp_path / 'x.csv')


def test_real_touches():
    table = load_touches(real_data('gelsight_touches/labels.csv'), label='roughness', group='object')
    assert table.class_names == ('rough', 'slightly rough', 'smooth')
    assert all(t.reference is not None for t in table.touches)
    split = split_touches(table)
    objects = [{table.groups[i] for i in part} for part in (split.train, split.validation, split.test)]
    assert not (objects[0] & objects[1] | objects[0] & objects[2] | objects[1] & objects[2])
    shares = np.bincount(table.labels) / len(table)
    for part in (split.validation, split.test):
        assert len(part) / len(table) == pytest.approx(0.15, abs=0.04)
        np.testing.assert_allclose(np.bincount(table.labels[part]) / len(part), shares, atol=0.06)
