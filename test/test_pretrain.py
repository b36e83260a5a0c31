"""The command of pre-training end to end on toy sizes: what it writes, how it resumes, what starts from it."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from toy_clips import write_video
from toy_runs import write_presses

from vit_tactile_ros import pretrain, train
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.training.initialise import weights_by_block

TINY = ['--exits', '1', '2', '--image_size', '64', '96', '--feature_map_dim', '16', '--batch_size', '4', '--epochs',
        '2', '--every', '1', '--workers', '0', '--device', 'cpu']


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    """Four videos of a touch that moves."""
    folder, rng = tmp_path_factory.mktemp('recordings'), np.random.default_rng(0)
    for name in 'abcd':
        images = [np.full((48, 72, 3), 110, np.uint8) for _ in range(12)]
        for number, image in enumerate(images[6:]):
            image[10:40, number:30 + number] += rng.integers(20, 80, (30, 30, 3)).astype(np.uint8)
        write_video(folder / f'{name}.avi', images)
    return folder


@pytest.fixture(scope='module')
def finished(recordings, tmp_path_factory):
    output = tmp_path_factory.mktemp('finished')
    assert pretrain.main(['--data', str(recordings), '--validation', '0.25', '--output', str(output), *TINY]) == 0
    return output


def test_the_checkpoint_says_where_it_is_from(finished, recordings):
    checkpoint = load_checkpoint(finished / 'checkpoint.safetensors', ('unlabelled',))
    provenance = checkpoint.provenance
    assert provenance.command.startswith(f'python -m vit_tactile_ros.pretrain --data {recordings} --output')
    assert provenance.data == (f'{recordings}: 18 images with a touch for training, 6 for validation, of 4 recordings')
    assert provenance.metrics['epoch'] == 2 and 0 <= provenance.metrics['found_block_2'] <= 1
    assert checkpoint.preprocessing.reference == 'difference' and checkpoint.model.config.exits == (1, 2)


def test_it_is_not_used_as_a_classifier(finished):
    """A node that publishes the class `unlabelled` with confidence 1."""
    with pytest.raises(UserError, match='pre-trained without labels and has no classes: train it'):
        TactileClassifier(load_checkpoint(finished / 'checkpoint.safetensors'), 'cpu', threads=1)


def test_train_starts_from_it(finished, tmp_path, capsys):
    """A trunk that is drawn again, or the classifier of no classes taken for one."""
    flags = ['--data', str(write_presses(tmp_path / 'presses')), '--init', str(finished / 'checkpoint.safetensors'),
             '--epochs', '1', '--freeze', '2', '--batch_size', '4', '--workers', '0', '--device', 'cpu', '--output',
             str(tmp_path / 'run')]
    assert train.main(flags) == 0
    assert 'new, with random weights: the heads (other classes)' in capsys.readouterr().out
    trained = load_checkpoint(tmp_path / 'run' / 'checkpoint.safetensors', ('edge', 'flat'))
    before = weights_by_block(load_checkpoint(finished / 'checkpoint.safetensors').model)
    after = weights_by_block(trained.model)
    same = [torch.equal(after[name], tensor) for name, tensor in before.items() if not name.startswith('head')]
    assert len(same) > 20 and all(same)


def test_it_starts_from_shipped_weights(recordings, tmp_path, capsys):
    flags = ['--exits', '1', '--epochs', '1', '--batch_size', '8', '--method', 'masked', '--lr', '0', '--validation',
             '0.25', '--every', '3', '--workers', '0', '--device', 'cpu', '--output', str(tmp_path)]
    assert pretrain.main(['--data', str(recordings), '--init', 'shipped', *flags]) == 0
    out = capsys.readouterr().out
    assert 'starts from' in out and 'random weights' not in out and 'explained of hidden patches block 1' in out
    shipped = weights_by_block(load_checkpoint(shipped_checkpoint()).model)
    ours = weights_by_block(load_checkpoint(tmp_path / 'checkpoint.safetensors').model)
    assert torch.equal(ours['block 1.mlp.0.weight'], shipped['block 1.mlp.0.weight'])


def test_ctrl_c_saves_and_the_same_command_resumes(finished, recordings, tmp_path):
    flags = ['--data', str(recordings), '--validation', '0.25', '--output', str(tmp_path / 'run'), *TINY]
    flags[flags.index('--epochs') + 1] = '300'
    command = [sys.executable, '-u', '-m', 'vit_tactile_ros.pretrain', *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}) as running:
        for line in running.stdout:
            if 'epoch 1/300' in line:
                time.sleep(0.05)
                running.send_signal(signal.SIGINT)
                break
        _, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert re.search(r'pretrain: stopped; \S+ holds .* the same command with --output \S+ resumes from there', err), err
    done = load_checkpoint(tmp_path / 'run' / 'checkpoint.safetensors').provenance.metrics['epoch']
    flags[flags.index('--epochs') + 1] = str(int(done) + 1)
    assert pretrain.main(flags) == 0
    assert load_checkpoint(tmp_path / 'run' / 'checkpoint.safetensors').provenance.metrics['epoch'] == done + 1


@pytest.mark.parametrize(('flags', 'said'), (
    (['--hidden', '1'], '--hidden is 1.0; must be above 0 and below 1'),
    (['--method', 'masked', '--hidden', '0.99'], 'hidden is 0.99, which shows 0 of the 24 patches'),
    (['--task', 'imprints'], '--task is imprints, which is for simulated touches'),
    (['--data', 'simulator', 'a.mp4'], '--data is simulator a.mp4; must be recordings, or simulator alone'),
    (['--validation', '1'], '--validation is 1.0; must be from 0 to below 1'),
    (['--batch_size', '7'], 'batch_size is 7; must be even'),
    (['--data', 'nowhere.mp4'], 'nowhere.mp4 does not exist')))
def test_what_is_wrong_is_said_before_anything_is_written(recordings, tmp_path, capsys, flags, said):
    try:
        code = pretrain.main(['--data', str(recordings), *TINY, '--output', str(tmp_path / 'run'), *flags])
    except SystemExit as ended:
        code = ended.code
    assert code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_one_recording_has_nothing_to_differ_from(recordings, tmp_path, capsys):
    flags = ['--data', str(recordings / 'a.avi'), *TINY, '--output', str(tmp_path / 'run')]
    assert pretrain.main(flags) == 2
    assert 'one recording shows a touch, and views are told from those of other recordings' in capsys.readouterr().err
    assert pretrain.main([*flags, '--method', 'masked']) == 0


def test_simulated_touches(tmp_path, capsys):
    assert pretrain.main(['--data', 'simulator', '--task', 'imprints', '--epoch_size', '4', '--validation_size', '2',
                          '--output', str(tmp_path), *TINY]) == 0
    assert 'simulated touches' in capsys.readouterr().out
