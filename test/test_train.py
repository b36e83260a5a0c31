"""The trainer end to end on toy sizes, and the parts of it that a wrong number hides in."""

import copy
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from vit_tactile_ros import train
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.simulator import CLASS_NAMES
from vit_tactile_ros.model import ModelConfig, PreprocessingConfig, ViTTactile, load_checkpoint

TINY = {'epochs': 2, 'epoch_size': 8, 'batch_size': 4, 'validation_size': 4, 'workers': 0, 'feature_map_dim': 16,
        'device': 'cpu'}


def arguments(output, **changes) -> list[str]:
    """Command line of a run of two epochs of two steps each."""
    flags = [part for name, value in (TINY | changes).items() for part in (f'--{name}', str(value))]
    return ['--output', str(output), *flags, '--image_size', '32', '32']


def weights(output) -> dict[str, torch.Tensor]:
    return load_checkpoint(output / 'checkpoint.safetensors').model.state_dict()


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The folder of a run that was never interrupted."""
    output = tmp_path_factory.mktemp('finished')
    assert train.main(arguments(output)) == 0
    return output


def test_the_command_as_given_in_the_docs(tmp_path):
    """A trainer that runs under the tests only: its arguments, its exit code, what it leaves behind and says."""
    flags = ['--epochs', '1', '--epoch_size', '8', '--batch_size', '4', '--validation_size', '4', '--image_size', '32',
             '32', '--workers', '0']
    done = subprocess.run([sys.executable, '-m', 'vit_tactile_ros.train', '--output', str(tmp_path / 'run'), *flags],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'epoch 1/1: loss' in done.stdout and 'block 12' in done.stdout
    assert str(tmp_path / 'run' / 'checkpoint.safetensors') in done.stdout
    assert sorted(p.name for p in (tmp_path / 'run').iterdir()) == ['checkpoint.safetensors', 'training_state.pt']


def test_the_checkpoint_says_how_to_use_it(finished):
    """A checkpoint whose preprocessing or classes are not those it was trained with."""
    checkpoint = load_checkpoint(finished / 'checkpoint.safetensors', expected_classes=CLASS_NAMES)
    assert checkpoint.model.config.image_size == checkpoint.preprocessing.image_size == (32, 32)
    assert checkpoint.model.config.feature_map_dim == 16
    assert checkpoint.preprocessing.reference == 'difference'
    provenance = checkpoint.provenance
    assert provenance.command.startswith('python -m vit_tactile_ros.train --output') and provenance.created
    assert provenance.metrics['epoch'] == 2
    assert all(0 <= provenance.metrics[f'accuracy_block_{block}'] <= 1 for block in (4, 8, 12))


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path, monkeypatch, capsys):
    """A resume that repeats or skips examples, restarts the schedule, or forgets the optimizer or the average."""
    example = SimulatedTouches.__getitem__

    def interrupted(self, index):
        if self.size == 16 and index == 13:  # in the second epoch, after its first step
            raise KeyboardInterrupt
        return example(self, index)

    monkeypatch.setattr(SimulatedTouches, '__getitem__', interrupted)
    assert train.main(arguments(tmp_path)) == 130
    assert 'run the same command to go on' in capsys.readouterr().err
    assert load_checkpoint(tmp_path / 'checkpoint.safetensors').provenance.metrics['epoch'] == 1
    monkeypatch.undo()
    assert train.main(arguments(tmp_path)) == 0
    assert 'going on after epoch 1 of 2' in capsys.readouterr().out
    resumed = weights(tmp_path)
    for name, tensor in weights(finished).items():
        assert torch.equal(resumed[name], tensor), name
    states = [torch.load(folder / 'training_state.pt', weights_only=True) for folder in (finished, tmp_path)]
    for part in ('model', 'average'):
        for name, tensor in states[0][part].items():
            assert torch.equal(states[1][part][name], tensor), (part, name)


def test_training_changes_the_weights_and_not_the_projections(finished):
    """A run that saves what it started with, or an average over projections that are drawn anew."""
    torch.manual_seed(0)
    start = ViTTactile(ModelConfig(num_classes=len(CLASS_NAMES), image_size=(32, 32), feature_map_dim=16)).state_dict()
    state = torch.load(finished / 'training_state.pt', weights_only=True)
    for name, tensor in state['model'].items():
        assert torch.equal(tensor, start[name]) == name.endswith('projection_matrix'), name
        assert torch.equal(state['average'][name], tensor) == name.endswith('projection_matrix'), name


def test_a_finished_run_is_left_as_it_is(finished):
    """Starting it again must not train on, nor write another file."""
    before = {p.name: p.read_bytes() for p in finished.iterdir()}
    assert train.main(arguments(finished)) == 0
    assert {p.name: p.read_bytes() for p in finished.iterdir()} == before


@pytest.mark.parametrize(('name', 'value'), (('lr', 0.5), ('epochs', 3), ('seed', 1), ('attention', 'softmax')))
def test_changed_settings_are_refused(finished, capsys, name, value):
    """A run that goes on with settings which its checkpoint's provenance does not tell."""
    before = {p.name: p.read_bytes() for p in finished.iterdir()}
    assert train.main(arguments(finished, **{name: value})) == 2
    assert f'was started with --{name} ' in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in finished.iterdir()} == before


@pytest.mark.parametrize(('changes', 'part'), (
    ({'batch_size': 0}, '--batch_size is 0'), ({'epochs': -1}, '--epochs is -1'), ({'epoch_size': 0}, '--epoch_size'),
    ({'validation_size': 0}, '--validation_size is 0'), ({'workers': -1}, '--workers is -1'),
    ({'seed': -1}, '--seed is -1'), ({'lr': -0.1}, '--lr is -0.1'), ({'lr': 'nan'}, '--lr is nan'),
    ({'weight_decay': -1}, '--weight_decay is -1'), ({'warmup': 1.5}, '--warmup is 1.5'), ({'ema': 2}, '--ema is 2'),
    ({'attention': 'flash'}, '--attention'), ({'loss_weights': 1}, '--loss_weights has 1 values'),
))
def test_bad_arguments_are_usage_errors(tmp_path, capsys, changes, part):
    """A negative rate or count that surfaces as a traceback minutes later, or is trained with."""
    with pytest.raises(SystemExit) as exited:
        train.main(arguments(tmp_path / 'run', **changes))
    assert exited.value.code == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('changes', 'part'), (({'device': 'tpu'}, "device is 'tpu'"),
                                               ({'feature_map_dim': 0}, 'feature_map_dim is 0')))
def test_settings_that_no_model_has_exit_with_2(tmp_path, capsys, changes, part):
    """A wrong device or architecture reported as a traceback, or after the folder was made."""
    assert train.main(arguments(tmp_path / 'run', **changes)) == 2
    assert capsys.readouterr().err.startswith(f'train: {part}')
    assert not (tmp_path / 'run').exists()


def test_image_size_must_be_multiples_of_a_patch(tmp_path, capsys):
    """A size that the network can't take, found out after the first batch was simulated."""
    assert train.main([*arguments(tmp_path / 'run'), '--image_size', '30', '32']) == 2
    assert 'image_size is (30, 32)' in capsys.readouterr().err


@pytest.mark.parametrize('fault', ('loss', 'gradient'))
def test_divergence_ends_the_run_and_keeps_the_last_good_epoch(tmp_path, monkeypatch, capsys, fault):
    """Weights of NaN: a finite loss with a gradient that is not got them as far as the checkpoint."""
    if fault == 'loss':
        monkeypatch.setattr(train, 'multi_exit_loss', lambda outputs, labels, weights: outputs[0].sum() * math.nan)
    else:
        monkeypatch.setattr(torch.nn.utils, 'clip_grad_norm_', lambda parameters, limit: torch.tensor(math.nan))
    assert train.main(arguments(tmp_path)) == 1
    assert 'at step 0 the loss is' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_state_never_runs_ahead_of_the_checkpoint(tmp_path, monkeypatch):
    """A run killed between its two files went on behind an epoch whose checkpoint was never written."""
    def fails(*_):
        raise OSError(28, 'no space left')

    monkeypatch.setattr(train, 'save_checkpoint', fails)
    with pytest.raises(OSError, match='no space left'):
        train.main(arguments(tmp_path))
    assert not (tmp_path / 'training_state.pt').exists()


def test_learning_rate_rises_then_falls():
    """A schedule that starts at zero, jumps at the end of the warm-up, or ends high."""
    rates = [train.learning_rate(step, 200, 1e-3, 0.1) for step in range(200)]
    assert rates[0] == pytest.approx(1e-3 / 20)
    assert rates[:20] == sorted(rates[:20]) and rates[19] == rates[20] == max(rates) == pytest.approx(1e-3)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[110] == pytest.approx(1e-3 * (0.01 + 0.99 / 2))  # half way down
    assert 1e-5 <= rates[-1] < 1.2e-5
    assert max(abs(a - b) for a, b in zip(rates, rates[1:], strict=False)) <= 1e-3 / 20 + 1e-12


@pytest.mark.parametrize('warmup', (0.0, 1.0))
@pytest.mark.parametrize('total', (1, 2, 7))
def test_learning_rate_of_short_runs(total, warmup):
    """A division by zero, or a rate of zero, in a run of one step."""
    for step in range(total):
        assert 0 < train.learning_rate(step, total, 1.0, warmup) <= 1.0


def test_loss_weighs_the_exits():
    """A weight on the wrong exit, or a mean in place of the sum."""
    logits = [torch.randn(5, 4) for _ in range(3)]
    labels = torch.tensor([0, 1, 2, 3, 0])
    wanted = sum(w * F.cross_entropy(out, labels) for w, out in zip((0.3, 0.2, 1.0), logits, strict=True))
    torch.testing.assert_close(train.multi_exit_loss(logits, labels, [0.3, 0.2, 1.0]), wanted)


def test_average_moves_towards_the_model():
    """Decay and its complement exchanged: the average would be the last step."""
    config = ModelConfig(num_classes=4, width=48, depth=1, exits=(1,), image_size=(32, 32), feature_map_dim=16)
    model, average = ViTTactile(config), ViTTactile(config)
    before = copy.deepcopy(average.state_dict())
    train.average_weights(average, model, 0.9)
    for name, tensor in average.state_dict().items():
        torch.testing.assert_close(tensor, 0.9 * before[name] + 0.1 * model.state_dict()[name])


def test_accuracy_is_counted_per_exit():
    """Accuracy of one exit reported for another, or a mean over batches of different sizes."""
    images = torch.randn(5, 3, 32, 32)
    model = ViTTactile(ModelConfig(num_classes=4, width=48, depth=2, exits=(1, 2), image_size=(32, 32))).eval()
    with torch.no_grad():
        for stage, answer in zip(model.stage_modules, (1, 2), strict=True):
            stage.head.classify.bias[answer] = 1000.0
    labels = torch.tensor([1, 1, 2, 0, 1])
    batches = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    assert train.accuracy_per_exit(model, batches, torch.device('cpu')) == pytest.approx([0.6, 0.2])


def test_an_example_is_a_function_of_seed_and_index():
    """Examples that depend on the worker or on the order asked for: no run could be repeated or resumed."""
    preprocessing = PreprocessingConfig(image_size=(32, 48), reference='difference', orientation='match', crop='center')
    first, again, other = (SimulatedTouches(4, preprocessing, seed) for seed in (1, 1, 2))
    values, label = first[3]
    again[0]
    assert values.shape == (3, 32, 48) and values.dtype == torch.float32 and 0 <= label < len(CLASS_NAMES)
    assert torch.equal(again[3][0], values) and again[3][1] == label
    assert not torch.equal(first[2][0], values) and not torch.equal(other[3][0], values)
    assert not torch.equal(other[2][0], values)  # seed + index would make one run's examples those of the next
    for index in (-1, 4):
        with pytest.raises(IndexError, match=f'index is {index}; must be 0 to 3'):
            first[index]
    with pytest.raises(ValueError, match='size is 0'):
        SimulatedTouches(0, preprocessing)


def test_a_run_follows_its_schedule_on_fresh_examples(tmp_path, monkeypatch):
    """A schedule that starts over with every epoch, examples seen twice, or validation on what was trained on."""
    seeds, examples, steps = [], [], []
    original, example = SimulatedTouches.__init__, SimulatedTouches.__getitem__

    def noted(self, size, preprocessing, seed=0):
        seeds.append((size, seed))
        original(self, size, preprocessing, seed)

    def noted_example(self, index):
        examples.append((self.seed, index))
        return example(self, 0)

    def noted_rate(step, total, peak, warmup):
        steps.append((step, total))
        return peak

    monkeypatch.setattr(SimulatedTouches, '__init__', noted)
    monkeypatch.setattr(SimulatedTouches, '__getitem__', noted_example)
    monkeypatch.setattr(train, 'learning_rate', noted_rate)
    assert train.main(arguments(tmp_path, seed=7, epoch_size=3, batch_size=2, validation_size=1)) == 0
    assert dict(seeds) == {6: 7, 1: 7 + train.VALIDATION_SEED_OFFSET}
    assert [index for seed, index in examples if seed == 7] == [0, 1, 2, 3, 4, 5]
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4)]
