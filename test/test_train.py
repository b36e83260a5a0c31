"""The training command end to end on toy sizes: what it takes, says, leaves behind, and how it ends."""

import dataclasses
import logging
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_runs import arguments, write_presses

from vit_tactile_ros import calibrate, sweep, train
from vit_tactile_ros.data.simulated import TASKS, SimulatedTouches, draw_shape
from vit_tactile_ros.evaluation.parts import EvaluationData, load_parts
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig, load_checkpoint
from vit_tactile_ros.simulator import CLASS_NAMES, GELSIGHT, sample_example, save_sensor
from vit_tactile_ros.training import datasets, start_run
from vit_tactile_ros.training.distributed import Processes
from vit_tactile_ros.training.state_file import pack, unpack

WHOLE = ['checkpoint.safetensors', 'lock', 'tensorboard', 'training_state.previous', 'training_state.safetensors']


def weights(output) -> dict[str, torch.Tensor]:
    return load_checkpoint(output / 'checkpoint.safetensors').model.state_dict()


def files(output):
    return {p.name: p.read_bytes() for p in output.iterdir() if p.is_file()}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The folder of a run that was never interrupted."""
    output = tmp_path_factory.mktemp('finished')
    assert train.main(arguments(output)) == 0
    return output


@pytest.fixture(scope='module')
def presses(tmp_path_factory):
    return write_presses(tmp_path_factory.mktemp('presses'))


def test_the_command_as_given_in_the_docs(tmp_path):
    """A trainer that runs under the tests only: its arguments, its exit code, what it leaves behind and says."""
    flags = ['--epochs', '1', '--epoch_size', '8', '--batch_size', '4', '--validation_size', '4', '--image_size', '32',
             '32', '--workers', '1', '--evaluate']
    done = subprocess.run([sys.executable, '-m', 'vit_tactile_ros.train', *flags], capture_output=True, text=True,
                          timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    assert 'epoch 1/1: loss' in done.stdout and 'block 12' in done.stdout and '0 s left' in done.stdout
    assert '4 test images' in done.stdout
    table = re.findall(r'^ +(\d+)  +([\d.]+)  +([\d.]+)$', done.stdout, re.MULTILINE)
    assert [int(block) for block, *_ in table] == [4, 8, 12]
    assert all(0 <= float(value) <= 1 for _, *values in table for value in values)
    run, = (tmp_path / 'runs').iterdir()
    assert re.fullmatch(r'\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d', run.name)
    assert f'writes to runs/{run.name}' in done.stdout
    assert f'wrote runs/{run.name}/checkpoint.safetensors' in done.stdout
    assert sorted(p.name for p in run.iterdir()) == [n for n in WHOLE if 'previous' not in n]


def test_the_checkpoint_says_how_to_use_it(finished):
    """A checkpoint whose preprocessing or classes are not those it was trained with."""
    checkpoint = load_checkpoint(finished / 'checkpoint.safetensors', expected_classes=TASKS['shapes'])
    assert checkpoint.model.config.image_size == checkpoint.preprocessing.image_size == (32, 32)
    assert checkpoint.model.config.feature_map_dim == 16
    assert checkpoint.model.config.exits == (1, 2) and checkpoint.model.config.depth == 2
    assert checkpoint.preprocessing.reference == 'difference'
    provenance = checkpoint.provenance
    assert provenance.command.startswith('python -m vit_tactile_ros.train --output') and provenance.created
    assert provenance.data == 'simulated touches' and provenance.metrics['epoch'] == 2
    assert all(0 <= provenance.metrics[f'accuracy_block_{block}'] <= 1 for block in (1, 2))


def test_the_same_command_gives_the_same_weights(finished, tmp_path):
    assert train.main(arguments(tmp_path)) == 0
    again = weights(tmp_path)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights(finished).items())


def test_a_killed_run_goes_on_as_if_nothing_had_been(finished, tmp_path):
    """SIGKILL in the middle, no time to clean up, then the same command."""
    command = [sys.executable, '-u', '-m', 'vit_tactile_ros.train', *arguments(tmp_path / 'run', epochs=6)]
    environment = os.environ | {'OMP_NUM_THREADS': str(torch.get_num_threads())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        for line in running.stdout:
            if 'epoch 2/6' in line:
                time.sleep(0.05)  # somewhere in the third epoch
                running.kill()
                break
    assert running.returncode == -signal.SIGKILL
    assert train.main(arguments(tmp_path / 'run', epochs=6)) == 0
    assert train.main(arguments(tmp_path / 'whole', epochs=6)) == 0
    resumed = weights(tmp_path / 'run')
    assert all(torch.equal(resumed[name], tensor) for name, tensor in weights(tmp_path / 'whole').items())


@pytest.mark.parametrize(('kind', 'code'), ((signal.SIGINT, 130), (signal.SIGTERM, 143)))
def test_a_stop_saves_what_was_learned(tmp_path, kind, code):
    """A traceback, of the process or of its workers, a wrong tale of what is saved, or hours of an epoch lost."""
    command = [sys.executable, '-u', '-m', 'vit_tactile_ros.train',
               *arguments(tmp_path, epochs=2, epoch_size=2000, workers=1, validation_size=1)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as running:
        workers = Path(f'/proc/{running.pid}/task/{running.pid}/children')
        # The log is made right before the first step; the worker, when a stop saves what was learned.
        while not (list(tmp_path.glob('tensorboard/*')) and workers.read_text()):
            assert running.poll() is None
            time.sleep(0.05)
        os.killpg(running.pid, kind)  # as a terminal or a service manager does: to the workers, too
        _, err = running.communicate(timeout=60)
    assert running.returncode == code
    found = re.search(r'train: stopped; (\S+) holds everything up to step (\d+) of epoch 1: the same command with '
                      r'--output \S+ resumes from there; checkpoint.safetensors is the moving average so far\n$', err)
    assert found and 'Traceback' not in err, err
    state = unpack((tmp_path / 'training_state.safetensors').read_bytes())
    assert state['epoch'] == 0 and state['step'] == int(found[2]) > 0
    assert load_checkpoint(tmp_path / 'checkpoint.safetensors').provenance.metrics == {
        'epoch': 0, 'step': state['step']}


@pytest.mark.parametrize(('index', 'said'), ((5, 'holds no epoch yet'), (13, 'holds the last complete epoch, 1')))
def test_ctrl_c_says_what_is_saved(tmp_path, monkeypatch, capsys, index, said):
    """In the first epoch there is nothing to go on from, and it must not be claimed."""
    example = SimulatedTouches.__getitem__

    def interrupted(self, i):
        if self.size == 16 and i == index:
            raise KeyboardInterrupt
        return example(self, i)

    monkeypatch.setattr(SimulatedTouches, '__getitem__', interrupted)
    assert train.main(arguments(tmp_path)) == 130
    assert said in capsys.readouterr().err
    assert (tmp_path / 'checkpoint.safetensors').exists() == (index == 13)


def test_ctrl_c_before_training(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, 'read_table', interrupted)
    assert train.main(arguments(tmp_path / 'run')) == 130
    assert 'nothing was written' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_a_finished_run_is_left_as_it_is(finished):
    """Starting it again must not train on, nor write another file."""
    before = files(finished)
    assert train.main(arguments(finished)) == 0
    assert files(finished) == before
    assert sorted(p.name for p in finished.iterdir()) == WHOLE


@pytest.mark.parametrize(('name', 'value'), (('lr', 0.5), ('seed', 1), ('attention', 'softmax'), ('epoch_size', 12),
                                             ('exits', '2'), ('augment', 'none')))
def test_changed_settings_are_refused(finished, capsys, name, value):
    """A run that goes on with settings which its checkpoint's provenance does not tell."""
    before = files(finished)
    assert train.main(arguments(finished, **{name: value})) == 2
    assert f'was started with --{name} ' in capsys.readouterr().err
    assert files(finished) == before


def test_another_class_list_is_refused_on_resume(finished, presses, capsys):
    assert train.main(arguments(finished, data=presses)) == 2
    names = ', '.join(TASKS['shapes'])
    assert f'was started with the classes {names}; now they are edge, flat' in capsys.readouterr().err


@pytest.mark.parametrize(('changes', 'part'), (
    ({'batch_size': 0}, '--batch_size is 0'), ({'epochs': -1}, '--epochs is -1'), ({'epoch_size': 0}, '--epoch_size'),
    ({'validation_size': 0}, '--validation_size is 0'), ({'workers': -1}, '--workers is -1'),
    ({'seed': -1}, '--seed is -1'), ({'lr': -0.1}, '--lr is -0.1'), ({'lr': 'nan'}, '--lr is nan'),
    ({'weight_decay': -1}, '--weight_decay is -1'), ({'warmup': 1.5}, '--warmup is 1.5'), ({'ema': 2}, '--ema is 2'),
    ({'attention': 'flash'}, '--attention'), ({'loss_weights': 1}, '--loss_weights is (1.0,); must be 2 numbers'),
    ({'distillation': 2}, '--distillation is 2'), ({'label_smoothing': -1}, '--label_smoothing is -1'),
    ({'augment': 'paint'}, '--augment'), ({'augment_strength': -1}, '--augment_strength is -1'),
    ({'freeze': 4}, '--freeze is 4, which would keep random weights; give --init'), ({'freeze': -1}, '--freeze is -1'),
    ({'precision': 'float16'}, '--precision'), ({'test': 0.9}, 'their sum must be below 1'),
    ({'validation': 1}, '--validation is 1'), ({'split_seed': -1}, '--split_seed is -1'),
    ({'init': 'shiped'}, 'init is shiped: no such file; did you mean shipped?'),
))
def test_bad_arguments_are_usage_errors(tmp_path, capsys, changes, part):
    """A negative rate or count that surfaces as a traceback minutes later, or is trained with."""
    with pytest.raises(SystemExit) as exited:
        train.main(arguments(tmp_path / 'run', **changes))
    assert exited.value.code == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('changes', 'part'), (
    ({'device': 'tpu'}, "device is 'tpu'"), ({'feature_map_dim': 0}, 'feature_map_dim is 0'),
    ({'exits': '3 2'}, 'exits is (3, 2)'), ({'image_size': '30 32'}, 'image_size is (30, 32)'),
    ({'data': '/no/such/folder'}, '/no/such/folder does not exist'),
    ({'init': '/no/such.safetensors'}, '/no/such.safetensors: no such file'),
))
def test_settings_that_no_model_has_exit_with_2(tmp_path, capsys, changes, part):
    """A wrong device, architecture or path reported as a traceback, or after the folder was made."""
    assert train.main(arguments(tmp_path / 'run', **changes)) == 2
    assert capsys.readouterr().err.startswith(f'train: {part}')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('words', 'told'), [
    (['--generated', '1.5', '--rendered', 'touches'], 'generated is 1.5; must be a share from 0 to 1'),
    (['--generated', '0.2'], 'generated is 0.2, which needs --rendered FOLDER'),
    (['--generated', '0.2', '--data', 'touches'], 'generated is 0.2, which is for simulated touches')])
def test_generated_images_that_cannot_be_are_refused(capsys, words, told):
    with pytest.raises(SystemExit, match='2'):
        train.parse_arguments(words)
    assert told in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('words', [['--distinct', '0'], ['--distinct', '-3', '--rendered', 'touches'],
                                   ['--distinct', '0', '--data', 'touches']])
def test_a_number_of_touches_that_cannot_be_is_named_first(words, capsys):
    """--distinct 0 asked for --rendered, and with --data it was ignored."""
    with pytest.raises(SystemExit):
        train.parse_arguments(words)
    assert f'--distinct is {words[1]}; must be at least 1' in capsys.readouterr().err


def test_sensors_are_chosen(tmp_path, capsys):
    """Touches of the package's sensors under the name of one's own, or a run that goes on with others."""
    config = dataclasses.replace(GELSIGHT, name='mine', noise=2.0)
    save_sensor(tmp_path / 'mine.json', config)
    drawn = SimulatedTouches(20, PreprocessingConfig(image_size=(32, 32)), sensors=[config])
    rng = np.random.default_rng((0, 3))
    wanted = sample_example(rng, sensors=[config], class_name=draw_shape(rng))[0]
    assert np.array_equal(drawn[3][0], fit(wanted, drawn.preprocessing))
    flags = arguments(tmp_path / 'run', epochs=1)
    assert train.main([*flags, '--sensors', 'digit', str(tmp_path / 'mine.json')]) == 0
    assert 'simulated touches of digit, mine' in capsys.readouterr().out
    assert train.main(flags) == 2
    assert 'was started with --sensors digit' in capsys.readouterr().err
    save_sensor(tmp_path / 'mine.json', dataclasses.replace(config, noise=3.0))
    assert train.main([*flags, '--sensors', 'digit', str(tmp_path / 'mine.json')]) == 2
    assert 'was started with --sensors' in capsys.readouterr().err
    with pytest.raises(ValueError, match='sensors is empty'):
        SimulatedTouches(20, drawn.preprocessing, sensors=[])


def test_a_state_from_before_sensors_could_be_chosen(finished, tmp_path, capsys):
    """A run of weeks that cannot go on after an update."""
    shutil.copytree(finished, tmp_path / 'run')
    path = tmp_path / 'run' / 'training_state.safetensors'
    state = unpack(path.read_bytes())
    del state['settings']['sensors']
    path.write_bytes(pack(state))
    assert train.main(arguments(tmp_path / 'run')) == 0
    assert 'resuming after epoch 2 of 2' in capsys.readouterr().out


@pytest.mark.parametrize(('flags', 'said'), ((['--sensors', 'skin'], '--sensors: skin: no such sensor'),
                                             (['--data', 'touches', '--sensors', 'digit'], 'for simulated touches')))
def test_sensors_that_cannot_be_had(tmp_path, capsys, flags, said):
    with pytest.raises(SystemExit):
        train.main(['--output', str(tmp_path / 'run'), *flags])
    assert said in capsys.readouterr().err


def test_what_goes_wrong_in_another_process_is_said(monkeypatch, capsys):
    """A run of several processes that ends without a word, as only the first may speak."""
    monkeypatch.setattr(start_run, 'join', lambda _: (Processes(1, 2), torch.device('cpu')))

    def fails(*_):
        logging.getLogger('vit_tactile_ros').warning('said by the first one')
        raise UserError('no such disk here')

    monkeypatch.setattr(train, 'read_table', fails)
    try:
        assert train.main([]) == 2
    finally:
        logging.disable(logging.NOTSET)
    assert capsys.readouterr().err == 'train, process 1: no such disk here\n'


def test_a_folder_of_images(presses, tmp_path, capsys):
    """The five-minute path: images by class, groups kept apart, a checkpoint with their classes."""
    assert train.main([*arguments(tmp_path, data=presses, epochs=3, lr=3e-3, loss_weights='0.5 1'), '--evaluate',
                       '--balance']) == 0
    out = capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / 'checkpoint.safetensors', ('edge', 'flat'))
    assert checkpoint.preprocessing.reference == 'difference'
    counts = re.search(r': (\d+) training, (\d+) validation and (\d+) test images of 2 classes', out)
    assert [int(n) for n in counts.groups()] == [12, 6, 6]
    assert '6 test images' in out and 'accuracy_block_2' in checkpoint.provenance.metrics
    assert 'not calibrated: there are 6 validation images, and calibrate needs at least 20' in out
    assert 'vit_tactile_ros.calibrate' not in out


def test_the_named_command_parts_the_data_in_the_same_way(tmp_path, capsys):
    """A hint that calibrate refuses, since flags are missing that say which images are for what."""
    folder = write_presses(tmp_path / 'my presses', pictures=12)
    flags = arguments(tmp_path / 'run', data='X', epochs=1, split_seed=3, validation=0.3, control='border', border=0.2)
    flags[flags.index('X')] = str(folder)
    assert train.main(flags) == 0
    command = re.search(r'python -m vit_tactile_ros.calibrate (.*)', capsys.readouterr().out).group(1)
    assert '--split_seed 3' in command and '--test' not in command
    assert calibrate.main([*shlex.split(command), '--device', 'cpu', '--output', str(tmp_path / 'c.safetensors')]) == 0


def test_no_command_is_named_without_validation_images(tmp_path, capsys):
    folder = write_presses(tmp_path / 'presses', pictures=12)
    assert train.main(arguments(tmp_path / 'run', data=folder, epochs=1, validation=0)) == 0
    assert 'vit_tactile_ros.calibrate' not in capsys.readouterr().out


def test_simulated_validation_is_not_asked_of_images(presses, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main([*arguments(tmp_path, data=presses), '--validation_size', '5'])
    assert '--validation_size is 5, which is for simulated touches; --validation sets' in capsys.readouterr().err


def test_images_without_references_are_taken_as_they_are(presses, tmp_path, capsys):
    """'auto' must not ask for references that nobody has, and 'difference' must."""
    (tmp_path / 'presses').mkdir()
    for name in ('edge', 'flat'):
        os.symlink(presses / name, tmp_path / 'presses' / name)
    assert train.main(arguments(tmp_path / 'run', data=tmp_path / 'presses', epochs=1)) == 0
    assert load_checkpoint(tmp_path / 'run' / 'checkpoint.safetensors').preprocessing.reference == 'none'
    asked = arguments(tmp_path / 'other', data=tmp_path / 'presses', epochs=1, input='difference')
    assert train.main(asked) == 2
    assert 'have no reference' in capsys.readouterr().err
    assert train.main([*asked, '--reference_image', str(presses / 'reference.png')]) == 0
    assert load_checkpoint(tmp_path / 'other' / 'checkpoint.safetensors').preprocessing.reference == 'difference'


def test_images_of_which_some_have_a_reference(presses, tmp_path, capsys):
    """The difference dropped for all, without a word, since one picture lacks its reference."""
    rows = [f'{picture},{presses / "reference.png" if i else ""},{picture.parent.name},{picture.name.split("__")[0]}'
            for i, picture in enumerate(sorted(presses.glob('*/*.png')))]
    data = tmp_path / 'labels.csv'
    data.write_text('\n'.join(['image,reference,label,group', *rows]) + '\n')
    assert train.main(arguments(tmp_path / 'run', data=data, epochs=1)) == 2
    err = capsys.readouterr().err
    assert '1 of 24 images have no reference, the first is' in err and 'edge0__0.png; give --reference_image' in err
    assert train.main(arguments(tmp_path / 'run', data=data, epochs=1, input='frame')) == 0
    assert 'train: input: frames, without a reference' in capsys.readouterr().out
    assert load_checkpoint(tmp_path / 'run' / 'checkpoint.safetensors').preprocessing.reference == 'none'


def test_a_checkpoint_of_the_other_input_is_not_started_from_unasked(finished, presses, tmp_path, capsys):
    """Weights that learned differences fed with frames, since the references were forgotten."""
    for name in ('edge', 'flat'):
        (tmp_path / 'presses').mkdir(exist_ok=True)
        os.symlink(presses / name, tmp_path / 'presses' / name)
    flags = arguments(tmp_path / 'run', data=tmp_path / 'presses', epochs=1, init=finished / 'checkpoint.safetensors')
    assert train.main(flags) == 2
    err = capsys.readouterr().err
    assert '--init names a network whose input is differences to the reference' in err and '--input frame' in err
    assert train.main([*flags, '--input', 'frame']) == 0
    assert train.main(arguments(tmp_path / 'back', data=presses, epochs=1,
                                init=tmp_path / 'run' / 'checkpoint.safetensors')) == 2
    assert 'input is images without a reference, but this data gives differences' in capsys.readouterr().err


def test_the_border_alone_with_balanced_classes(presses, tmp_path, capsys):
    """Classes that nobody knows behind the control; a run that goes on with another border or input."""
    asked = {'data': presses, 'epochs': 1, 'control': 'border', 'border': 0.2}
    flags = [*arguments(tmp_path, **asked), '--balance']
    flags = flags[:(at := flags.index('--epoch_size'))] + flags[at + 2:]
    assert train.main(flags) == 0
    assert train.main([*flags, '--border', '0.3']) == 2
    assert 'was started with --border 0.2, now it is 0.3' in capsys.readouterr().err
    assert train.main([*flags, '--control', 'none']) == 2
    assert 'was started with --control border, now it is none' in capsys.readouterr().err
    assert train.main([*flags, '--input', 'frame']) == 2
    assert 'was started with --input difference, now it is frame' in capsys.readouterr().err


def test_the_references_alone(presses, tmp_path, capsys):
    """A control that asks for references of the references."""
    flags = arguments(tmp_path, data=presses, epochs=1, control='reference')
    assert train.main(flags) == 0
    assert load_checkpoint(tmp_path / 'checkpoint.safetensors').preprocessing.reference == 'none'
    assert train.main([*flags, '--input', 'difference']) == 2
    assert 'the difference would be zero' in capsys.readouterr().err


def test_balance_is_said_to_mean_nothing_to_the_simulator(tmp_path, capsys):
    assert train.main([*arguments(tmp_path, epochs=1), '--balance']) == 0
    assert '--balance has no effect' in capsys.readouterr().err


def test_changed_images_are_refused_on_resume(presses, tmp_path, capsys):
    """A run that goes on with other images: its split, its order and its figures would be of neither."""
    copy = tmp_path / 'presses'
    for name in ('edge', 'flat'):
        (copy / name).mkdir(parents=True)
        for picture in (presses / name).iterdir():
            os.link(picture, copy / name / picture.name)
    assert train.main(arguments(tmp_path / 'run', data=copy, epochs=1)) == 0
    for picture in (copy / 'edge').glob('edge0__*'):
        picture.unlink()
    assert train.main(arguments(tmp_path / 'run', data=copy, epochs=1)) == 2
    assert 'was started with --images ' in capsys.readouterr().err


@pytest.mark.parametrize(('only', 'said'), (('edge', 'at least two classes'),
                                            ('nothing', 'no ')))
def test_data_that_cannot_be_learned_from(presses, tmp_path, capsys, only, said):
    (tmp_path / 'data').mkdir()
    if only == 'edge':
        os.symlink(presses / 'edge', tmp_path / 'data' / 'edge')
    assert train.main(arguments(tmp_path / 'run', data=tmp_path / 'data')) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_a_class_without_training_images(presses, tmp_path, capsys):
    for part, names in (('train', ('edge',)), ('test', ('edge', 'flat'))):
        for name in names:
            (tmp_path / 'data' / part / name).mkdir(parents=True)
            group = 0 if part == 'train' else 1
            for i in range(3):
                os.link(presses / name / f'{name}{group}__{i}.png', tmp_path / 'data' / part / name / f'{i}.png')
    assert train.main(arguments(tmp_path / 'run', data=tmp_path / 'data')) == 2
    assert "no training images of the class 'flat'" in capsys.readouterr().err


def test_starting_from_a_checkpoint(finished, presses, tmp_path, capsys):
    """Its architecture and preprocessing are taken over, of its heads the classes that the data has too."""
    flags = ['--output', str(tmp_path), '--data', str(presses), '--init', str(finished / 'checkpoint.safetensors'),
             '--epochs', '1', '--workers', '0', '--image_size', '48', '64', '--device', 'cpu', '--lr', '0']
    assert train.main(flags) == 0
    out = capsys.readouterr().out
    assert "classes copied: 'edge', 'flat'" in out and 'new, with' not in out
    new, old = (load_checkpoint(folder / 'checkpoint.safetensors') for folder in (tmp_path, finished))
    assert new.model.config.image_size == (48, 64) and new.model.config.exits == (1, 2)
    assert new.class_names == ('edge', 'flat')
    blocks = [(name, t) for name, t in old.model.state_dict().items() if 'head' not in name]
    assert all(torch.equal(new.model.state_dict()[name], tensor) for name, tensor in blocks)
    rows = [old.class_names.index(name) for name in new.class_names]
    for ours, theirs in zip(new.model.stage_modules, old.model.stage_modules, strict=True):
        assert torch.equal(ours.head.classify.weight, theirs.head.classify.weight[rows])


def test_heads_of_other_classes_learn_faster(finished, presses, tmp_path, capsys):
    """Heads from random weights at the rate of the trained blocks; and a resumed run that is refused for it."""
    shutil.copytree(presses, tmp_path / 'data')
    for name in ('edge', 'flat'):
        (tmp_path / 'data' / name).rename(tmp_path / 'data' / f'my_{name}')
    flags = ['--output', str(tmp_path / 'run'), '--data', str(tmp_path / 'data'), '--init',
             str(finished / 'checkpoint.safetensors'), '--workers', '0', '--device', 'cpu', '--epochs']
    for epochs in ('1', '2'):
        assert train.main([*flags, epochs]) == 0
        out = capsys.readouterr().out
        assert 'new, with random weights: the heads (other classes)' in out
        assert 'the learning rate of the heads is 8 times that of the blocks' in out
    assert train.main([*flags, '3', '--head_lr_factor', '1']) == 2
    assert 'was started with --head_lr_factor 8.0, now it is 1.0' in capsys.readouterr().err


def test_a_full_disk_is_explained(tmp_path, capsys):
    """A traceback, or a checkpoint cut off, when the system refuses to write on."""
    assert train.main(arguments(tmp_path)) == 0
    before, limits = files(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        assert train.main(arguments(tmp_path, epochs=3)) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    assert err.startswith('train: epoch 3 could not be written: ') and 'holds the last complete epoch, 2' in err
    assert files(tmp_path) == before


def test_an_output_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert train.main(arguments(tmp_path / 'file' / 'run')) == 1
    assert 'file' in capsys.readouterr().err


def test_two_runs_in_one_folder(tmp_path, capsys):
    from vit_tactile_ros.training.state import RunFolder

    with RunFolder(tmp_path):
        assert train.main(arguments(tmp_path)) == 1
    assert 'another run trains in this folder' in capsys.readouterr().err


def test_an_example_is_a_function_of_seed_and_index():
    """Examples that depend on the worker or on the order asked for: no run could be repeated or resumed."""
    preprocessing = PreprocessingConfig(image_size=(32, 48), reference='difference', orientation='match', crop='center')
    first, again, other = (SimulatedTouches(4, preprocessing, seed) for seed in (1, 1, 2))
    frame, reference, label = first[3]
    again[0]
    assert frame.shape == reference.shape == (32, 48, 3) and frame.dtype == reference.dtype == torch.uint8
    assert 0 <= label <= len(CLASS_NAMES)
    assert torch.equal(again[3][0], frame) and torch.equal(again[3][1], reference) and again[3][2] == label
    assert not torch.equal(first[2][0], frame) and not torch.equal(other[3][0], frame)
    assert not torch.equal(other[2][0], frame)  # seed + index would make one run's examples those of the next
    assert SimulatedTouches(4, PreprocessingConfig(image_size=(32, 48)), 1)[3][1].sum() == 0
    for index in (-1, 4):
        with pytest.raises(IndexError, match=f'index is {index}; must be 0 to 3'):
            first[index]
    with pytest.raises(ValueError, match='size is 0'):
        SimulatedTouches(0, preprocessing)


def test_a_run_takes_fresh_examples(tmp_path, monkeypatch):
    """Examples seen twice, or validation or test on what was trained on."""
    sizes, examples = {}, []
    original, example = SimulatedTouches.__init__, SimulatedTouches.__getitem__

    def noted(self, size, preprocessing, seed=0, *others):
        sizes[seed] = size
        original(self, size, preprocessing, seed, *others)

    def noted_example(self, index):
        examples.append((self.seed, index))
        return example(self, 0)

    monkeypatch.setattr(SimulatedTouches, '__init__', noted)
    monkeypatch.setattr(SimulatedTouches, '__getitem__', noted_example)
    assert train.main([*arguments(tmp_path, seed=7, epoch_size=3, batch_size=2, validation_size=1), '--evaluate']) == 0
    assert sizes == {7: 6, 7 + datasets.VALIDATION_SEED_OFFSET: 1, 7 + datasets.TEST_SEED_OFFSET: 1}
    assert [index for seed, index in examples if seed == 7] == [0, 1, 2, 3, 4, 5]


def test_grey_images_are_said_and_kept_in_the_checkpoint(presses, tmp_path, capsys):
    """A network of a grey sensor must not be warned of grey images, one of mixed images should be looked at."""
    grey, mixed = tmp_path / 'grey', tmp_path / 'mixed'
    for folder, chosen in ((grey, presses.rglob('*.png')), (mixed, presses.glob('edge/*.png'))):
        shutil.copytree(presses, folder)
        for path in chosen:
            there = folder / path.relative_to(presses)
            cv2.imwrite(str(there), cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2GRAY))
    assert train.main(arguments(tmp_path / 'a', data=grey, epochs=1)) == 0
    assert 'the training images are grey, so the network will expect grey images' in capsys.readouterr().out
    assert load_checkpoint(tmp_path / 'a' / 'checkpoint.safetensors').provenance.metrics['grey_share'] == 1
    assert train.main(arguments(tmp_path / 'b', data=mixed, epochs=1)) == 0
    assert 'of the training images are grey and the others are not' in capsys.readouterr().err


def test_motion_follows_from_the_checkpoint(tmp_path, capsys):
    """A flag that is dropped on the way to the network, or that the commands after training need again."""
    rng = np.random.default_rng(0)
    rows = ['image,before,label,group']
    for n in range(24):
        image = cv2.GaussianBlur(rng.integers(0, 256, (32, 48, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(tmp_path / f'{n}.png'), image)
        cv2.imwrite(str(tmp_path / f'b{n}.png'), np.roll(image, 3, 1) if n % 2 else image)
        rows.append(f'{n}.png,b{n}.png,{("stable", "slip")[n % 2]},{n}')
    (tmp_path / 'l.csv').write_text('\n'.join(rows) + '\n')
    data = {'data': tmp_path / 'l.csv', 'previous': 'before'}
    assert train.main([*arguments(tmp_path / 'run', motion=0.08, **data), '--evaluate']) == 0
    checkpoint = load_checkpoint(tmp_path / 'run' / 'checkpoint.safetensors')
    assert checkpoint.preprocessing.motion_interval == 0.08 and checkpoint.model.config.channels == 6
    said = capsys.readouterr().out
    assert 'motion: difference of each image to the one 0.08 s before' in said
    assert train.main(arguments(tmp_path / 'run', **data, epochs=3)) == 2
    assert 'was started with --motion 0.08, now it is 0.0' in capsys.readouterr().err
    assert sweep.main(['--checkpoint', str(tmp_path / 'run' / 'checkpoint.safetensors'), '--data',
                       str(tmp_path / 'l.csv'), '--previous', 'before', '--timing_rounds', '0', '--output',
                       str(tmp_path / 'sweep')]) == 0
    init = ['--init', str(tmp_path / 'run' / 'checkpoint.safetensors')]
    assert train.main([*arguments(tmp_path / 'more', **data, epochs=1), *init]) == 0
    assert load_checkpoint(tmp_path / 'more' / 'checkpoint.safetensors').preprocessing.motion_interval == 0.08
    assert train.main([*arguments(tmp_path / 'none', data=tmp_path / 'l.csv', epochs=1), *init]) == 2
    assert '16 of 16 images have no previous image' in capsys.readouterr().err
    for argument, told in (('3', 'motion is 3.0; must be 0 (no motion), or 0.01 to 1 s'), ('nan', 'motion is nan')):
        with pytest.raises(SystemExit):
            train.main(arguments(tmp_path / 'no', motion=argument, **data))
        assert told in capsys.readouterr().err


def test_states_are_learned_from_motion(tmp_path, capsys):
    """The classes, the motion and the examples of the task, in training and in what evaluates the checkpoint."""
    assert train.main(arguments(tmp_path / 'run', task='states', epochs=1, epoch_size=4, motion_views=2)) == 0
    said = capsys.readouterr().out
    assert 'simulated states; writes to' in said and 'to the one 0.08, 0.16 s before' in said
    checkpoint = load_checkpoint(tmp_path / 'run' / 'checkpoint.safetensors')
    assert checkpoint.class_names == ('no_contact', 'stable', 'moving', 'slip')
    assert checkpoint.preprocessing.motion_interval == 0.08 and checkpoint.preprocessing.motion_views == 2
    test = load_parts(EvaluationData(size=2), checkpoint, 'test')['test']
    assert test.frames[1][0].shape == (32, 32, 9)
    assert train.main(arguments(tmp_path / 'run', task='states', epochs=1, epoch_size=4, motion_views=3)) == 2
    assert 'was started with --motion_views 2, now it is 3' in capsys.readouterr().err
    assert train.main(arguments(tmp_path / 'no', epochs=1, motion_views=2)) == 2
    assert 'motion_views is 2, and this network has no motion' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train.main(arguments(tmp_path / 'no', task='states', data=tmp_path))
    assert '--task is states, which is for simulated touches; remove it or --data' in capsys.readouterr().err
