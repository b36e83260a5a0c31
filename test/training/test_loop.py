"""fit: it learns, it can be stopped anywhere, and nothing that goes wrong costs what was saved."""

import dataclasses
import logging
import math
import os
import resource
import signal

import pytest
import torch
from toy_training import CLASS_NAMES, CONFIG, PREPROCESSING, Colours, fit_toy, make_model

from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.inference.runtime import computes_in_bfloat16
from vit_tactile_ros.model import ModelConfig, Provenance, ViTTactile, load_checkpoint
from vit_tactile_ros.training import loop, objective
from vit_tactile_ros.training import state as state_module
from vit_tactile_ros.training.batches import PIECE
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.initialise import weights_by_block
from vit_tactile_ros.training.inputs import Inputs, strengthened
from vit_tactile_ros.training.loop import SaveError, Stopped, TrainingError
from vit_tactile_ros.training.optimizer import (
    average_decay,
    learning_rate,
    make_optimizer,
    move_average,
    resume,
    set_rate,
)
from vit_tactile_ros.training.settings import SettingsError
from vit_tactile_ros.training.state import STATE, StateError
from vit_tactile_ros.training.state_file import pack, unpack
from vit_tactile_ros.training.stopping import Stop

CPU = torch.device('cpu')
SETTINGS = TrainingConfig(batch_size=16, epochs=2, lr=1e-3, ema=0.9)


def train(output=None, model=None, frames=None, validation=None, config=SETTINGS, **others):
    return fit_toy(output, model, frames or Colours(36), validation, config, **others)


def equal(first, second):
    first, second = first.state_dict(), second.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_to_tell_colours(tmp_path):
    """The whole of it: input, loss, optimizer, average, validation, checkpoint."""
    seen = []
    config = dataclasses.replace(SETTINGS, epochs=8, lr=3e-3)
    average = train(tmp_path, frames=Colours(48), validation=Colours(30, seed=1), config=config,
                    augment=AugmentConfig.none(), on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)),
                    provenance=Provenance(command='train it', data='colours'))
    assert [epoch for epoch, _ in seen] == list(range(1, 9))
    assert seen[-1][1]['loss'] < 0.7 * seen[0][1]['loss']
    assert min(seen[-1][1]['accuracy_block_1'], seen[-1][1]['accuracy_block_2']) > 0.9
    assert not average.training
    checkpoint = load_checkpoint(tmp_path / 'checkpoint.safetensors', CLASS_NAMES)
    assert checkpoint.preprocessing == PREPROCESSING and checkpoint.model.config == CONFIG
    assert checkpoint.provenance.command == 'train it' and checkpoint.provenance.data == 'colours'
    assert checkpoint.provenance.metrics['epoch'] == 8
    assert checkpoint.provenance.metrics['accuracy_block_2'] == seen[-1][1]['accuracy_block_2']
    for name, tensor in average.state_dict().items():
        torch.testing.assert_close(checkpoint.model.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_the_moving_average_teaches_with_its_last_exit(monkeypatch):
    """The logits of another exit, of the network itself, or of an average that was not moved. With a decay of 0 the
    average is the network."""
    seen = []

    def losses(logits, labels, distillation, temperature, smoothing, teacher):
        torch.testing.assert_close(teacher, logits[-1], atol=1e-5, rtol=1e-4)
        seen.append(teacher.requires_grad)
        return real(logits, labels, distillation, temperature, smoothing, teacher)

    real = objective.exit_losses
    monkeypatch.setattr(objective, 'exit_losses', losses)
    config = dataclasses.replace(SETTINGS, ema=0.0, precision='float32', teacher='average')
    taught = train(config=config)
    assert len(seen) == 6 and not any(seen)
    monkeypatch.undo()
    assert not equal(taught, train(config=dataclasses.replace(config, teacher='last')))


def test_the_gradients_of_early_exits_are_scaled_in_training_and_not_in_the_result():
    plain, scaled = (train(config=dataclasses.replace(SETTINGS, exit_gradient=f)) for f in (1.0, 0.0))
    assert not equal(plain, scaled)
    assert not any(module._forward_pre_hooks for module in scaled.modules())


def test_the_same_command_gives_the_same_weights():
    first, second = train(), train()
    assert equal(first, second)
    assert not equal(first, train(config=dataclasses.replace(SETTINGS, seed=1)))


@pytest.mark.parametrize('stop_at', (1, 5, 6))
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, stop_at):
    """Another order, augmentation or schedule after the stop, or a forgotten optimizer or average."""
    config = dataclasses.replace(SETTINGS, epochs=3)
    asked = 0

    class Interrupted(Colours):
        def __getitem__(self, index):
            nonlocal asked
            asked += 1
            if asked == 36 * stop_at // 2:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(Stopped) as stopped:
        train(tmp_path, frames=Interrupted(36), config=config)
    epochs = (stop_at - 1) // 2
    assert ('holds no epoch yet' if epochs == 0 else f'holds the last complete epoch, {epochs}:') in str(stopped.value)
    whole, resumed = [], []
    first = train(config=config, on_epoch=lambda epoch, metrics: whole.append((epoch, metrics)))
    second = train(tmp_path, config=config, on_epoch=lambda epoch, metrics: resumed.append((epoch, metrics)))
    assert resumed == whole[epochs:]
    assert equal(first, second)


@pytest.mark.parametrize('stop_at', (1, 3, 5))
def test_going_on_within_an_epoch_equals_an_uninterrupted_run(tmp_path, stop_at):
    """A step done twice or left out, also where an epoch ends: asked while the batch of each step is fetched."""
    config = dataclasses.replace(SETTINGS, epochs=3)
    stop, asked = Stop(), 0

    class Asking(Colours):
        def __getitem__(self, index):
            nonlocal asked
            asked += 1
            if asked == {1: 1, 2: 17, 0: 33}[stop_at % 3] + 36 * ((stop_at - 1) // 3):
                stop.ask(signal.SIGTERM)
            return super().__getitem__(index)

    validation = Colours(6, seed=1)
    step, epoch = (stop_at - 1) % 3 + 1, (stop_at + 2) // 3
    with pytest.raises(Stopped, match=f'holds everything up to step {step} of epoch {epoch}:'):
        train(tmp_path, frames=Asking(36), validation=validation, config=config, stop=stop)
    assert stop.exit_code == 143
    state, epochs = unpack((tmp_path / STATE).read_bytes()), (stop_at - 1) // 3
    assert state['epoch'] * 3 + state['step'] == stop_at
    checkpoint = load_checkpoint(tmp_path / 'checkpoint.safetensors').provenance.metrics
    assert checkpoint['epoch'] == epochs and ('step' in checkpoint) == (epochs == 0)
    whole, resumed = [], []
    first = train(validation=validation, config=config, on_epoch=lambda *found: whole.append(found))
    second = train(tmp_path, validation=validation, config=config, on_epoch=lambda *found: resumed.append(found))
    assert resumed == whole[epochs:]
    assert equal(first, second)
    assert load_checkpoint(tmp_path / 'checkpoint.safetensors').provenance.metrics['epoch'] == 3


def test_a_stop_during_validation_ends_it(tmp_path):
    """Minutes of validation before one may leave, or its epoch lost."""
    stop = Stop()

    class Asking(Colours):
        def __getitem__(self, index):
            assert index < 3
            if index == 2:
                stop.ask()
            return super().__getitem__(index)

    with pytest.raises(Stopped, match='holds everything up to step 3 of epoch 1:'):
        train(tmp_path, validation=Asking(6), stop=stop)
    assert stop.exit_code == 130
    whole = train(validation=Colours(6))
    assert equal(train(tmp_path, validation=Colours(6)), whole)


def test_a_second_ctrl_c_ends_at_once(tmp_path, monkeypatch):
    """In the midst of the step that the first one waits for, and of the save after it: the last state stays whole."""
    train(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    config = dataclasses.replace(SETTINGS, epochs=3)

    class Impatient(Colours):
        def __getitem__(self, index):
            stop.ask()
            return super().__getitem__(index)

    stop = Stop()
    with pytest.raises(Stopped, match='holds the last complete epoch, 2:'):
        train(tmp_path, frames=Impatient(36), config=config, stop=stop)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before

    stop = Stop()
    replace = os.replace

    def asked_again(*paths):
        stop.ask()
        replace(*paths)

    class Asking(Colours):
        def __getitem__(self, index):
            if not stop.number:
                stop.ask()
            return super().__getitem__(index)

    monkeypatch.setattr(state_module.os, 'replace', asked_again)
    with pytest.raises(Stopped, match='holds the last complete epoch, 2:'):
        train(tmp_path, frames=Asking(36), config=config, stop=stop)
    assert unpack((tmp_path / STATE).read_bytes())['epoch'] == 2


def test_a_stop_that_cannot_be_saved_is_explained(tmp_path):
    train(tmp_path)
    stop, before = Stop(), resource.getrlimit(resource.RLIMIT_FSIZE)

    class Asking(Colours):
        def __getitem__(self, index):
            if not stop.number:
                stop.ask()
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            return super().__getitem__(index)

    try:
        with pytest.raises(
                SaveError, match='step 1 of epoch 3 could not be written: .*holds the last complete epoch, 2'):
            train(tmp_path, frames=Asking(36), config=dataclasses.replace(SETTINGS, epochs=3), stop=stop)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_fewer_epochs_than_are_begun(tmp_path):
    """A run whose last steps belong to an epoch that is not to be."""
    stop = Stop()

    class Asking(Colours):
        def __getitem__(self, index):
            if stop.number == 0:
                stop.ask()
            return super().__getitem__(index)

    train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=1))
    with pytest.raises(Stopped, match='checkpoint.safetensors is that of epoch 1'):
        train(tmp_path, frames=Asking(36), stop=stop)
    with pytest.raises(SettingsError, match='has finished 1 epochs and a part of another already; --epochs 1 is less'):
        train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=1))


def test_denormal_numbers_are_left_as_they_were():
    """A setting of the whole thread that outlives the training: numpy warns of it, results of others change."""
    train(config=dataclasses.replace(SETTINGS, epochs=1))
    assert torch.tensor([1e-39]).mul(1.0).item() > 0


def test_a_finished_run_is_left_as_it_is(tmp_path):
    average = train(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    again = train(tmp_path, model=make_model(seed=5))
    assert equal(again, average)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_the_number_of_epochs_can_change(tmp_path, caplog):
    """The cosine goes over the new total, and that is said."""
    train(tmp_path)
    with caplog.at_level(logging.INFO):
        train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=4))
    assert 'the cosine schedule now covers 4' in caplog.text
    assert load_checkpoint(tmp_path / 'checkpoint.safetensors').provenance.metrics['epoch'] == 4
    state = unpack((tmp_path / STATE).read_bytes())
    assert state['optimizer']['param_groups'][0]['lr'] == pytest.approx(learning_rate(11, 12, 1e-3, 0.05))
    with pytest.raises(SettingsError, match='has finished 4 epochs already; --epochs 3 is less'):
        train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=3))


@pytest.mark.parametrize(('changes', 'named'), (
    ({'config': dataclasses.replace(SETTINGS, lr=0.5)}, '--lr 0.001, now it is 0.5'),
    ({'config': dataclasses.replace(SETTINGS, loss_weights=(0.1, 1.0))}, '--loss_weights 0.3 1.0, now it is 0.1 1.0'),
    ({'augment': AugmentConfig()}, '--augment simulated, now it is gel'),
    ({'settings': {'data': 'other.csv'}}, '--data mine.csv, now it is other.csv'),
    ({'model': ViTTactile(dataclasses.replace(CONFIG, attention='softmax'))}, '--attention favor_softmax, now'),
))
def test_changed_settings_are_refused(tmp_path, changes, named):
    """A run that goes on with settings which its checkpoint's provenance does not tell."""
    train(tmp_path, **{'settings': {'data': 'mine.csv'}})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(SettingsError, match=named):
        train(tmp_path, **({'settings': {'data': 'mine.csv'}} | changes))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize('kind', (signal.SIGINT, signal.SIGTERM))
def test_a_signal_that_reaches_a_worker_while_it_starts(monkeypatch, kind):
    """A Ctrl-C in the first moments that ends in a worker's death and a traceback."""
    main, set_num_threads = os.getpid(), torch.set_num_threads

    def interrupted(number):
        if os.getpid() != main:  # a worker calls this first of all
            os.kill(os.getpid(), kind)
        set_num_threads(number)

    monkeypatch.setattr(torch, 'set_num_threads', interrupted)
    average = train(workers=1, config=dataclasses.replace(SETTINGS, epochs=1))
    assert equal(average, train(config=dataclasses.replace(SETTINGS, epochs=1)))


def test_a_run_from_before_a_setting_goes_on(tmp_path):
    """A week of training that an update of the package makes worthless."""
    train(tmp_path)
    state = unpack((tmp_path / STATE).read_bytes())
    for name in ('freeze', 'queries', 'added_exits', 'head_lr_factor'):
        del state['settings'][name]
    (tmp_path / STATE).write_bytes(pack(state))
    train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=SETTINGS.epochs + 1))
    for changes, told in (({'freeze': 1}, '--freeze 0, now it is 1'),
                          ({'head_lr_factor': 8.0}, '--head_lr_factor 1.0, now it is 8.0')):
        with pytest.raises(SettingsError, match=told):
            train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=SETTINGS.epochs + 1, **changes))


def test_heads_with_queries_and_a_rate_of_their_own_resume(tmp_path):
    """Moments of the optimizer given to the weights of another group."""
    config, stop = dataclasses.replace(SETTINGS, head_lr_factor=5.0), Stop()

    class Asking(Colours):
        def __getitem__(self, index):
            if not stop.number:
                stop.ask(signal.SIGTERM)
            return super().__getitem__(index)

    def network(seed):
        torch.manual_seed(seed)
        return ViTTactile(dataclasses.replace(CONFIG, queries=2))

    with pytest.raises(Stopped):
        train(tmp_path, network(0), Asking(36), config=config, stop=stop)
    resumed = train(tmp_path, network(1), config=config)
    assert equal(resumed, train(model=network(0), config=config))
    assert not equal(resumed, train(model=network(0)))


def test_the_rate_of_the_heads():
    """The factor on other weights than those of the heads, or on some of these only."""
    model, config = make_model(), dataclasses.replace(SETTINGS, head_lr_factor=8.0)
    optimizer = make_optimizer(model, config)
    state = optimizer.state_dict()
    for group in state['param_groups']:
        del group['factor']  # as in states of earlier versions
    resume(optimizer, state)
    set_rate(optimizer, 0.5)
    rates = {p: group['lr'] for group in optimizer.param_groups for p in group['params']}
    assert {name: rates[p] for name, p in model.named_parameters()} == {
        name: 4.0 if '.head.' in name else 0.5 for name, _p in model.named_parameters()}
    assert [group['weight_decay'] for group in optimizer.param_groups] == [0.05, 0, 0.05, 0]


def test_another_class_list_is_refused(tmp_path):
    """Heads that go on under other names: as many classes, so that no shape gives it away."""
    train(tmp_path)
    with pytest.raises(SettingsError, match='started with the classes red, green, blue; now they are red, blue, green'):
        train(tmp_path, class_names=('red', 'blue', 'green'))


def test_a_damaged_state_costs_one_epoch(tmp_path, caplog):
    average = train(tmp_path)
    state = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(state[:len(state) // 2])
    again = train(tmp_path)
    assert 'resuming from the previous state' in caplog.text
    assert equal(again, average)


@pytest.mark.parametrize('fault', ('loss', 'gradient'))
def test_divergence_ends_the_run_and_keeps_the_last_good_epoch(tmp_path, monkeypatch, fault):
    """Weights of NaN: a finite loss with a gradient that is not got them as far as the checkpoint."""
    train(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    if fault == 'loss':
        monkeypatch.setattr(objective, 'exit_losses', lambda logits, *_: torch.stack(
            [o.sum() * math.nan for o in logits]))
    else:
        monkeypatch.setattr(torch.nn.utils, 'clip_grad_norm_', lambda parameters, limit: torch.tensor(math.inf))
    with pytest.raises(TrainingError, match='at step 6 the loss is .* lower --lr .*holds the last complete epoch, 2'):
        train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=3))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize('limit', (100_000, 700_000))
def test_a_full_disk_keeps_the_last_good_epoch(tmp_path, limit):
    """The system refuses to write on, once the checkpoint (0.2 MB), once the state (1 MB)."""
    train(tmp_path)
    state = (tmp_path / STATE).read_bytes()
    assert (tmp_path / 'checkpoint.safetensors').stat().st_size > 100_000 and len(state) > 700_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(SaveError, match='epoch 3 could not be written.*holds the last complete epoch, 2'):
            train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / STATE).read_bytes() == state
    # Whole: the one of epoch 2, or already the one of epoch 3.
    assert load_checkpoint(tmp_path / 'checkpoint.safetensors').provenance.metrics['epoch'] == (
        2 if limit == 100_000 else 3)
    assert not [p for p in tmp_path.iterdir() if 'tmp' in p.name or p.name.startswith('.')]
    resumed = train(tmp_path, config=dataclasses.replace(SETTINGS, epochs=3))
    assert load_checkpoint(tmp_path / 'checkpoint.safetensors').provenance.metrics['epoch'] == 3
    assert all(torch.isfinite(t).all() for t in resumed.state_dict().values())


def test_the_state_never_runs_ahead_of_the_checkpoint(tmp_path, monkeypatch):
    """A run killed between its two files went on behind an epoch whose checkpoint was never written."""
    def fails(*_):
        raise OSError(28, 'no space left')

    monkeypatch.setattr(loop, 'save_checkpoint', fails)
    with pytest.raises(SaveError, match='no space left'):
        train(tmp_path)
    assert not (tmp_path / STATE).exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    def start_another(epoch, metrics):
        train(tmp_path)

    with pytest.raises(StateError, match='another run trains in this folder'):
        train(tmp_path, on_epoch=start_another)


def test_bfloat16_learns_the_same():
    """bfloat16 that is not used, or that reaches the weights or the loss."""
    settings = dataclasses.replace(SETTINGS, precision='float32')
    config = dataclasses.replace(SETTINGS, precision='bfloat16')
    losses = {}
    for name, chosen in (('float32', settings), ('bfloat16', config)):
        def note(epoch, metrics, name=name):
            losses.setdefault(name, []).append(metrics['loss'])

        average = train(config=chosen, on_epoch=note)
        assert all(t.dtype == torch.float32 for t in average.state_dict().values())
    assert losses['float32'] != losses['bfloat16']
    assert losses['float32'] == pytest.approx(losses['bfloat16'], rel=0.02)


def test_balance_draws_classes_equally():
    """A rare class that is never learned; a dataset that cannot say its classes."""
    labels = []

    class Unbalanced(Colours):
        def __init__(self):
            super().__init__(36)
            self.labels = (torch.arange(36) >= 30).int().numpy()

        def __getitem__(self, index):
            labels.append(int(self.labels[index]))
            return super().__getitem__(index)

    config = dataclasses.replace(SETTINGS, epochs=1, balance=True)
    train(frames=Unbalanced(), config=config)
    assert labels.count(0) == labels.count(1) == 18
    with pytest.raises(ValueError, match='balance needs the labels in advance'):
        train(frames=torch.utils.data.Subset(Colours(36), range(36)), config=config)


def test_training_changes_the_weights_and_not_the_projections():
    """An average over projections that are drawn anew, or a part that gets no gradient."""
    start, average = make_model().state_dict(), train().state_dict()
    for name, tensor in average.items():
        assert torch.equal(tensor, start[name]) == name.endswith('projection_matrix'), name


def test_what_decays():
    """Gains and biases pulled to zero: qk_norm's gain is the scale of attention."""
    model = make_model()
    decayed, kept = make_optimizer(model, SETTINGS).param_groups
    assert decayed['weight_decay'] == 0.05 and kept['weight_decay'] == 0
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].rsplit('.', 1)[-1] for p in kept['params']} == {'gain', 'bias', 'weight'}
    assert all('norm' in names[id(p)] or names[id(p)].endswith('bias') for p in kept['params'])
    assert not any('norm' in names[id(p)] for p in decayed['params'])
    assert len(kept['params']) + len(decayed['params']) == len(names)


def test_learning_rate_rises_then_falls():
    """A schedule that starts at zero, jumps at the end of the warm-up, or ends high."""
    rates = [learning_rate(step, 200, 1e-3, 0.1) for step in range(200)]
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
        assert 0 < learning_rate(step, total, 1.0, warmup) <= 1.0


def test_average_moves_towards_the_model():
    """Decay and its complement exchanged: the average would be the last step."""
    model, average = make_model(0), make_model(1)
    before = {name: p.detach().clone() for name, p in average.named_parameters()}
    move_average(average, model, 0.9)
    new = dict(model.named_parameters())
    for name, parameter in average.named_parameters():
        torch.testing.assert_close(parameter.detach(), 0.9 * before[name] + 0.1 * new[name].detach())
    assert average_decay(0, 0.998) == 0.1 and average_decay(100_000, 0.998) == 0.998


def test_augmentation_is_a_function_of_row_step_epoch_and_seed():
    """A resumed run, or a process with other rows, that sees other pictures."""
    frames = Colours(20)
    batch = (frames.frames, frames.references)
    inputs = Inputs(AugmentConfig(), PREPROCESSING, CPU, seed=0)
    whole = inputs(*batch, 1, 2, 0)
    rows = slice(PIECE, 20)
    assert torch.equal(Inputs(AugmentConfig(), PREPROCESSING, CPU, 0)(*(b[rows] for b in batch), 1, 2, PIECE),
                       whole[rows])
    for other in (inputs(*batch, 0, 2, 0), inputs(*batch, 1, 3, 0),
                  Inputs(AugmentConfig(), PREPROCESSING, CPU, 1)(*batch, 1, 2, 0)):
        assert not torch.equal(other, whole)
    assert not torch.equal(whole[:4], inputs(*batch, 1, 2, 8)[:4])


def test_strength_of_augmentation():
    assert strengthened(AugmentConfig(), 1.0) == AugmentConfig()
    weaker, stronger = strengthened(AugmentConfig(), 0.5), strengthened(AugmentConfig(), 100.0)
    assert weaker.noise == AugmentConfig().noise / 2 and weaker.flip == AugmentConfig().flip
    assert stronger.blur == stronger.markers == stronger.tone == 1.0
    assert strengthened(AugmentConfig(), 0.0).noise == 0


def test_more_exits_have_weights(tmp_path):
    """Exits are configuration: one after every block, with the default weights."""
    torch.manual_seed(0)
    model = ViTTactile(ModelConfig(num_classes=3, image_size=(32, 32), width=48, depth=4, exits=(1, 2, 3, 4),
                                   feature_map_dim=16))
    metrics = {}
    train(model=model, validation=Colours(6), config=dataclasses.replace(SETTINGS, epochs=1),
          on_epoch=lambda epoch, found: metrics.update(found))
    assert set(metrics) == {'loss', *(f'accuracy_block_{b}' for b in (1, 2, 3, 4))}


@pytest.mark.parametrize(('device', 'capabilities', 'is_bfloat16'), [
    ('cpu', {'avx512_bf16': True}, True), ('cpu', {'avx512_bf16': False, 'amx_bf16': True}, True),
    ('cpu', {'avx512_f': True}, False), ('cpu', {}, False), ('meta', {'avx512_bf16': True}, False)])
def test_auto_takes_bfloat16_where_the_device_computes_in_it(monkeypatch, device, capabilities, is_bfloat16):
    """Emulated bfloat16 is slower than float32."""
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    assert computes_in_bfloat16(torch.device(device)) is is_bfloat16


def test_auto_keeps_float32_where_torch_does_not_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    assert not computes_in_bfloat16(torch.device('cpu'))


@pytest.mark.parametrize(('blocks', 'moves'), [(0, {'embed', 'block 1', 'block 2', 'head 1', 'head 2'}),
                                               (1, {'block 2', 'head 1', 'head 2'}), (2, {'head 1', 'head 2'})])
def test_frozen_blocks_keep_their_weights_and_everything_else_learns(tmp_path, blocks, moves):
    """Weight decay or the average moves a frozen block; a head or a later block is frozen too; so after a resume."""
    model = make_model()
    before = {name: tensor.clone() for name, tensor in weights_by_block(model).items()}
    config = dataclasses.replace(SETTINGS, freeze=blocks, epochs=1)
    train(tmp_path, model, config=config)
    average = train(tmp_path, make_model(seed=1), config=dataclasses.replace(config, epochs=2))
    for name, tensor in weights_by_block(average).items():
        if not name.endswith(('projection_matrix', 'position')):
            assert torch.equal(tensor, before[name]) == (name.split('.')[0] not in moves), name


def test_more_frozen_blocks_than_there_are_are_refused():
    with pytest.raises(ValueError, match='freeze is 3; must be at most 2'):
        train(config=dataclasses.replace(SETTINGS, freeze=3))


def test_training_varies_the_number_of_patches(monkeypatch):
    """A network that only sees the many patches of simulated touches, and fails on the few of a real one."""
    seen: list[float] = []
    model = ViTTactile(dataclasses.replace(CONFIG, token_threshold=0.1))
    monkeypatch.setattr(model, 'stages', lambda images: seen.append(model.token_threshold) or ViTTactile.stages(
        model, images))
    average = train(model=model)
    assert len(set(seen)) == 6 and all(0.1 <= threshold <= 0.4 for threshold in seen)  # one per step
    assert max(seen) > 2 * min(seen)
    assert average.token_threshold == average.config.token_threshold == 0.1
