"""calibrate end to end on toy sizes: what it writes, says and refuses."""

import json
import os
import resource
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from toy_outputs import toy_checkpoint

from vit_tactile_ros import calibrate, train
from vit_tactile_ros.data.simulated import TASKS, SimulatedTouches
from vit_tactile_ros.evaluation.cache import cached_ranges
from vit_tactile_ros.evaluation.outputs import inputs_of
from vit_tactile_ros.evaluation.parts import SEEDS, Part
from vit_tactile_ros.inference.ranges import activation_ranges
from vit_tactile_ros.model import load_checkpoint, save_checkpoint
from vit_tactile_ros.simulator import CLASS_NAMES


@pytest.fixture
def path(tmp_path):
    """A tiny network of the simulator's classes."""
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(names=CLASS_NAMES))
    return path


def answer(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_command_writes_what_the_node_needs(path, tmp_path):
    """The command as a user gives it: a new checkpoint with the same weights, the old one whole, JSON last."""
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, '-m', 'vit_tactile_ros.calibrate', '--checkpoint', str(path),
         '--output', str(tmp_path / 'new.st'), '--size', '80', '--max_accuracy_drop', '0.001', '0.2'],
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before
    result = json.loads(done.stdout.splitlines()[-1])
    old, new = load_checkpoint(path), load_checkpoint(tmp_path / 'new.st')
    assert new.provenance == old.provenance and new.class_names == old.class_names
    for name, tensor in new.model.state_dict().items():
        assert tensor.equal(old.model.state_dict()[name]), name
    calibration = new.calibration
    assert len(calibration.temperatures) == len(calibration.ece) == 3 and calibration.num_samples == 60
    assert [d.max_accuracy_drop for d in calibration.drops] == [0.001, 0.2]
    assert calibration.drops[0].tau == (1.0, 1.0)
    touches = SimulatedTouches(80, old.preprocessing, SEEDS['validation'], task='indenters')
    images = torch.from_numpy(inputs_of(touches, old.preprocessing, range(80)))
    assert np.allclose(calibration.activation_ranges, activation_ranges(old.model, [images]), rtol=1e-4, atol=1e-5)
    assert result['calibration']['activation_ranges'][0] == pytest.approx(calibration.activation_ranges[0], rel=1e-3)
    assert [b['shown'] for b in result['bounds']][0] is False
    default = next(line.split('│') for line in done.stdout.splitlines() if 'without it' in line)
    assert default[2].strip() == f'{calibration.tau:.4g}'
    # Too few samples: how many it takes.
    assert 'needs 3015' in done.stdout and result['bounds'][0]['samples_needed'] == 3015


def test_in_place_and_from_the_cache(path, tmp_path, monkeypatch, capsys):
    """A second run that simulates and runs the network again, or that the new calibration hides the cache from."""
    flags = ['--checkpoint', str(path), '--size', '40', '--cache', str(tmp_path / 'cache')]
    assert calibrate.main(flags) == 0
    first = answer(capsys)
    assert load_checkpoint(path).calibration.drops
    example = SimulatedTouches.__getitem__

    def few(self, index):
        assert index < 5, 'simulated again'  # the first ones tell whether the simulator is the same
        return example(self, index)

    monkeypatch.setattr(SimulatedTouches, '__getitem__', few)
    assert calibrate.main(flags) == 0
    assert answer(capsys)['calibration'] == first['calibration']
    ranges = next((tmp_path / 'cache').glob('ranges-*.json'))
    ranges.write_text(ranges.read_text()[:50])  # by a full disk
    monkeypatch.setattr(SimulatedTouches, '__getitem__', example)
    assert calibrate.main(flags) == 0
    assert answer(capsys)['calibration'] == first['calibration']


def test_ranges_are_of_images_from_all_over():
    """The ranges of one class: tables of touches are often sorted."""
    seen = []

    class Sorted:
        def __getitem__(self, index):
            seen.append(index)
            return torch.zeros(32, 32, 3, dtype=torch.uint8), torch.zeros(32, 32, 3, dtype=torch.uint8), 0

    assert len(cached_ranges(None, toy_checkpoint(), Part(5000, '', '', Sorted))) == 12
    assert len(seen) == 128 and (seen[0], seen[-1]) == (0, 4999) and max(np.diff(seen)) <= 40


def test_check_shows_and_writes_no_checkpoint(path, tmp_path, capsys):
    """A check that changes what it checks."""
    before = path.read_bytes()
    plot = tmp_path / 'plots' / 'check.png'
    assert calibrate.main(['--checkpoint', str(path), '--size', '60', '--check', '5', '--plot', str(plot),
                           '--max_accuracy_drop', '0.1', '0.3']) == 0
    checks = answer(capsys)['check']
    assert [c['max_accuracy_drop'] for c in checks] == [0.1, 0.3] and all(c['rounds'] == 5 for c in checks)
    assert path.read_bytes() == before and cv2.imread(str(plot)) is not None


def test_own_touches(tmp_path, capsys):
    """A user's folder of pictures: the classes of the checkpoint, the validation part of the same split as training."""
    rng = np.random.default_rng(0)
    for name in ('ball', 'edge'):
        for i in range(120):
            (tmp_path / 'data' / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'data' / name / f'{i}.png'), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    reference = tmp_path / 'reference.png'
    cv2.imwrite(str(reference), np.full((32, 32, 3), 100, np.uint8))
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(names=('ball', 'edge')))
    assert calibrate.main(['--checkpoint', str(path), '--data', str(tmp_path / 'data'), '--reference_image',
                           str(reference)]) == 0
    assert answer(capsys)['data'].startswith('36 images of')
    assert load_checkpoint(path).calibration.num_samples == 27


@pytest.fixture
def trained(tmp_path):
    """Labelled pictures, and the folder of a checkpoint that was trained on part of them, on references alone."""
    rng = np.random.default_rng(0)
    for name in ('ball', 'edge'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for i in range(60):
            picture = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'data' / name / f'{name}{i}__x.png'), picture)
    cv2.imwrite(str(tmp_path / 'data' / 'reference.png'), np.full((32, 32, 3), 100, np.uint8))

    def make(*flags):
        assert train.main(['--data', str(tmp_path / 'data'), '--output', str(tmp_path / 'run'), '--epochs', '1',
                           '--exits', '1', '2', '--image_size', '32', '32', '--feature_map_dim', '8', '--device',
                           'cpu', '--workers', '0', '--validation', '0.4', *flags]) == 0
        return ['--data', str(tmp_path / 'data'), '--checkpoint', str(tmp_path / 'run' / 'checkpoint.safetensors')]

    return make


def test_training_images_are_not_calibrated_on(trained, capsys):
    """Other split flags than in training, which make a promise out of images that the network knows by heart."""
    flags = trained()
    assert calibrate.main(flags) == 2
    assert 'this checkpoint was trained with --validation 0.4, now it is 0.15' in capsys.readouterr().err
    assert calibrate.main([*flags, '--validation', '0.4']) == 0


def test_a_control_is_calibrated_as_it_was_trained(trained, capsys):
    flags = [*trained('--control', 'reference'), '--validation', '0.4', '--control', 'reference']
    assert calibrate.main(flags) == 0
    assert answer(capsys)['data'].startswith('48 images of')


def test_a_network_that_looks_at_differences_has_no_such_control(trained, capsys):
    """A refusal that speaks of missing references, where every image has one."""
    assert calibrate.main([*trained(), '--validation', '0.4', '--control', 'reference']) == 2
    assert 'use a network that was trained with --control reference' in capsys.readouterr().err


def test_an_empty_validation_part(trained, capsys):
    assert calibrate.main([*trained('--validation', '0'), '--validation', '0']) == 2
    assert 'no validation images; --validation is 0: give a larger share' in capsys.readouterr().err


@pytest.mark.parametrize(('flags', 'message'), (
    (['--checkpoint', 'nowhere.safetensors'], 'no such file'),
    (['--data', 'nowhere'], 'nowhere does not exist'),
    (['--size', '10'], 'there are 10 samples; must be at least 20'),
    (['--device', 'tpu'], "device is 'tpu'"),
))
def test_mistakes_are_refused(path, capsys, flags, message):
    """A traceback, or an exit code that a script takes for success."""
    before = path.read_bytes()
    assert calibrate.main(['--checkpoint', str(path), *flags]) == 2
    assert message in capsys.readouterr().err
    assert path.read_bytes() == before


def test_classes_that_the_simulator_lacks(tmp_path, capsys):
    """Ten simulated classes judged by a network of four others."""
    save_checkpoint(tmp_path / 'toy.safetensors', toy_checkpoint())
    assert calibrate.main(['--checkpoint', str(tmp_path / 'toy.safetensors')]) == 2
    assert 'give labelled touches with --data' in capsys.readouterr().err


@pytest.mark.parametrize('flags', (['--max_accuracy_drop', '0.5', '1'], ['--confidence', '95'], ['--check', '-1'],
                                   ['--size', '0'], ['--workers', '-1']))
def test_arguments_out_of_range(path, capsys, flags):
    """A percentage for a share."""
    with pytest.raises(SystemExit) as error:
        calibrate.main(['--checkpoint', str(path), *flags])
    assert error.value.code == 2 and 'must be' in capsys.readouterr().err


def test_a_full_disk_leaves_the_checkpoint(path, capsys):
    """The only copy of a trained network replaced by half a file: the system refuses to write on."""
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        assert calibrate.main(['--checkpoint', str(path), '--size', '40']) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'the checkpoint is as it was' in capsys.readouterr().err and path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_shipped_checkpoint_is_not_rewritten(capsys):
    """A file of the installation, replaced because nobody named one."""
    with pytest.raises(SystemExit) as error:
        calibrate.main(['--size', '40'])
    assert error.value.code == 2 and '--output must name a file' in capsys.readouterr().err
    assert calibrate.parse_arguments(['--check', '5']).output is None


def test_a_link_to_a_checkpoint_stays_one(path, tmp_path):
    link = tmp_path / 'link.safetensors'
    link.symlink_to(path)
    assert calibrate.main(['--checkpoint', str(link), '--size', '40']) == 0
    assert link.is_symlink() and load_checkpoint(path).calibration.drops


def test_a_folder_that_refuses_is_found_out_first(path, monkeypatch, capsys):
    """Minutes of work whose result has no place to go."""
    monkeypatch.setattr(SimulatedTouches, '__getitem__', lambda *_: pytest.fail('simulated'))
    monkeypatch.setattr(calibrate, 'cached_outputs', lambda *_: pytest.fail('worked'))
    monkeypatch.setattr(calibrate, 'load_parts', lambda *_: pytest.fail('read the data'))
    assert calibrate.main(['--checkpoint', str(path), '--output', str(path / 'new.safetensors')]) == 1
    assert 'the checkpoint is as it was' in capsys.readouterr().err


def test_ctrl_c_leaves_cleanly(path):
    """A traceback of forty lines, or a process that has to be killed."""
    before = path.read_bytes()
    program = """
import sys
from vit_tactile_ros.calibrate import main
from vit_tactile_ros.data.simulated import SimulatedTouches
example = SimulatedTouches.__getitem__

def noted(self, index):
    if index == 20:
        print('simulates', flush=True)
    return example(self, index)

SimulatedTouches.__getitem__ = noted
sys.exit(main())
"""
    with subprocess.Popen([sys.executable, '-c', program, '--checkpoint', str(path), '--size', '100000'],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line == 'simulates\n':
                process.send_signal(signal.SIGINT)
                break
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and 'nothing was written' in error and 'Traceback' not in error
    assert path.read_bytes() == before


def test_unknown_is_bounded_and_nothing_else_changes(tmp_path, capsys):
    """Only the bias of the class unknown becomes lower, and the second run finds the bound kept."""
    path, names = tmp_path / 'toy.safetensors', TASKS['shapes']
    toy = toy_checkpoint(names=names)
    with torch.no_grad():
        for stage in toy.model.stage_modules:
            stage.head.classify.bias[-1] += 12.0  # reports far too much
    save_checkpoint(path, toy)
    flags = ['--checkpoint', str(path), '--size', '160', '--max_false_unknown', '0.2', '--confidence', '0.9']
    before = load_checkpoint(path).model.state_dict()
    assert calibrate.main(flags) == 0
    told = capsys.readouterr().out
    found = json.loads(told.splitlines()[-1])['unknown']
    assert 'unknown: with lowering its bias by ' in told and found['holds'] and found['bound'] == 0.2
    for name, tensor in load_checkpoint(path).model.state_dict().items():
        changed = tensor != before[name]
        if name.endswith('classify.bias'):
            assert changed.tolist() == [False] * 10 + [True] and tensor[-1] < before[name][-1]
        else:
            assert not changed.any(), name
    assert all(row['false'] <= 0.2 for row in found['exits']) and found['shift'] < 0
    assert [row['exit'] for row in found['exits']] == ['1', '2', '3', 'any']
    assert found['exits'][-1]['false'] >= max(row['false'] for row in found['exits'][:-1])
    assert calibrate.main(flags) == 0
    again = answer(capsys)['unknown']
    assert abs(again['shift']) < 0.011  # float16


def test_a_threshold_of_tokens_is_stored_and_fitted_to(path, tmp_path, capsys):
    """Thresholds of the exits from predictions on all patches, for a network that then computes fewer."""
    cache = ['--size', '40', '--cache', str(tmp_path / 'cache')]
    written = []
    for grey in (None, '0', '127'):
        out = tmp_path / f'{grey}.st'
        extra = [] if grey is None else ['--token_threshold', grey]
        assert calibrate.main(['--checkpoint', str(path), '--output', str(out), *cache, *extra]) == 0
        written.append(load_checkpoint(out))
    before, all_patches, few = written
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result['token_threshold'] == 127 and 0 < result['kept_share'] < 1
    assert out.count('token_threshold 127: ') == out.count('token_threshold ') == 1  # not where all are computed
    assert f'on these images {result["kept_share"]:.0%} of all patches' in out
    assert before.calibration == all_patches.calibration and all_patches.model.config.token_threshold == 0
    assert few.model.config.token_threshold == pytest.approx(127 / 255 / max(few.preprocessing.std))
    assert few.calibration.temperatures != before.calibration.temperatures
    assert calibrate.main(['--checkpoint', str(path), '--token_threshold', '200']) == 2
    assert 'token_threshold is 200' in capsys.readouterr().err
