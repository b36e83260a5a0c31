"""sweep end to end on toy sizes: its figures agree with one another, with what is decided live, and with its files."""

import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from toy_outputs import toy_checkpoint

from vit_tactile_ros import sweep
from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.split import split_touches
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.evaluation.outputs import collect_outputs, inputs_of
from vit_tactile_ros.evaluation.parts import SEEDS
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import Calibration, DropBound, load_checkpoint, save_checkpoint
from vit_tactile_ros.simulator import CLASS_NAMES

PICTURES = ['confusion.png', 'per_class.png', 'reliability.png']
CALIBRATION = Calibration((1.2, 0.9, 1.1), 0.5, (DropBound(0.01, 0.95, (0.7, 0.7)),), 100, (0.0, 0.0, 0.0))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The folder, standard output and checkpoint of a finished sweep."""
    folder = tmp_path_factory.mktemp('sweep')
    path = folder / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(names=CLASS_NAMES, calibration=CALIBRATION))
    done = subprocess.run(
        [sys.executable, '-m', 'vit_tactile_ros.sweep', '--checkpoint', str(path), '--tau_start', '0.2',
         '--tau_end', '0.9', '--n_steps', '4', '--size', '60', '--timing_images', '10', '--timing_rounds', '2',
         '--output', str(folder / 'out')], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / 'out', done.stdout, path


def test_rows_are_what_the_live_classifier_decides(finished):
    """A sweep on stored logits that says otherwise than the network run image by image."""
    _, output, path = finished
    checkpoint = load_checkpoint(path)
    frames = SimulatedTouches(60, checkpoint.preprocessing, SEEDS['test'], task='indenters')
    labels = np.array([frames[i][2] for i in range(60)])
    classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
    inputs = inputs_of(frames, checkpoint.preprocessing, range(60))
    rows = [r for r in json.loads(output.splitlines()[-1])['rows'] if r['choice'] == 'sweep']
    assert [r['tau'][0] for r in rows] == pytest.approx([0.2, 0.433333, 0.666667, 0.9])
    full = np.mean([d.class_id for d in classifier.classify_inputs(inputs, (1.0, 1.0))] == labels)
    for row in rows:
        decisions = [classifier.classify_inputs(inputs[i:i + 1], tuple(row['tau']))[0] for i in range(60)]
        assert row['accuracy'] == pytest.approx(np.mean([d.class_id for d in decisions] == labels))
        assert row['drop'] == pytest.approx(full - row['accuracy'])
        assert row['exit_rates'] == pytest.approx([np.mean([d.exit_index == i for d in decisions]) for i in range(3)])
        assert row['compute_share'] == pytest.approx(np.mean([d.compute_share for d in decisions]))
    assert len({tuple(r['exit_rates']) for r in rows}) > 2


def test_json_csv_and_pictures_agree(finished):
    """A table, a file and a line that come from different runs; pictures that are missing."""
    folder, output, _ = finished
    result = json.loads(output.splitlines()[-1])
    assert sorted(p.name for p in folder.iterdir()) == [*PICTURES, 'sweep.csv', 'trade_off.png']
    with (folder / 'sweep.csv').open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(result['rows']) == 4 + 3 + 1
    for line, row in zip(table, result['rows'], strict=True):
        assert line['choice'] == row['choice'] and float(line['tau_block_1']) == row['tau'][0]
        assert float(line['speed_up_percent']) == row['speed_up_percent']
        assert row['speed_up_percent'] == pytest.approx(100 * (1e3 * result['timing']['full'] / row['time_ms'] - 1))
    assert all(cv2.imread(str(folder / p)) is not None for p in (*PICTURES, 'trade_off.png'))
    assert [r['choice'] for r in result['rows']] == ['sweep'] * 4 + [
        '0.1 points', '0.4 points', '0.7 points', 'bound 0.01']
    assert [r['tau'] for r in result['rows'] if r['choice'] == 'bound 0.01'] == [[0.7, 0.7]]
    assert result['data'] == {name: f'60 simulated touches ({name}, seed {SEEDS[name]})' for name in SEEDS}
    assert result['temperatures'] == [1.2, 0.9, 1.1]


def test_thresholds_are_chosen_on_validation(finished):
    """Thresholds chosen on the samples that they are reported on."""
    from vit_tactile_ros.evaluation.calibration import lowest_tau
    _, output, path = finished
    checkpoint = load_checkpoint(path)
    chosen = {r['choice']: tuple(r['tau']) for r in json.loads(output.splitlines()[-1])['rows']}
    frames = SimulatedTouches(60, checkpoint.preprocessing, SEEDS['validation'], task='indenters')
    validation = collect_outputs(checkpoint.model, frames,
                                 checkpoint.preprocessing)
    for drop, name in ((0.001, '0.1 points'), (0.004, '0.4 points'), (0.007, '0.7 points')):
        assert chosen[name] == lowest_tau(validation, drop, CALIBRATION.temperatures)


def test_own_touches(tmp_path, capsys):
    """Rows of another part, or of other pictures, than the test part of the user's."""
    rng = np.random.default_rng(0)
    for name in ('nothing', 'ball', 'edge', 'weave'):
        for recording in range(5):
            picture = tmp_path / 'data' / name / f'{name}{recording}__0.png'
            picture.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(picture), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / 'data' / 'reference.png'), np.full((32, 32, 3), 100, np.uint8))
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint())
    flags = ['--checkpoint', str(path), '--data', str(tmp_path / 'data'), '--timing_rounds', '0', '--output',
             str(tmp_path / 'out'), '--validation', '0.2']
    assert sweep.main([*flags, '--test', '0.4']) == 0
    output = capsys.readouterr().out
    assert 'validation images, and there are 4: the thresholds chosen on them may lose more' in output
    result = json.loads(output.splitlines()[-1])
    assert result['data']['test'] == f'8 images of {tmp_path / "data"} (test)'
    checkpoint = load_checkpoint(path)
    table = load_touches(tmp_path / 'data', class_names=checkpoint.class_names)
    frames = TouchFrames(table.subset(split_touches(table, 0.2, 0.4).test), checkpoint.preprocessing)
    right = collect_outputs(checkpoint.model, frames, checkpoint.preprocessing).right
    assert result['accuracy_per_exit'] == pytest.approx(right.mean(axis=1).tolist())
    assert sweep.main([*flags, '--test', '0']) == 2
    assert 'no test images; --test is 0: give a larger share' in capsys.readouterr().err


@pytest.mark.parametrize('exits', ((3,), (1, 2, 3, 4, 5)))
def test_other_numbers_of_exits(tmp_path, exits, capsys):
    """Three exits taken for granted; no time measured."""
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(exits, CLASS_NAMES))
    assert sweep.main(['--checkpoint', str(path), '--size', '30', '--timing_rounds', '0', '--n_steps', '2', '--output',
                       str(tmp_path / 'out')]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(len(r['exit_rates']) == len(exits) and len(r['tau']) == len(exits) - 1 for r in result['rows'])
    assert result['timing'] is None and all(r['time_ms'] is None for r in result['rows'])
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [*PICTURES, 'sweep.csv']


@pytest.mark.parametrize('flags', (
    ['--tau_start', '60'], ['--tau_end', '-1'], ['--n_steps', '0'], ['--timing_rounds', '-1'],
))
def test_arguments_out_of_range(capsys, flags):
    """A percentage for a share."""
    with pytest.raises(SystemExit) as error:
        sweep.main(flags)
    assert error.value.code == 2 and 'must be' in capsys.readouterr().err


def test_mistakes_are_refused(tmp_path, capsys):
    """A traceback, an exit code taken for success, or a folder that can't be made, found out after the work."""
    assert sweep.main(['--checkpoint', 'nowhere', '--output', str(tmp_path)]) == 2
    assert 'no such file' in capsys.readouterr().err
    (tmp_path / 'file').write_text('')
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(names=CLASS_NAMES))
    assert sweep.main(['--checkpoint', str(path), '--output', str(tmp_path / 'file')]) == 1


def test_ctrl_c(tmp_path, monkeypatch, capsys):
    """A traceback in place of a word."""
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(names=CLASS_NAMES))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SimulatedTouches, '__getitem__', interrupted)
    assert sweep.main(['--checkpoint', str(path), '--size', '30', '--output', str(tmp_path / 'out')]) == 130
    assert 'stopped' in capsys.readouterr().err
