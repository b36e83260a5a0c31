"""The tool that measures exits of cross-validated networks, on made-up presses."""

import json

import numpy as np
import pytest
from measure_exit_folds import Run, main
from toy_objects import write_presses_of_objects

from vit_tactile_ros import cross_validate
from vit_tactile_ros.foundation.errors import UserError

SMALL = ['--image_size', '32', '32', '--exits', '1', '2', '--feature_map_dim', '8', '--batch_size', '8',
         '--epochs', '1', '--folds', '2', '--device', 'cpu']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The flags of the data, and the runs of two seeds, whose folds differ."""
    folder = tmp_path_factory.mktemp('runs')
    labels = write_presses_of_objects(folder) / 'gelsight_touches' / 'labels.csv'
    flags = ['--data', str(labels), '--label', 'roughness', '--group', 'object', *SMALL]
    for seed in ('0', '1'):
        cross_validate.main([*flags, '--output', str(folder / seed), '--seed', seed])
    return flags, [folder / '0', folder / '1']


def test_images_keep_their_place_whatever_the_folds_of_a_seed(trained):
    flags, folders = trained
    first, second = (Run(folder, flags) for folder in folders)
    assert not np.array_equal(first.parts[0], second.parts[0])
    assert not np.isnan(first.right()).any()
    for run in (first, second):
        for rows, outputs in zip(run.parts, run.folds, strict=True):
            assert np.array_equal(run.right()[:, rows], outputs.right)
    points, cost = first.spent(np.array([0.5, 1.0]), speed=1.0, splits=2)
    assert not np.isnan(points).any() and ((cost >= 0.5) & (cost <= 1)).all()


def test_measures_runs_against_others(trained, capsys):
    flags, folders = trained
    main([str(folders[0]), str(folders[1]), '--against', str(folders[0]), '--images', '3', '--splits', '2', '--',
          *flags])
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert '32 images of 8 groups, 2 runs' in out
    assert list(found['accuracy']) == ['1', '2'] and list(found['steps']) == ['1 to 2']
    by_run = np.array(found['by run'])
    assert found['accuracy']['2'][0] == pytest.approx(by_run[:, 1].mean(), abs=1e-4)
    assert found['gain']['2'][0] == pytest.approx(by_run[:, 1].mean() - by_run[0, 1], abs=2e-4)


def test_outputs_of_other_folds_are_refused(trained):
    """The rows would be those of other images, and every figure wrong."""
    flags, folders = trained
    with pytest.raises(UserError, match='not the outputs of the images'):
        Run(folders[0], [*flags, '--folds', '4'])
