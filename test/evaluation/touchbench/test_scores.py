"""Scores and their intervals."""

import math

import numpy as np

from vit_tactile_ros.evaluation.metrics import balanced_accuracy
from vit_tactile_ros.evaluation.touchbench.scores import Items, exact


def test_the_score_is_the_balanced_accuracy():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    found = Items(np.arange(60) % 12, labels).score(predicted == labels)
    assert math.isclose(found.value, balanced_accuracy(labels, predicted)) and found.low < found.value < found.high


def test_whole_groups_are_drawn():
    """Twenty equal items of each group must not narrow the interval."""
    groups, right = np.arange(10), np.arange(10) % 2
    one = Items(groups, np.zeros(10)).score(right)
    many = Items(np.repeat(groups, 20), np.zeros(200)).score(np.repeat(right, 20))
    assert one == many and one.high - one.low > 0.5


def test_the_difference_is_paired():
    groups, classes = np.arange(10), np.arange(10) % 2
    right = (np.arange(10) % 3 > 0).astype(float)
    gain = Items(groups, classes).score(right - right)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_groups_that_are_classes_have_equal_weight():
    groups = np.array(['cup'] * 9 + ['ball'])
    items = Items.equal_groups(groups)
    assert items.score(groups == 'ball').value == 0.5 and items.by_group(groups == 'ball') == {'ball': 1.0, 'cup': 0.0}


def test_one_group_has_no_interval():
    assert math.isnan(Items(np.zeros(5), np.zeros(5)).score(np.ones(5)).low)


def test_all_right_is_not_certain():
    found = exact(np.ones(39, bool))
    assert found.value == found.high == 1 and 0.90 < found.low < 0.92
