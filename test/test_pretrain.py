"""The command of pre-training end to end on toy sizes: what it writes, how it resumes, what starts from it."""

import itertools
import re
import signal

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
from vit_tactile_ros.training.views import TwoViews

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
    flags = ['--exits', '1', '--epochs', '1', '--batch_size', '4', '--lr', '0', '--validation', '0.25',
             '--every', '3', '--workers', '0', '--device', 'cpu', '--output', str(tmp_path)]
    assert pretrain.main(['--data', str(recordings), '--init', 'shipped', *flags]) == 0
    out = capsys.readouterr().out
    assert 'starts from' in out and 'random weights' not in out and 'second view found block 1' in out
    shipped = weights_by_block(load_checkpoint(shipped_checkpoint()).model)
    ours = weights_by_block(load_checkpoint(tmp_path / 'checkpoint.safetensors').model)
    assert torch.equal(ours['block 1.mlp.0.weight'], shipped['block 1.mlp.0.weight'])


def test_ctrl_c_saves_and_the_same_command_resumes(finished, recordings, tmp_path, monkeypatch, capsys):
    """Ctrl-C lost the epoch that it interrupted, or other pairs, heads or weights after it."""
    flags = ['--data', str(recordings), '--validation', '0.25', '--output', str(tmp_path / 'run'), *TINY]
    losses, steps = TwoViews.losses, itertools.count(1)

    def interrupted(*arguments):
        if next(steps) == 7:  # of 5 an epoch
            signal.raise_signal(signal.SIGINT)
        return losses(*arguments)

    monkeypatch.setattr(TwoViews, 'losses', interrupted)
    assert pretrain.main(flags) == 130
    said = r'pretrain: stopped; \S+ holds .* step 2 of epoch 2: the same command with --output \S+ resumes from there'
    assert re.search(said, err := capsys.readouterr().err), err
    assert pretrain.main(flags) == 0
    assert next(steps) == 11  # no step was repeated
    ours, whole = (load_checkpoint(run / 'checkpoint.safetensors') for run in (tmp_path / 'run', finished))
    assert ours.provenance.metrics == whole.provenance.metrics
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(('flags', 'said'), (
    (['--touched', '128'], '--touched is 128.0; must be from 0 to below 128 grey levels'),
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


@pytest.mark.parametrize(('videos', 'validation'), (('a', '0.1'), ('ab', '0.5')))
def test_one_recording_has_nothing_to_differ_from(recordings, tmp_path, capsys, videos, validation):
    """With two, of which one validates, only one was said to show a touch."""
    flags = ['--data', *(str(recordings / f'{name}.avi') for name in videos), '--validation', validation]
    assert pretrain.main([*flags, *TINY, '--output', str(tmp_path / 'run')]) == 2
    said = f': 1 of {len(videos)} recordings with a touch is for training; must be at least 2, since touches are told'
    assert said in capsys.readouterr().err


def test_simulated_touches(tmp_path, capsys):
    assert pretrain.main(['--data', 'simulator', '--task', 'imprints', '--epoch_size', '4', '--validation_size', '2',
                          '--output', str(tmp_path), *TINY]) == 0
    assert 'simulated touches' in capsys.readouterr().out
