"""The command lines that commands print or store: parsed again they give equal settings, and they run."""

from __future__ import annotations

import dataclasses
import random
import re
import shlex
import typing
from pathlib import Path

import pytest
from command_reference import parser_of
from toy_runs import arguments, write_presses

from vit_tactile_ros import (
    average,
    benchmark,
    calibrate,
    compare,
    cross_validate,
    demo,
    extract,
    fit_sensor,
    flags,
    predict,
    pretrain,
    replay,
    sweep,
    to_bag,
    touchbench,
    train,
    tune,
)
from vit_tactile_ros.foundation.command_flags import HIDDEN, build, fields_of
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.training.request import TrainingRequest

COMMANDS = {
    'train': (train, TrainingRequest, {}), 'tune': (tune, tune.Search, tune.FLAGS),
    'cross_validate': (cross_validate, cross_validate.CrossValidation, cross_validate.FLAGS),
    'calibrate': (calibrate, calibrate.CalibrationRequest, {}), 'sweep': (sweep, sweep.SweepRequest, {}),
    'average': (average, average.AverageRequest, {}), 'benchmark': (benchmark, benchmark.BenchmarkRequest, {}),
    'demo': (demo, demo.DemoSettings, {}), 'extract': (extract, extract.ExtractRequest, {}),
    'compare': (compare, compare.CompareRequest, {}), 'fit_sensor': (fit_sensor, fit_sensor.FitRequest, {}),
    'predict': (predict, predict.PredictRequest, {}), 'to_bag': (to_bag, to_bag.BagRequest, {}),
    'pretrain': (pretrain, pretrain.PretrainRequest, pretrain.FLAGS),
    'replay': (replay, replay.ReplayRequest, {}), 'touchbench': (touchbench, touchbench.TouchbenchRequest, {})}
CHOICES = {'engines': ('torch', 'openvino'), 'sensors': ('digit', 'gelsight'), 'splits': ('test=a,b', "train=c d's"),
           'init': ('shipped', 'a b.safetensors'), 'data': ('simulator', 'my touches', './simulator', '-odd'),
           'reference_files': ('left=a b.png',), 'output': (Path('some where/x y.json'),),
           'augment': ('none', 'gel'), 'label': ('label', 'a "b"', '', '--x'), 'split': ('split', '')}


def draw(rng: random.Random, field, flag):
    """A value of the field's type; most are accepted by their dataclass."""
    kinds = [kind for kind in (field.type, *typing.get_args(field.type)) if typing.get_origin(kind) is tuple]
    if kinds:
        one, *others = typing.get_args(kinds[0])
        count = rng.randint(1, 3) if others[-1] is Ellipsis else 1 + len(others)
        return tuple(draw(rng, dataclasses.replace(field, type=one), flag) for _ in range(count))
    known = CHOICES.get(field.name) or flag.choices
    names = [arg for kind in (field.type, *typing.get_args(field.type)) for arg in typing.get_args(kind)
             if isinstance(arg, str)]
    if known or names:
        found = rng.choice(known or names)
        return Path(found) if field.type is Path else found
    kind = next((arg for arg in typing.get_args(field.type) if arg is not type(None)), field.type)
    return {bool: lambda: rng.random() < 0.5, int: lambda: rng.randint(0, 40), Path: lambda: Path('some where/x y'),
            float: lambda: rng.choice((rng.random(), 10.0 ** rng.randint(-9, 5), 0.25)),
            str: lambda: rng.choice(('cpu', 'a+b', 'gel{gel}.png'))}[kind]()


def drawn_settings(name: str, count: int):
    """Valid settings of a command with random fields changed, by a fixed seed."""
    _, settings, own = COMMANDS[name]
    rng = random.Random(name)
    found = 0
    while found < count:
        values = {}
        for field in fields_of(settings):
            flag = flags._flag(own, field)
            is_required = field.default is dataclasses.MISSING or flag.is_required
            if flag is not HIDDEN and (is_required or rng.random() < 0.25):
                values[field.name] = draw(rng, field, flag)
        try:
            made = build(settings, values)
        except (UserError, FileNotFoundError):
            continue
        found += 1
        yield made


@pytest.mark.parametrize('name', COMMANDS)
def test_what_is_printed_is_parsed_to_the_same(name):
    """A flag that is forgotten, printed under another name, or not quoted."""
    module, _, own = COMMANDS[name]
    for settings in drawn_settings(name, 60):
        words = shlex.split(flags.command_of(name, settings, flags=own))
        assert words[:3] == ['python', '-m', f'vit_tactile_ros.{name}']
        assert module.parse_arguments(words[3:]) == settings, words


@pytest.mark.parametrize('name', COMMANDS)
def test_defaults_are_not_printed(name):
    _, settings, own = COMMANDS[name]
    required = {'average': {'checkpoints': (Path('a'), Path('b')), 'output': Path('c')}, 'calibrate': {'check': 1},
                'cross_validate': {'output': Path('c'), 'data': 'd'}, 'pretrain': {'data': ('d',)},
                'extract': {'bags': (Path('a'),), 'output': Path('b')},
                'compare': {'a': Path('a'), 'b': Path('b')}, 'replay': {'bags': (Path('a'),)},
                'predict': {'images': (Path('a'),)}, 'to_bag': {'recording': Path('a'), 'output': Path('b')},
                'fit_sensor': {'output': Path('a.json'), 'from_table': Path('b')}}.get(name, {})
    printed = flags.command_of(name, build(settings, required), flags=own)
    words = sum(field.name in required for field in fields_of(settings) if not flags._flag(own, field).is_positional)
    assert printed.count('--') == words


@pytest.mark.parametrize('name', COMMANDS)
def test_a_required_flag_has_no_default(name):
    """cross_validate --help showed '(default: simulator)' for --data, which has to be given."""
    for action in parser_of(name)._actions:
        assert not action.required or action.default is None, action.dest


def test_a_field_without_a_flag_is_found(monkeypatch):
    """A setting that nobody can give."""
    shared = dict(flags.SHARED['TrainingConfig'])
    del shared['lr']
    monkeypatch.setitem(flags.SHARED, 'TrainingConfig', shared)
    with pytest.raises(LookupError, match=r'TrainingConfig\.lr: has no flag'):
        train.parse_arguments([])


def test_no_flag_is_left_of_a_field_that_is_gone():
    used = {(field.owner.__name__, field.name) for _, settings, _ in COMMANDS.values() for field in fields_of(settings)}
    assert {(owner, name) for owner, own in flags.SHARED.items() for name in own} <= used
    for name, (_, settings, own) in COMMANDS.items():
        assert own.keys() <= {field.name for field in fields_of(settings)}, name


def test_tune_prints_all_that_it_was_given(monkeypatch):
    """--rendered and --distinct were forgotten: the command trained on other touches than the trials."""
    given = ['--rendered', 'my touches', '--distinct', '32', '--sensors', 'digit', '--init', 'shipped', '--exits', '2',
             '4', '--image_size', '32', '64', '--balance', '--seed', '3', '--batch_size', '8']
    search = tune.parse_arguments(given)
    params = {'lr': 0.00123456, 'weight_decay': 0.1, 'distillation': 0.3, 'early_weight': 0.5, 'augment_strength': 0.7}
    request = train.parse_arguments(shlex.split(tune.train_command(params, search, 2))[3:])
    assert request.data == search.data and request.start == search.start
    assert request.config == dataclasses.replace(search.config, epochs=100, lr=0.001235, weight_decay=0.1,
                                                 distillation=0.3, loss_weights=(0.5, 1.0))
    assert request.augmentation.augment_strength == 0.7


def test_the_command_in_a_checkpoint_trains_the_same(tmp_path, capsys):
    """The whole of it with awkward paths: a run, its provenance run again, and the command that it suggests."""
    folder = write_presses(tmp_path / 'my presses', pictures=12)
    flag_list = arguments(tmp_path / 'first', data='X', epochs=1, control='border', border=0.2, split_seed=3, lr=2e-3)
    flag_list[flag_list.index('X')] = str(folder)
    assert train.main([*flag_list, '--balance']) == 0
    suggested = re.search(r'python -m vit_tactile_ros.calibrate (.*)', capsys.readouterr().out)[1]
    first = load_checkpoint(tmp_path / 'first' / 'checkpoint.safetensors')
    words = shlex.split(first.provenance.command)
    assert train.parse_arguments(words[3:]) == train.parse_arguments([*flag_list, '--balance'])
    words[words.index(str(tmp_path / 'first'))] = str(tmp_path / 'again')
    assert train.main(words[3:]) == 0
    again = load_checkpoint(tmp_path / 'again' / 'checkpoint.safetensors')
    for name, tensor in first.model.state_dict().items():
        assert tensor.equal(again.model.state_dict()[name])
    assert calibrate.main([*shlex.split(suggested), '--device', 'cpu']) == 0


def test_tune_to_train_with_rendered_touches(tmp_path, monkeypatch, capsys):
    """The printed command finds the touches that the trials rendered."""
    monkeypatch.chdir(tmp_path)
    small = ('--epoch_size 8 --validation_size 4 --batch_size 4 --exits 1 2 --image_size 32 32 --distinct 8 '
             '--rendered touches').split()
    assert tune.main([*small, '--trials', '1', '--epochs', '1', '--workers', '0', '--device', 'cpu', '--storage',
                      f'sqlite:///{tmp_path}/tune.db']) == 0
    rendered, = Path('touches').iterdir()
    before = rendered.read_bytes()
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])[3:]
    assert train.main([*words, '--epochs', '1', '--workers', '0', '--device', 'cpu', '--output', 'run']) == 0
    assert [path.name for path in Path('touches').iterdir()] == [rendered.name] and rendered.read_bytes() == before


def test_shipped_stays_a_name(tmp_path):
    """The path of one machine's installation in a checkpoint that is given away."""
    request = train.parse_arguments(['--init', 'shipped'])
    assert flags.command_of('train', request).endswith('--init shipped')
    assert request.start.paths() == [shipped_checkpoint()]
