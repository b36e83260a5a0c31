"""Labelled bags: images, their labels by header or by interval, groups, references, and what is wrong with a bag."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_bags import START, STEP, write_bag, write_intervals
from toy_touches import picture

from vit_tactile_ros.data.bags.find import find_bags
from vit_tactile_ros.data.bags.images import sensor_of
from vit_tactile_ros.data.bags.types import TACTILE_LABEL
from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.split import split_touches
from vit_tactile_ros.data.touches import DataError, load_touches
from vit_tactile_ros.inference.motion import Motion
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.model import PreprocessingConfig

PREPROCESSING = PreprocessingConfig(image_size=(24, 32), reference='difference')
TOUCHES: list[str | None] = ['none', 'none', 'ring', 'ring', 'none', 'ring', None]


@pytest.mark.parametrize(('kind', 'compressed'), [('db3', False), ('db3', True), ('mcap', False), ('bag', False),
                                                  ('bag', True)])
def test_labels_by_header(tmp_path, kind, compressed, caplog):
    """Of every kind of bag: the labels of the images with the same header, one group per touch, the very pixels."""
    path = write_bag(tmp_path / ('touch.bag' if kind == 'bag' else 'touch'), {'left': TOUCHES}, kind, compressed)
    with caplog.at_level(logging.WARNING):
        table = load_touches(path)
    assert [table.class_names[t.label] for t in table.touches] == TOUCHES[:-1]
    assert table.groups == [f'touch/left/{n}' for n in (1, 1, 2, 2, 3, 4)]
    assert "left out 1 images of sensor 'left' without a label" in caplog.text
    frames = TouchFrames(table, PREPROCESSING)
    for number in range(6):
        frame, reference, label = frames[number]
        np.testing.assert_array_equal(frame, picture(number))
        np.testing.assert_allclose(reference, np.mean([picture(n) for n in range(5)], axis=0), atol=0.51)
        assert table.class_names[label] == TOUCHES[number]
    np.testing.assert_array_equal(TouchFrames(table, PREPROCESSING, cache=False)[3][0], picture(3))


@pytest.mark.parametrize('name', ['touch.mcap', 'touch.db3'])
def test_the_file_in_the_folder_is_a_bag_too(tmp_path, name):
    folder = write_bag(tmp_path / 'touch', {'': TOUCHES}, name.split('.')[1])
    assert len(load_touches(folder / name)) == 6


def test_two_sensors_do_not_mix(tmp_path):
    """Both stamped at the same moment: each image has the label of its own sensor, in groups of its own."""
    table = load_touches(write_bag(tmp_path / 'b', {'left': ['a', 'a', 'b'], 'hand/right': ['b', 'a', 'a']}))
    assert sorted((t.image.topic, t.image.stamp, table.class_names[t.label], t.group) for t in table.touches) == [
        ('/hand/right/image_raw', START, 'b', 'b/hand/right/1'),
        ('/hand/right/image_raw', START + STEP, 'a', 'b/hand/right/2'),
        ('/hand/right/image_raw', START + 2 * STEP, 'a', 'b/hand/right/2'),
        ('/left/image_raw', START, 'a', 'b/left/1'),
        ('/left/image_raw', START + STEP, 'a', 'b/left/1'),
        ('/left/image_raw', START + 2 * STEP, 'b', 'b/left/2')]


def test_a_folder_of_bags(tmp_path):
    """And touches of the same number in two of them are two groups."""
    for name in ('one', 'two'):
        write_bag(tmp_path / name, {'': TOUCHES})
    table = load_touches(tmp_path)
    assert len(table) == 12 and len(set(table.groups)) == 8
    assert split_touches(table, 0.2, 0.2).test.size


@pytest.mark.parametrize('count', [3, 7])
def test_the_reference_is_the_one_that_the_node_takes(tmp_path, count):
    """Training on the difference to another picture than the robot subtracts; a bag shorter than the mean."""
    table = load_touches(write_bag(tmp_path / 'b', {'left': ['a', 'b'] * (count // 2) + ['a'], 'right': ['b'] * 2}))
    live = Reference()
    for number in range(count):
        live.update(fit(picture(number), PREPROCESSING))
    for cache in (True, False):
        _, reference, _ = TouchFrames(table, PREPROCESSING, cache=cache)[0]
        np.testing.assert_allclose(reference, live.frame, atol=0.51)
        assert not np.array_equal(reference, picture(0))


def test_what_the_node_skips_is_no_part_of_the_reference(tmp_path):
    """A damaged picture before the first touch would take the whole bag with it."""
    labels = write_intervals(tmp_path / 'l.csv', '0.2,0.4,a', '0.4,0.7,b')
    table = load_touches(write_bag(tmp_path / 'b', {'': [None] * 7}, broken=1), labels=labels)
    wanted = np.mean([picture(n) for n in (0, 2, 3, 4, 5)], axis=0)
    np.testing.assert_allclose(TouchFrames(table, PREPROCESSING)[0][1], wanted, atol=0.51)


def test_reference_image_instead_of_the_first(tmp_path):
    gel = tmp_path / 'gel.png'
    cv2.imwrite(str(gel), cv2.cvtColor(picture(99), cv2.COLOR_RGB2BGR))
    table = load_touches(write_bag(tmp_path / 'b', {'': TOUCHES}), reference_image=gel)
    np.testing.assert_array_equal(TouchFrames(table, PREPROCESSING)[2][1], picture(99))


@pytest.mark.parametrize('offset', [0, START // 10**9], ids=['from start', 'absolute'])
def test_labels_by_interval(tmp_path, offset):
    bag = write_bag(tmp_path / 'b', {'left': [None] * 8})
    labels = write_intervals(tmp_path / 'l.csv', f'{offset + 0.2},{offset + 0.4},ring',
                             f'{offset + 0.5},{offset + 9},flat')
    table = load_touches(bag, labels=labels)
    assert [(round((t.image.stamp - START) / STEP), table.class_names[t.label], t.group) for t in table.touches] == [
        (2, 'ring', 'b/left/2'), (3, 'ring', 'b/left/2'), (5, 'flat', 'b/left/3'), (6, 'flat', 'b/left/3'),
        (7, 'flat', 'b/left/3')]


def test_intervals_of_a_sensor_and_a_bag(tmp_path):
    for name in ('one', 'two'):
        write_bag(tmp_path / name, {'left': [None] * 4, 'right': [None] * 4})
    labels = write_intervals(tmp_path / 'l.csv', 'one,left,0,9,ring', 'two,,0,0.2,flat',
                             columns='bag,sensor,start,end,label')
    table = load_touches(tmp_path, labels=labels)
    assert {(t.image.path.name, sensor_of(t.image.topic), table.class_names[t.label]) for t in table.touches} == {
        ('one', 'left', 'ring'), ('two', 'left', 'flat'), ('two', 'right', 'flat')}
    assert len(table) == 4 + 2 + 2


def test_rows_of_bags_that_are_not_given_are_passed_over(tmp_path, caplog):
    """One CSV labels a day of recordings, and one of them is trained on: as in a replay."""
    for name in ('one', 'two'):
        write_bag(tmp_path / name, {'left': [None] * 4})
    labels = write_intervals(tmp_path / 'l.csv', 'one,0,0.2,ring', 'one,0.2,9,flat', 'two,0,9,hole',
                             columns='bag,start,end,label')
    with caplog.at_level(logging.WARNING):
        table = load_touches(tmp_path / 'one', labels=labels)
    assert table.class_names == ('flat', 'ring')
    assert 'l.csv: skipped 1 rows of bags that are not given (two)' in caplog.text


def test_a_bag_whose_name_is_misspelt_is_not_lost(tmp_path):
    """Half of the data and a class gone, with a warning among many."""
    for name in ('one', 'two'):
        write_bag(tmp_path / 'day' / name, {'left': [None] * 4})
    labels = write_intervals(tmp_path / 'l.csv', 'one,0,9,ring', 'tow,0,9,flat', columns='bag,start,end,label')
    with pytest.raises(DataError, match='l.csv: no row is of the bag two, and there are rows of tow, which is not'):
        load_touches(tmp_path / 'day', labels=labels)


@pytest.mark.parametrize(('lines', 'columns', 'message'), [
    (['0,1,a'], 'start,stop,label', "no column 'end'"),
    (['x,1,a'], 'start,end,label', "line 2: start 'x'"),
    (['1,1,a'], 'start,end,label', 'line 2: start 1 must be before end 1'),
    (['nan,1,a'], 'start,end,label', "line 2: start 'nan'"),
    (['0,1,'], 'start,end,label', 'line 2: no label'),
    (['0,0.3,a', '0.2,0.5,b'], 'start,end,label', "lines 2 and 3 overlap for sensor 'left'"),
    (['0,1,a,right'], 'start,end,label,sensor', "no sensor 'right' in .*; it has 'left'"),
    (['0,0.2,a', '50,60,b'], 'start,end,label', 'line 3: no image'),
    (['0,1,a,other'], 'start,end,label,bag', 'all rows are of other bags .other.; the given bags are b'),
])
def test_wrong_intervals(tmp_path, lines, columns, message):
    bag = write_bag(tmp_path / 'b', {'left': [None] * 8})
    with pytest.raises(DataError, match=message):
        load_touches(bag, labels=write_intervals(tmp_path / 'l.csv', *lines, columns=columns))


def test_a_bag_without_labels(tmp_path):
    with pytest.raises(DataError, match='has no labels.*give labels, a CSV'):
        load_touches(write_bag(tmp_path / 'b', {'left': [None] * 3}))


def test_labels_of_other_images(tmp_path):
    """Labels on a topic that is not beside the images."""
    bag = write_bag(tmp_path / 'b', {'left': [None] * 3, 'right': ['a', 'b', 'a']})
    table = load_touches(bag)
    assert {sensor_of(t.image.topic) for t in table.touches} == {'right'}


def test_one_class_only(tmp_path):
    with pytest.raises(DataError, match="all 3 images are of the class 'a'"):
        load_touches(write_bag(tmp_path / 'b', {'': ['a', 'a', 'a']}))


@pytest.mark.parametrize('name', ['touch.bag', 'touch.mcap', 'touch.db3', 'folder'])
def test_what_is_no_bag(tmp_path, name):
    path = tmp_path / name
    if name == 'folder':
        path.mkdir()
        (path / 'metadata.yaml').write_text('nothing')
    else:
        path.write_bytes(b'nothing')
    with pytest.raises(DataError, match=f'{name} cannot be read as a bag'):
        load_touches(path)


@pytest.mark.parametrize('kind', ['db3', 'mcap', 'bag'])
@pytest.mark.parametrize('has_metadata', [True, False])
def test_a_bag_cut_short(tmp_path, kind, has_metadata, caplog):
    """A bag whose recorder was killed was replayed and refused for training."""
    path = write_bag(tmp_path / ('b.bag' if kind == 'bag' else 'b'), {'': TOUCHES * 10}, kind)
    file = path if kind == 'bag' else next(path.glob(f'*.{kind}'))
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    if kind != 'bag' and not has_metadata:
        (path / 'metadata.yaml').unlink()
    with caplog.at_level(logging.WARNING):
        table = load_touches(path)
    numbers = [round((touch.image.stamp - START) / STEP) for touch in table.touches]
    assert len(numbers) > 15 and numbers == sorted(set(numbers))
    labelled = [name for name in TOUCHES * 10 if name]
    assert [table.class_names[t.label] for t in table.touches] == [
        (TOUCHES * 10)[number] for number in numbers] and len(numbers) < len(labelled)
    assert re.search('cut short|damaged', caplog.text) and file.name in caplog.text
    frames = TouchFrames(table, PREPROCESSING)
    for row, number in enumerate(numbers):
        np.testing.assert_array_equal(frames[row][0], picture(number))


def test_an_image_that_cannot_be_decoded(tmp_path):
    table = load_touches(write_bag(tmp_path / 'b', {'': TOUCHES}, encoding='32FC1'))
    with pytest.raises(DataError, match="b /image_raw at .* ns is not an image.*encoding is '32FC1'"):
        TouchFrames(table, PREPROCESSING)


def test_find_bags(tmp_path):
    assert find_bags(tmp_path) == [] and find_bags(tmp_path / 'x.csv') == []
    bag = write_bag(tmp_path / 'b', {'': TOUCHES})
    assert find_bags(tmp_path) == [bag] and find_bags(bag) == [bag]


@pytest.mark.parametrize(('topic', 'sensor'), [
    ('/left/image_raw', 'left'), ('/left/image_raw/compressed', 'left'), ('/left/label', 'left'), ('/image_raw', ''),
    ('/label', ''), ('/digit/camera/image_raw', 'digit/camera')])
def test_sensor_of(topic, sensor):
    assert sensor_of(topic) == sensor


def test_the_label_type_is_the_package_s():
    """The text that reads bags without types, against the message that is built."""
    text = (Path(__file__).parents[2] / 'msg' / 'TactileLabel.msg').read_text()
    fields = re.findall(r'^(\S+) +(\w+)', re.sub('#.*', '', text), re.MULTILINE)
    assert [' '.join(field) for field in fields] == TACTILE_LABEL.split('\n')[:-1]


def test_bags_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """As replay names them in touches.csv."""
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        write_bag(tmp_path / folder / 'rec', {'left': [None] * 8})
    intervals = write_intervals(tmp_path / 'labels.csv', '0,0.35,ring,one/rec', '0.35,2,none,one/rec',
                                '0,2,none,two/rec', columns='start,end,label,bag')
    table = load_touches(tmp_path, labels=intervals)
    assert [table.class_names[t.label] for t in table.touches] == ['ring'] * 4 + ['none'] * 12


def test_images_for_motion_are_kept_at_the_input_size(tmp_path, monkeypatch):
    """About ten full-size images of each sensor and view were kept; that the inputs are the same: test_one_path.py."""
    kept, update = [], Motion.update

    def noted(self, image, stamp_ns):
        kept.append(image.shape)
        return update(self, image, stamp_ns)

    monkeypatch.setattr(Motion, 'update', noted)
    bag = write_bag(tmp_path / 'b', {'left': ['a'] * 4 + ['b'] * 3})
    preprocessing = PreprocessingConfig(image_size=(8, 8), reference='difference', motion_interval=0.08, motion_views=2)
    assert TouchFrames(load_touches(bag), preprocessing)[0][0].shape == (8, 8, 9)
    assert kept == [(8, 8, 3)] * 7
