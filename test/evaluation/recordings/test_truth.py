"""Labels of bags: by header and by interval, and their problems."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from toy_bags import START, STEP, write_bag, write_intervals

from vit_tactile_ros.data.bags import labels as bag_labels
from vit_tactile_ros.data.bags.labels import read_intervals
from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.evaluation.recordings.truth import Truth

CLASSES = ('none', 'ring', 'flat')


def labels_of(truth: Truth, count: int, sensor: str = 'left') -> list[tuple[int, str]]:
    """The labels of images stamped as by write_bag."""
    found = []
    for number in range(count):
        sec, nanosec = divmod(START + number * STEP - 3_000_000, 10**9)
        found.append(tuple(truth.of(sensor, START + number * STEP, SimpleNamespace(sec=sec, nanosec=nanosec))))
    truth.finish(is_whole=True)
    return found


def test_by_message(tmp_path):
    """Touches are runs of equal labels, as in training."""
    bag = write_bag(tmp_path / 'b', {'left': ['none', 'ring', None, 'ring', 'none', 'cone']})
    with Recording(bag) as recording:
        truth = Truth(bag_labels.labels_of(recording, None, ['left'], 'b'), CLASSES, 'b')
    assert labels_of(truth, 6) == [(0, 'b/left/1'), (1, 'b/left/2'), (-1, ''), (1, 'b/left/2'), (0, 'b/left/3'),
                                   (-1, '')]
    assert len(truth.problems) == 1 and "called 'cone'" in truth.problems[0]


def test_labels_without_an_image(tmp_path):
    bag = write_bag(tmp_path / 'b', {'left': ['none'] * 4})
    with Recording(bag) as recording:
        truth = Truth(bag_labels.labels_of(recording, None, ['left'], 'b'), CLASSES, 'b')
    labels_of(truth, 3)
    assert truth.problems == ['b: 1 of 4 labels have the header stamp of no image beside them']


@pytest.mark.parametrize('offset', [0, START // 10**9], ids=['from start', 'absolute'])
def test_by_interval(tmp_path, offset):
    bag = write_bag(tmp_path / 'b', {'left': [None] * 8, 'right': [None] * 8})
    labels = write_intervals(tmp_path / 'l.csv', f'{offset + 0.1},{offset + 0.3},ring,left',
                             f'{offset + 0.5},{offset + 0.6},flat,', columns='start,end,label,sensor')
    with Recording(bag) as recording:
        truth = Truth(bag_labels.labels_of(recording, read_intervals(labels), ['left', 'right'], 'b'), CLASSES, 'b')
    none = (-1, '')
    assert labels_of(truth, 7) == [none, (1, 'b/left/2'), (1, 'b/left/2'), none, none, (2, 'b/left/3'), none]
    assert labels_of(truth, 7, 'right') == [none] * 5 + [(2, 'b/right/3'), none]
    assert truth.used == {2, 3} and not truth.problems


def test_wrong_intervals_are_named_and_the_rest_counts(tmp_path):
    """Frames in overlapping intervals are unlabelled; an interval outside the bag, or without a sensor, is unused."""
    bag = write_bag(tmp_path / 'b', {'left': [None] * 8})
    labels = write_intervals(tmp_path / 'l.csv', '0,0.3,ring,', '0.2,0.5,flat,', '50,60,flat,', '0,1,ring,right',
                             columns='start,end,label,sensor')
    with Recording(bag) as recording:
        truth = Truth(bag_labels.labels_of(recording, read_intervals(labels), ['left'], 'b'), CLASSES, 'b')
    assert [label for label, _ in labels_of(truth, 6)] == [1, 1, -1, 2, 2, -1]
    assert truth.used == {2, 3}
    assert "lines 2 and 3 overlap for sensor 'left'" in truth.problems[1]
    assert "line 5: no sensor 'right'" in truth.problems[0]
