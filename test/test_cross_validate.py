"""Cross-validation: every image is tested by a network that saw nothing of its group."""

import json

import cv2
import numpy as np
import pytest

from vit_tactile_ros.cross_validate import main

SMALL = ['--image_size', '32', '32', '--exits', '1', '2', '--feature_map_dim', '8', '--batch_size', '8',
         '--epochs', '3', '--folds', '2', '--lr', '0.003', '--augment', 'none', '--label_smoothing', '0',
         '--device', 'cpu']


@pytest.fixture
def touches(tmp_path):
    """Two classes that a bright half tells apart; four groups of four images, each group with its own reference."""
    rng = np.random.default_rng(0)
    lines = ['image,reference,label,group']
    for label in ('left', 'right'):
        for group in range(4):
            # The rest picture tells nothing of the class.
            reference = np.full((32, 32, 3), 90 + 10 * group, np.uint8)
            cv2.imwrite(str(tmp_path / f'{label}{group}_ref.png'), reference)
            for i in range(4):
                image = reference + rng.integers(0, 4, reference.shape, np.uint8)
                image[8:24, 8:16] += 100 if label == 'left' else 0
                image[8:24, 16:24] += 100 if label == 'right' else 0
                cv2.imwrite(str(tmp_path / f'{label}{group}_{i}.png'), image)
                lines.append(f'{label}{group}_{i}.png,{label}{group}_ref.png,{label},{label}{group}')
    path = tmp_path / 'labels.csv'
    path.write_text('\n'.join(lines) + '\n')
    return path


def run(touches, output, *more):
    return main(['--data', str(touches), '--output', str(output), *SMALL, *more])


def test_learns_what_is_there_to_learn(touches, tmp_path, capsys):
    assert run(touches, tmp_path / 'cv', '--epochs', '12') == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result['images'] == 32
    assert result['folds'] == 2
    assert result['balanced_accuracy'][-1] >= 0.9
    assert 'confusion' in out
    for row in result['taus']:
        assert sum(row['exit_rates']) == pytest.approx(1, abs=1e-3)
        assert 0 < row['compute_share'] <= 1


@pytest.mark.parametrize('control', ['reference', 'border'])
def test_controls_find_nothing_where_only_the_touch_tells(touches, tmp_path, capsys, control):
    """A control that leaked the touch would be right as often as the network that sees it."""
    assert run(touches, tmp_path / 'cv', '--epochs', '12', '--control', control) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result['control'] == control
    assert result['balanced_accuracy'][-1] <= 0.75


def test_goes_on_with_the_folds_that_are_done(touches, tmp_path, capsys):
    assert run(touches, tmp_path / 'cv') == 0
    first = capsys.readouterr().out.splitlines()[-1]
    done = (tmp_path / 'cv' / 'fold_0' / 'answers.npz').stat().st_mtime_ns
    (tmp_path / 'cv' / 'fold_1' / 'answers.npz').unlink()
    assert run(touches, tmp_path / 'cv') == 0
    assert capsys.readouterr().out.splitlines()[-1] == first
    assert (tmp_path / 'cv' / 'fold_0' / 'answers.npz').stat().st_mtime_ns == done


def test_answers_of_other_folds_are_not_taken(touches, tmp_path, capsys):
    assert run(touches, tmp_path / 'cv') == 0
    assert run(touches, tmp_path / 'cv', '--folds', '4') == 1
    assert 'another fold' in capsys.readouterr().err


@pytest.mark.parametrize(('more', 'message'), [
    (['--folds', '1'], '--folds is 1'), (['--border', '0.7'], '--border is 0.7'), (['--epochs', '0'], 'epochs is 0')])
def test_refuses_what_makes_no_sense(touches, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as stopped:
        run(touches, tmp_path / 'cv', *more)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_names_what_is_wrong_with_the_data(touches, tmp_path, capsys):
    assert run(touches, tmp_path / 'cv', '--label', 'shape') == 1
    assert "'shape'" in capsys.readouterr().err
