"""The search for settings on toy sizes, with a real study in a real database."""

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import optuna
import pytest
from toy_outputs import toy_checkpoint

from vit_tactile_ros import train, tune
from vit_tactile_ros.model import save_checkpoint
from vit_tactile_ros.training.loop import TrainingError


def arguments(folder, **changes) -> list[str]:
    flags = []
    values = {'trials': 2, 'epochs': 2, 'epoch_size': 8, 'batch_size': 4, 'validation_size': 4, 'workers': 0,
              'image_size': '32 32', 'exits': '1 2', 'device': 'cpu', 'storage': f'sqlite:///{folder}/studies/tune.db'}
    if 'data' in changes:
        del values['validation_size']
    for name, value in (values | changes).items():
        flags += [f'--{name}', *str(value).split()]
    return flags


def study(folder, name='vit_tactile'):
    return optuna.load_study(study_name=name, storage=f'sqlite:///{folder}/studies/tune.db')


def states(folder):
    return [trial.state.name for trial in study(folder).trials]


@pytest.fixture
def accuracies(monkeypatch):
    """Trials that train nothing: their accuracies are a function of the settings and the epoch."""
    trained = []

    def fit(model, examples, recipe, machine, *, on_epoch):
        config = recipe.config
        trained.append((config, recipe.augment, model.config))
        for epoch in range(1, config.epochs + 1):
            accuracy = 0.5 + 0.04 * epoch - abs(config.lr - 1e-3)
            on_epoch(epoch, {'loss': 1.0, 'accuracy_block_1': accuracy - 0.2, 'accuracy_block_2': accuracy})

    monkeypatch.setattr(tune, 'fit', fit)
    return trained


def test_a_search_prints_a_command_that_trains(tmp_path, capsys):
    """A best setting that the trainer does not take, end to end and for real."""
    assert tune.main([*arguments(tmp_path), '--search_attention']) == 0
    out = capsys.readouterr().out
    assert 'trial 1, 1 of 2: ' in out and 'trial 2, 2 of 2: ' in out
    command = shlex.split(out.splitlines()[-1])
    assert command[:3] == ['python', '-m', 'vit_tactile_ros.train']
    assert train.main([*command[3:], '--epochs', '1', '--device', 'cpu', '--workers', '0', '--output',
                       str(tmp_path / 'run')]) == 0
    assert set(states(tmp_path)) <= {'COMPLETE', 'PRUNED'}


def test_what_is_tried_is_what_is_trained(tmp_path, accuracies, capsys):
    """Suggestions that never reach the training, or a command with other values than the best trial's."""
    assert tune.main([*arguments(tmp_path, trials=6), '--search_attention']) == 0
    trials = study(tmp_path).trials
    assert len(accuracies) == 6
    for trial, (config, augment, model) in zip(trials, accuracies, strict=True):
        assert config.lr == trial.params['lr'] and config.weight_decay == trial.params['weight_decay']
        assert config.distillation == trial.params['distillation']
        assert config.loss_weights == (trial.params['early_weight'], 1.0)
        assert model.attention == trial.params['attention']
        assert augment.noise == pytest.approx(1.5 * trial.params['augment_strength'])
    best = study(tmp_path).best_trial
    assert best.value == pytest.approx(0.5 + 0.08 - abs(best.params['lr'] - 1e-3) - 0.1)  # the mean of both exits
    parsed = train.parse_arguments(shlex.split(capsys.readouterr().out.splitlines()[-1])[3:])
    assert parsed.config.lr == pytest.approx(best.params['lr'], rel=1e-3)
    assert parsed.config.loss_weights == (pytest.approx(best.params['early_weight'], rel=1e-3), 1.0)
    assert parsed.start.exits == (1, 2) and parsed.data.epoch_size == 8


def test_a_search_goes_on_where_it_was(tmp_path, accuracies, capsys):
    """Trials that are forgotten between two calls, or --trials counted anew."""
    assert tune.main(arguments(tmp_path, trials=2)) == 0
    assert tune.main(arguments(tmp_path, trials=5)) == 0
    assert tune.main(arguments(tmp_path, trials=5)) == 0
    assert len(accuracies) == len(study(tmp_path).trials) == 5
    assert capsys.readouterr().out.count('best is trial') == 3


def test_ctrl_c_keeps_what_was_found(tmp_path, accuracies, monkeypatch, capsys):
    """A trial that stays 'running' for ever, or a traceback."""
    assert tune.main(arguments(tmp_path, trials=2)) == 0

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tune, 'fit', interrupted)
        assert tune.main(arguments(tmp_path, trials=4)) == 130
    assert 'run the same command to resume' in capsys.readouterr().err
    assert states(tmp_path) == ['COMPLETE', 'COMPLETE', 'FAIL']
    assert tune.main(arguments(tmp_path, trials=4)) == 0
    assert states(tmp_path).count('COMPLETE') == 4


def test_a_trial_that_diverges_is_not_the_end(tmp_path, monkeypatch, capsys):
    def diverges(*_, **__):
        raise TrainingError('at step 3 the loss is nan')

    monkeypatch.setattr(tune, 'fit', diverges)
    assert tune.main(arguments(tmp_path)) == 1
    captured = capsys.readouterr()
    assert captured.out.count('failed: at step 3 the loss is nan') == 2
    assert 'no trial was completed' in captured.err
    assert states(tmp_path) == ['FAIL', 'FAIL']


def test_trials_that_fall_behind_end_early(tmp_path, monkeypatch, capsys):
    """A pruner that is never asked."""
    epochs = []

    def fit(model, examples, recipe, machine, *, on_epoch):
        number = len(epochs)
        epochs.append(0)
        for epoch in range(1, recipe.config.epochs + 1):
            epochs[-1] = epoch
            accuracy = 0.9 - 0.1 * number
            on_epoch(epoch, {'loss': 1.0, 'accuracy_block_1': accuracy, 'accuracy_block_2': accuracy})

    monkeypatch.setattr(tune, 'fit', fit)
    assert tune.main(arguments(tmp_path, trials=6, epochs=5)) == 0
    assert epochs == [5, 5, 5, 5, 2, 2]
    assert states(tmp_path)[4:] == ['PRUNED', 'PRUNED']
    assert 'pruned' in capsys.readouterr().out


def test_a_study_of_something_else_is_refused(tmp_path, accuracies, capsys):
    """Accuracies after 2 epochs compared with accuracies after 5, or of other data."""
    assert tune.main(arguments(tmp_path)) == 0
    assert tune.main(arguments(tmp_path, epochs=5)) == 2
    assert "the study 'vit_tactile' was started with epochs 2, now it is 5" in capsys.readouterr().err
    assert tune.main(arguments(tmp_path, epochs=5, study='other')) == 0


def test_a_storage_that_cannot_be_had(tmp_path, capsys):
    assert tune.main(arguments(tmp_path, storage='nonsense')) == 2
    assert re.search(r'--storage nonsense: .*give a database like sqlite', capsys.readouterr().err)
    Path(tmp_path / 'broken.db').write_text('not a database, but long enough to look like one' * 20)
    assert tune.main(arguments(tmp_path, storage=f'sqlite:///{tmp_path}/broken.db')) == 2


@pytest.mark.parametrize(('changes', 'part'), (({'trials': 0}, '--trials is 0'), ({'epochs': 0}, '--epochs is 0'),
                                               ({'objective': 'first'}, '--objective')))
def test_bad_arguments_are_usage_errors(tmp_path, capsys, changes, part):
    with pytest.raises(SystemExit) as exited:
        tune.main(arguments(tmp_path, **changes))
    assert exited.value.code == 2
    assert part in capsys.readouterr().err


def test_the_input_belongs_to_the_study(tmp_path, accuracies, capsys):
    """Accuracies of frames compared with accuracies of differences."""
    assert tune.main(arguments(tmp_path)) == 0
    assert tune.main(arguments(tmp_path, input='frame')) == 2
    assert 'was started with input difference, now it is frame' in capsys.readouterr().err


def test_the_motion_in_effect_belongs_to_the_study(tmp_path, accuracies, capsys):
    """Left out, it was not recorded, so a study could be resumed with another one; older studies are as before."""
    asked = arguments(tmp_path, task='states')
    assert tune.main(asked) == 0
    settings = study(tmp_path).user_attrs['settings']
    assert (settings['motion'], settings['motion_views']) == ('0.08', '1')
    assert tune.main([*asked, '--motion', '0.08', '--motion_views', '1']) == 0
    assert tune.main([*asked, '--motion_views', '2']) == 2
    assert 'was started with motion_views 1, now it is 2' in capsys.readouterr().err
    study(tmp_path).set_user_attr('settings', {name: value for name, value in settings.items()
                                               if not name.startswith('motion')})
    assert tune.main(asked) == 0
    assert tune.main([*asked, '--motion', '0.1']) == 2
    assert 'was started with motion None, now it is 0.1' in capsys.readouterr().err


def test_the_motion_of_a_checkpoint_that_an_older_study_did_not_record_is_not_assumed(tmp_path, accuracies, capsys):
    """It was resumed with whatever motion the checkpoint has now."""
    save_checkpoint(tmp_path / 'start.safetensors', toy_checkpoint(exits=(1, 2), motion=0.1))
    asked = arguments(tmp_path, init=tmp_path / 'start.safetensors', task='states')
    assert tune.main(asked) == 0
    settings = study(tmp_path).user_attrs['settings']
    study(tmp_path).set_user_attr('settings', {name: value for name, value in settings.items() if name != 'motion'})
    assert tune.main(asked) == 2
    assert 'was started with motion None, now it is 0.1' in capsys.readouterr().err


def test_the_control_belongs_to_the_study_and_to_the_command(touches, tmp_path, accuracies, capsys):
    """A command that trains on whole images what was tuned on their borders."""
    asked = {'data': touches, 'control': 'border', 'border': '0.2'}
    assert tune.main(arguments(tmp_path, **asked)) == 0
    parsed = train.parse_arguments(shlex.split(capsys.readouterr().out.splitlines()[-1])[3:])
    assert (parsed.data.source.control, parsed.data.source.border) == ('border', 0.2)
    assert tune.main(arguments(tmp_path, **asked | {'border': 0.3})) == 2
    assert 'was started with border 0.2, now it is 0.3' in capsys.readouterr().err
    assert tune.main(arguments(tmp_path, data=touches)) == 2
    assert 'was started with control border, now it is none' in capsys.readouterr().err


@pytest.fixture
def touches(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for i in range(3):
            picture = np.random.default_rng((ord(name), i)).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'data' / name / f'{i}__x.png'), picture)
    return tmp_path / 'data'


def test_data_without_validation_is_refused(touches, tmp_path, capsys):
    assert tune.main(arguments(tmp_path, data=touches, validation=0)) == 2
    assert 'no validation images; --validation is 0: give a larger share' in capsys.readouterr().err
