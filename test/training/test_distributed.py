"""Two processes on one CPU against one process."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from vit_tactile_ros import train
from vit_tactile_ros.training.distributed import ALONE, from_first, join, sum_over_processes
from vit_tactile_ros.training.state import STATE
from vit_tactile_ros.training.state_file import unpack

# 36 examples in batches of 20: pieces of 8 that two processes share as 8 + 12, then as 8 + 8.
TRAIN = ['-m', 'vit_tactile_ros.train', '--epochs', '2', '--epoch_size', '36', '--batch_size', '20',
         '--validation_size', '8', '--image_size', '32', '32', '--exits', '1', '2', '--feature_map_dim', '16',
         '--device', 'cpu', '--workers', '0', '--lr', '1e-3', '--precision', 'float32']
# Its own folder of files, no test's arguments, and no second thread on a core that is shared.
ENVIRONMENT = os.environ | {'OMP_NUM_THREADS': '1'}


def run(*arguments):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """Folder and output of a run of two processes."""
    output = tmp_path_factory.mktemp('two')
    code, out, err = run('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', *TRAIN, '--output',
                         str(output))
    assert code == 0, err
    return output, out


def test_two_processes_give_the_same_weights_as_one(two, tmp_path):
    """Gradients averaged in place of weighted, rows taken twice, augmentation drawn per process, or clipping before
    the sum."""
    output, _ = two
    assert train.main([*TRAIN[2:], '--output', str(tmp_path)]) == 0
    ours, theirs = (unpack((folder / STATE).read_bytes()) for folder in (output, tmp_path))
    for part in ('model', 'average'):
        for name, tensor in ours[part].items():
            torch.testing.assert_close(tensor, theirs[part][name], atol=2e-5, rtol=1e-4, msg=f'{part} {name}')
    # Not by way of never having moved.
    name = 'stage_modules.0.blocks.0.attention.qkv.weight'
    assert (ours['model'][name] - ours['average'][name]).abs().max() > 1e-4


def test_one_process_speaks_for_all(two):
    _, out = two
    assert out.count('epoch 1/2: loss') == out.count('epoch 2/2: loss') == out.count('train: wrote ') == 1


def test_one_process_goes_on_with_what_two_began(two, tmp_path, capfd):
    """A state that depends on how many processes wrote it."""
    output = shutil.copytree(two[0], tmp_path / 'run')
    assert train.main([*TRAIN[2:], '--output', str(output), '--epochs', '3']) == 0
    assert 'resuming after epoch 2 of 3' in capfd.readouterr().out


def test_all_processes_stop_after_the_same_step(two, tmp_path):
    """A process that waits for one that has left, or a state that was cut off with it: only the second one is asked."""
    output, _ = two
    program = tmp_path / 'program.py'
    program.write_text("""
import os, signal, sys
from vit_tactile_ros import train
from vit_tactile_ros.data.simulated import SimulatedTouches

example = SimulatedTouches.__getitem__

def asked(self, index):
    if index == 36 + 10 and os.environ['RANK'] == '1':  # of the first batch of the second epoch
        os.kill(os.getpid(), signal.SIGTERM)
    return example(self, index)

SimulatedTouches.__getitem__ = asked
sys.exit(train.main())
""")
    torchrun = '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2'
    run_folder = tmp_path / 'run'
    code, _, err = run(*torchrun, str(program), *TRAIN[2:], '--output', str(run_folder))
    assert code != 0
    assert err.count('train: stopped; ') == 1 and 'holds everything up to step 1 of epoch 2: ' in err, err
    state = unpack((run_folder / STATE).read_bytes())
    assert (state['epoch'], state['step']) == (1, 1)
    code, _, err = run(*torchrun, *TRAIN, '--output', str(run_folder))
    assert code == 0, err
    ours, theirs = (unpack((folder / STATE).read_bytes()) for folder in (run_folder, output))
    assert all(torch.equal(ours['average'][name], tensor) for name, tensor in theirs['average'].items())


def test_alone_nothing_is_sent(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR'):
        monkeypatch.delenv(name, raising=False)
    processes, device = join('cpu')
    assert processes == ALONE and processes.first and device.type == 'cpu'
    tensors = [torch.ones(2)]
    sum_over_processes(tensors, processes)
    assert tensors[0].tolist() == [1, 1] and from_first('x', processes) == 'x'
