"""Cross-validation: every image is tested by a network that saw nothing of its group."""

import csv
import json

import cv2
import numpy as np
import pytest

from vit_tactile_ros import calibrate, cross_validate

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
            # The rest picture tells nothing of the class, and no two are the same.
            reference = (90 + 10 * group + rng.integers(0, 3, (32, 32, 3))).astype(np.uint8)
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
    return cross_validate.main(['--data', str(touches), '--output', str(output), *SMALL, *more])


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


@pytest.mark.parametrize(('flags', 'flag'), [
    (['--folds', '4'], 'folds'), (['--control', 'border'], 'control'), (['--lr', '0.001'], 'lr'),
    (['--attention', 'softmax'], 'attention'), (['--seed', '1'], 'seed'), (['--epoch_size', '8'], 'epoch_size'),
    (['--input', 'frame'], 'input'), (['--epochs', '2'], 'epochs'), (['--label', 'other'], 'label'),
    (['--group', 'image'], 'group'), (['--augment', 'gel'], 'augment')])
def test_answers_of_other_settings_are_not_taken(touches, tmp_path, capsys, flags, flag):
    """Figures of one setting reported as those of another."""
    text = touches.read_text().splitlines()
    other = [line + (',other' if not i else f',{line.split(",")[2]}') for i, line in enumerate(text)]
    touches.write_text('\n'.join(other) + '\n')
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 0
    assert run(touches, tmp_path / 'cv', '--epochs', '1', *flags) == 2
    assert f'fold_0 was started with --{flag} ' in capsys.readouterr().err


def test_answers_of_other_images_borders_and_weights_are_not_taken(touches, tmp_path, capsys):
    flags = ['--epochs', '1', '--control', 'border', '--border', '0.2']
    assert run(touches, tmp_path / 'cv', *flags) == 0
    assert run(touches, tmp_path / 'cv', *flags[:-1], '0.3') == 2
    assert '--border 0.2, now it is 0.3' in capsys.readouterr().err
    init = tmp_path / 'cv' / 'fold_0' / 'checkpoint.safetensors'
    assert run(touches, tmp_path / 'cv', *flags, '--init', str(init)) == 2
    assert '--init (not given), now it is ' in capsys.readouterr().err
    copy = touches.with_name('copy.csv')
    copy.write_text(touches.read_text())
    assert run(copy, tmp_path / 'cv', *flags) == 2
    assert f'--data {touches}, now it is ' in capsys.readouterr().err
    lines = touches.read_text().splitlines()
    touches.write_text('\n'.join(lines[:-1]) + '\n')
    assert run(touches, tmp_path / 'cv', *flags) == 2
    assert 'images' in capsys.readouterr().err


def test_half_done_folds_of_other_settings_are_not_gone_on_with(touches, tmp_path, capsys):
    """A fold that was trained on borders and is tested on whole images."""
    assert run(touches, tmp_path / 'cv', '--epochs', '1', '--control', 'border') == 0
    for answers in (tmp_path / 'cv').glob('*/answers.npz'):
        answers.unlink()
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 2
    assert 'fold_0 was started with --control border, now it is none' in capsys.readouterr().err


def test_refuses_before_it_trains(touches, tmp_path, monkeypatch):
    """Answers of another setting in the last fold, found out after hours of training the others."""
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 0
    (tmp_path / 'cv' / 'fold_0' / 'answers.npz').unlink()
    monkeypatch.setattr(cross_validate, 'fit', None)
    assert run(touches, tmp_path / 'cv', '--epochs', '1', '--lr', '0.001') == 2


@pytest.mark.parametrize('damage', [lambda whole: whole[:200], lambda whole: b'', lambda whole: b'garbage' * 20])
def test_damaged_answers_are_made_again(touches, tmp_path, capsys, caplog, damage):
    """A traceback after a full disk."""
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 0
    first = capsys.readouterr().out.splitlines()[-1]
    answers = tmp_path / 'cv' / 'fold_0' / 'answers.npz'
    answers.write_bytes(damage(answers.read_bytes()))
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 0
    assert 'is not a complete file of outputs' in caplog.text and str(answers) in caplog.text
    assert capsys.readouterr().out.splitlines()[-1] == first


def test_a_control_is_tested_on_the_same_folds(touches, tmp_path):
    """References that many images share count as copies of one picture, and would make other folds, or none."""
    lines = touches.read_text().splitlines()
    shared = [lines[0], *(line.replace(line.split(',')[1], 'left0_ref.png') for line in lines[1:])]
    touches.write_text('\n'.join(shared) + '\n')
    parts = []
    for control in ('none', 'reference'):
        assert run(touches, tmp_path / control, '--epochs', '1', '--control', control) == 0
        settings = [json.loads(str(np.load(tmp_path / control / f'fold_{fold}' / 'answers.npz')['key']))['settings']
                    for fold in range(2)]
        parts.append([(s['images'], s['test_images']) for s in settings])
    assert parts[0] == parts[1]


def test_a_fold_is_not_calibrated_on_what_it_was_trained_on(touches, tmp_path, capsys):
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 0
    path = tmp_path / 'cv' / 'fold_0' / 'checkpoint.safetensors'
    assert calibrate.main(['--checkpoint', str(path), '--data', str(touches)]) == 2
    assert 'this checkpoint was trained with --folds 2, now it is (not given)' in capsys.readouterr().err


def test_split_columns_are_said_to_be_ignored(touches, tmp_path, caplog):
    lines = touches.read_text().splitlines()
    touches.write_text('\n'.join(line + (',train' if i else ',split') for i, line in enumerate(lines)) + '\n')
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 0
    assert 'this is ignored, because every image is tested' in caplog.text


@pytest.mark.parametrize(('more', 'message'), [
    (['--folds', '1'], '--folds is 1'), (['--border', '0.7'], '--border is 0.7'), (['--epochs', '0'], 'epochs is 0'),
    (['--data', 'simulator'], '--data is simulator, which has no groups to keep apart')])
def test_refuses_what_makes_no_sense(touches, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as stopped:
        run(touches, tmp_path / 'cv', *more)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_names_what_is_wrong_with_the_data(touches, tmp_path, capsys):
    assert run(touches, tmp_path / 'cv', '--label', 'shape') == 2
    assert "'shape'" in capsys.readouterr().err


def test_every_group_has_its_row(touches, tmp_path, capsys):
    """The mean of groups hides that one object is always wrong; the rows must add up to what is reported."""
    assert run(touches, tmp_path / 'cv', '--epochs', '1') == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    with (tmp_path / 'cv' / 'groups.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert sorted((r['group'], r['class'], r['n']) for r in rows) == sorted(
        (f'{label}{group}', label, '4') for label in ('left', 'right') for group in range(4))
    for i, block in enumerate((1, 2)):
        of_fold = [np.mean([np.mean([float(r[f'accuracy_block_{block}']) for r in rows
                                     if r['fold'] == fold and r['class'] == label]) for label in ('left', 'right')])
                   for fold in ('1', '2')]
        assert np.mean(of_fold) == pytest.approx(result['balanced_accuracy'][i], abs=1e-3)


def test_a_group_that_is_always_wrong_shows(touches, tmp_path):
    """Accuracies of two groups exchanged, which no mean would show: left0 looks like a right one."""
    for i in range(4):
        (touches.parent / f'left0_{i}.png').write_bytes((touches.parent / f'right1_{i}.png').read_bytes())
    assert run(touches, tmp_path / 'cv', '--epochs', '12') == 0
    with (tmp_path / 'cv' / 'groups.csv').open(newline='') as file:
        accuracies = {row['group']: float(row['accuracy_block_2']) for row in csv.DictReader(file)}
    assert accuracies.pop('left0') <= 0.25
    assert min(accuracies.values()) >= 0.75


def test_several_checkpoints_to_start_from(touches, tmp_path, capsys):
    """The message described the first checkpoint, and the folds started from all of them."""
    assert run(touches, tmp_path / 'shallow', '--epochs', '1', '--exits', '1') == 0
    assert run(touches, tmp_path / 'deep', '--epochs', '1', '--exits', '1', '2') == 0
    capsys.readouterr()
    paths = [str(tmp_path / name / 'fold_0' / 'checkpoint.safetensors') for name in ('shallow', 'deep')]
    assert run(touches, tmp_path / 'both', '--epochs', '1', '--exits', '1', '2', '--init', *paths) == 0
    out = capsys.readouterr().out
    assert f'starts from {" ".join(paths)}' in out and 'random weights' not in out


def test_a_plain_vit_to_compare_with(touches, tmp_path, capsys):
    """softmax and one exit, with nothing learned before; and started from Performer weights it says what that is."""
    plain = ['--attention', 'softmax', '--exits', '2', '--epochs', '1']
    assert run(touches, tmp_path / 'plain', *plain) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result['exits'] == [2] and result['taus'] == []
    assert run(touches, tmp_path / 'shipped', *plain, '--init', 'shipped') == 0
    out = capsys.readouterr().out
    assert 'attention is softmax, but these weights were trained with favor_' in out
    assert ('new, with random weights: head 2 (not in the checkpoint)' in out
            or 'new, with random weights: the heads (other classes)' in out)
