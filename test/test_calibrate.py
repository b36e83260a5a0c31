"""calibrate end to end on toy sizes: what it writes, says and refuses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from vit_tactile_ros import calibrate
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.simulator import CLASS_NAMES
from vit_tactile_ros.model import load_checkpoint, save_checkpoint

sys.path.append(str(Path(__file__).parent / 'evaluation'))
from toy import toy_checkpoint


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
    assert [b['shown'] for b in result['bounds']][0] is False
    # Too few samples: how many it takes.
    assert '3015 to test on' in ' '.join(done.stdout.split()) and result['bounds'][0]['samples_needed'] == 3015


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
    assert answer(capsys)['data'].startswith('36 touches of')
    assert load_checkpoint(path).calibration.num_samples == 27


@pytest.mark.parametrize(('flags', 'message'), (
    (['--checkpoint', 'nowhere.safetensors'], 'no such file'),
    (['--data', 'nowhere'], 'nowhere does not exist'),
    (['--size', '0'], '--size is 0'),
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


@pytest.mark.parametrize('flags', (['--max_accuracy_drop', '0.5', '1'], ['--confidence', '95'], ['--check', '-1']))
def test_arguments_out_of_range(path, capsys, flags):
    """A percentage for a share."""
    with pytest.raises(SystemExit) as error:
        calibrate.main(['--checkpoint', str(path), *flags])
    assert error.value.code == 2 and 'must be' in capsys.readouterr().err


def test_a_full_disk_leaves_the_checkpoint(path, monkeypatch, capsys):
    """The only copy of a trained network replaced by half a file."""
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(calibrate, 'save_checkpoint', full)
    assert calibrate.main(['--checkpoint', str(path), '--size', '40']) == 1
    assert 'No space left' in capsys.readouterr().err and path.read_bytes() == before


def test_ctrl_c_leaves_cleanly(path):
    """A traceback of forty lines, or a process that has to be killed."""
    before = path.read_bytes()
    with subprocess.Popen([sys.executable, '-u', '-c', 'print("up", flush=True)\nimport sys\n'
                           'from vit_tactile_ros.calibrate import main\nprint("in", flush=True)\nsys.exit(main())',
                           '--checkpoint', str(path), '--size', '100000'],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.stdout.readline().strip() != 'in':
            assert process.poll() is None
        time.sleep(1.0)  # into the simulation, which takes minutes
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and 'nothing was written' in error and 'Traceback' not in error
    assert path.read_bytes() == before
