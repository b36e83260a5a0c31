"""Tasks with labelled touches: groups are kept apart, and what would be measured if they were not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toy_objects import write_presses_of_objects

from vit_tactile_ros.data.split import Split
from vit_tactile_ros.evaluation.touchbench.features import BORDER, REFERENCE, TOUCH, Descriptions, pixels
from vit_tactile_ros.evaluation.touchbench.labelled import METRICS, predict, property_task


@pytest.fixture(scope='module')
def task(tmp_path_factory):
    return property_task(write_presses_of_objects(tmp_path_factory.mktemp('data')) / 'gelsight_touches', 'roughness', 4)


def by_frame(task) -> list[Split]:
    """Every second frame of each press is trained: what must not happen."""
    odd = np.arange(len(task.table)) % 2 == 1
    return [Split(np.flatnonzero(odd), np.empty(0, np.int64), np.flatnonzero(~odd))]


def test_objects_are_kept_apart(task):
    """Nothing is common to the objects of a class, so the score is at chance; it is 1 if frames of an object leak."""
    groups = np.array(task.table.groups)
    for seed in (0, 1):
        splits = task.splits(seed)
        assert not any(set(groups[split.train]) & set(groups[split.test]) for split in splits)
        assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(task.table)))
    vectors, = Descriptions().of(pixels(), task.table, TOUCH)
    rows, right = predict(task, vectors, 'pixels', (0, 1))
    assert len(rows) == 16 and right.mean() < 0.75  # 16 presses
    leaky = dataclasses.replace(task, splits=lambda seed: by_frame(task))
    assert predict(leaky, vectors, 'pixels', (0,))[1].mean() == 1


def test_the_evidence_of_a_press_is_averaged(task):
    """One item per press, of its first frame, in the order of the presses."""
    vectors, = Descriptions().of(pixels(), task.table, TOUCH)
    rows, _ = predict(task, vectors, 'pixels', (0,))
    assert [str(task.touches[row]) for row in rows] == sorted(set(task.touches.tolist()))


def test_the_log_loss_is_of_probabilities_that_sum_to_one():
    """Mean log probabilities of several frames, which do not sum to one, scored as they are."""
    evidence, labels = np.log([[0.2, 0.2], [0.1, 0.3]]), np.array([0, 1])
    assert METRICS['log_loss'](evidence, labels) == pytest.approx(-np.log([0.5, 0.75]))
    assert METRICS['accuracy'](evidence, labels).tolist() == [1, 1]


def test_controls_do_not_show_the_touch(task, tmp_path):
    """The border control has only the border, the reference control only the reference; the cache has the same."""
    known = Descriptions(tmp_path)
    touch, border, reference = (known.of(pixels(), task.table, control)[0].reshape(-1, 30, 40, 3)
                                for control in (TOUCH, BORDER, REFERENCE))
    middle = (slice(None), slice(5, 25), slice(6, 34))
    assert np.abs(touch[middle]).mean() > 20 and not border[middle].any()
    assert np.allclose(border[:, :4], touch[:, :4])
    assert np.unique(reference).tolist() == [90 - 128, 91 - 128]
    again = Descriptions(tmp_path)
    assert np.array_equal(again.of(pixels(), task.table, BORDER)[0].reshape(border.shape), border)
    assert len(list(tmp_path.iterdir())) == 3
