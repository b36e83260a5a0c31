"""The tool that measures how scores grow with the number of training objects, on made-up presses."""

import json

import numpy as np
import pytest
from measure_training_objects import NEVER, extrapolated, fewer, main
from toy_objects import write_presses_of_objects
from toy_outputs import toy_checkpoint

from vit_tactile_ros.data.split import folds
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import save_checkpoint


def test_fewer_objects_are_balanced_and_part_of_more(tmp_path):
    data = write_presses_of_objects(tmp_path, objects=16)
    table = load_touches(data / 'gelsight_touches' / 'labels.csv', label='roughness', group='object', split='')
    split = folds(table, 2, 0)[0]
    before: set[str] = set()
    for count in (2, 4, 6, 100):
        smaller = fewer(table, split, count, seed=1)
        kept = {table.groups[row] for row in smaller.train}
        labels = {table.groups[row]: table.labels[row] for row in smaller.train}
        assert before <= kept and np.array_equal(smaller.test, split.test)
        if count < 100:
            assert len(kept) == count and sum(labels.values()) == count / 2
        before = kept
    assert np.array_equal(fewer(table, split, 100, seed=1).train, split.train)


def test_a_line_over_the_logarithm_reaches_its_target_and_a_falling_one_never():
    values = [(0.5 + 0.1 * step, np.array([0.4 + 0.1 * step, 0.6 - 0.1 * step])) for step in range(3)]
    doubling, needed = extrapolated((6, 12, 24), values, target=0.9)
    assert doubling.value == pytest.approx(0.1) and needed.value == pytest.approx(6 * 2**4)
    assert (doubling.low, doubling.high) == pytest.approx((-0.095, 0.095))
    # the two draws reach it at 192 objects and never
    assert (needed.low, needed.high) == pytest.approx((192 + 0.025 * (NEVER - 192), 192 + 0.975 * (NEVER - 192)))


def test_counts_that_make_no_curve_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r'counts are \[6\]; must be two or more'):
        main(['--data', str(tmp_path), '--counts', '6'])


def test_measures_from_end_to_end(tmp_path, capsys):
    data, checkpoint = write_presses_of_objects(tmp_path), tmp_path / 'toy.safetensors'
    save_checkpoint(checkpoint, toy_checkpoint(exits=(1,)))
    main(['--data', str(data), '--tasks', 'roughness', '--counts', '4', '3', '--folds', '2', '--seeds', '1',
          '--checkpoint', str(checkpoint), '--figure', str(tmp_path / 'curve.png')])
    out = capsys.readouterr().out
    rows = json.loads(out.splitlines()[-1])['roughness']
    assert [row['method'] for row in rows] == ['handmade', 'checkpoint, block 1']
    assert all(row['counts'] == [3, 4] and set(row['controls']) == {'border', 'reference'} for row in rows)
    assert 'twice as many' in out and (tmp_path / 'curve.png').stat().st_size > 10_000
