"""The choice of the engine that is kept for the next start: when it is used, and when it is measured again."""

import dataclasses
import json
import logging
import os
from pathlib import Path

import pytest
import torch

from vit_tactile_ros.inference.engines import choice, select
from vit_tactile_ros.inference.engines.choice import Choice, conditions, cpu_description, keep_choice, path_for
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.model import ModelConfig, ViTTactile


class Quick(TorchRuntime):
    """A correct engine."""

    name = 'quick'
    factor = 1.0

    def stages(self, images):
        return (logits * self.factor for logits in super().stages(images))


@pytest.fixture
def machine(tmp_path, monkeypatch, caplog):
    """A cache folder, two engines, and measurements that `machine` counts."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv('VIT_TACTILE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(select, 'CPU_ENGINES', {'torch': select._torch,
                                                'quick': lambda request: Quick(request.model, request.device)})
    measured = []

    def fastest(runtimes, _model):
        measured.append([runtime.name for runtime in runtimes])
        return runtimes[-1], {f'{runtime.name} float32': 4.0 - n for n, runtime in enumerate(runtimes)}, 15

    monkeypatch.setattr(select, '_fastest', fastest)
    return measured


def network(seed: int = 0, **changes) -> ViTTactile:
    torch.manual_seed(seed)
    return ViTTactile(ModelConfig(**{'num_classes': 3, 'width': 48, 'depth': 1, 'exits': (1,), 'image_size': (32, 32),
                                     'feature_map_dim': 16} | changes)).eval()


def kept(tmp_path: Path) -> Path:
    [path] = (tmp_path / 'cache').iterdir()
    return path


def test_the_second_start_takes_what_the_first_has_measured(machine, tmp_path, caplog):
    """Every start measured for a second; and nobody could see why an engine was taken."""
    assert make_runtime(network(), 'cpu').name == 'quick' and machine == [['torch', 'quick']]
    assert 'engine chosen: quick float32: 3.00 ms for one image in full depth, against 4.00 of torch' in caplog.text
    caplog.clear()
    assert make_runtime(network(), 'cpu').name == 'quick' and len(machine) == 1
    [line] = caplog.messages
    date = json.loads(kept(tmp_path).read_text())['measured']
    assert line.startswith(f'engine chosen on {date}: quick float32: 3.00 ms') and str(kept(tmp_path)) in line


@pytest.mark.parametrize('change', ('weights', 'size', 'threads', 'ranges', 'cpu', 'torch', 'openvino', 'engines',
                                    'precision'))
def test_other_conditions_are_measured_anew(machine, tmp_path, monkeypatch, change):
    """An engine that was fast for another network, processor or version."""
    make_runtime(network(), 'cpu')
    arguments = {'model': network(), 'device': 'cpu'}
    if change == 'weights':
        arguments['model'] = network(1)
    elif change == 'size':
        arguments['model'] = network(image_size=(32, 48))
    elif change in ('threads', 'ranges', 'precision'):
        arguments[change] = {'threads': 2, 'ranges': [(-1.0, 1.0)] * 4, 'precision': 'auto'}[change]
    elif change == 'cpu':
        monkeypatch.setattr(choice, 'cpu_description', lambda: {'model name': 'another'})
    elif change == 'torch':
        monkeypatch.setattr(torch, '__version__', '2.99.0')
    elif change == 'openvino':
        monkeypatch.setattr(choice, '_version', lambda package: '2099.1')
    else:
        monkeypatch.setitem(select.CPU_ENGINES, 'third', select.CPU_ENGINES['quick'])
    make_runtime(**arguments)
    assert len(machine) == 2 and len(list((tmp_path / 'cache').iterdir())) == 2


def edited(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def of_another_cpu(path: Path) -> None:
    values = json.loads(path.read_text())
    values['conditions']['cpu'] = 'Z80'
    path.write_text(json.dumps(values))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(('damage', 'reason'), [
    (lambda path: path.write_bytes(path.read_bytes()[:100]), 'is damaged, or not a choice of an engine'),
    (lambda path: path.write_bytes(b''), 'is damaged'),
    (lambda path: path.write_bytes(b' ' * 100_000), 'more than 65536 bytes'),
    (lambda path: path.write_bytes(b'\xff\xfe'), 'is damaged'),
    (edited(engine='../../bin/sh'), "milliseconds has no '../../bin/sh float32'"),
    (edited(engine='gone', milliseconds={'gone float32': 1.0}), 'has gone float32; must be one of torch float32'),
    (edited(precision='float16'), "precision is 'float16'"),
    (edited(milliseconds={'quick float32': -1.0}), 'milliseconds must be at least 0'),
    (edited(more=1), 'more is unknown'),
    (of_another_cpu, 'was measured with cpu Z80; here it is'),
    (a_folder, 'cannot be read: a folder'),
    (a_pipe, 'cannot be read: not a regular file'),
])
def test_a_choice_that_cannot_be_used_is_named_and_measured_again(machine, tmp_path, caplog, damage, reason):
    """A node that does not start, waits for ever or runs something else because of a file in a cache."""
    make_runtime(network(), 'cpu')
    damage(kept(tmp_path))
    assert make_runtime(network(), 'cpu').name == 'quick' and len(machine) == 2
    [line] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert line.startswith('the choice of the engine is measured again: ') and reason in line
    if kept(tmp_path).is_file():
        make_runtime(network(), 'cpu')
        assert len(machine) == 2, 'the damaged file was not replaced'


def test_a_kept_engine_must_still_match(machine, monkeypatch, caplog):
    """Outputs were compared only when the engine was measured: a library that miscompiles later would go unnoticed."""
    make_runtime(network(), 'cpu')
    monkeypatch.setattr(Quick, 'factor', 1.01)
    assert make_runtime(network(), 'cpu').name == 'torch'
    assert 'measured again: its logits differ from those of plain torch by 0.01' in caplog.text


def test_an_engine_that_failed_is_tried_at_every_start(machine, tmp_path, monkeypatch, caplog):
    """Memory was short once, so plain torch ran for ever, in silence."""
    monkeypatch.setitem(select.CPU_ENGINES, 'third', select.CPU_ENGINES['quick'])
    monkeypatch.setitem(select.CPU_ENGINES, 'quick', lambda request: (_ for _ in ()).throw(MemoryError('no memory')))
    for _ in range(2):
        assert make_runtime(network(), 'cpu').name == 'quick'
    assert caplog.text.count('engine quick is left out: no memory') == 2 and len(machine) == 2
    assert not (tmp_path / 'cache').exists()


@pytest.mark.parametrize('cache', ('file/below', ''))
def test_a_folder_that_cannot_be_written_changes_nothing(machine, tmp_path, monkeypatch, caplog, cache):
    """A read-only home stopped the node; '' keeps nothing."""
    (tmp_path / 'file').touch()
    monkeypatch.setenv('VIT_TACTILE_CACHE', cache and str(tmp_path / cache))
    for _ in range(2):
        assert make_runtime(network(), 'cpu').name == 'quick'
    assert len(machine) == 2 and [path.name for path in tmp_path.iterdir()] == ['file']
    assert ('the next start measures again: could not write ' in caplog.text) is bool(cache)
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)


def test_where_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv('VIT_TACTILE_CACHE')
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', '')
    assert path_for({}).parent == tmp_path / '.cache' / 'vit_tactile_ros'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'c'))
    assert path_for({}).parent == tmp_path / 'c' / 'vit_tactile_ros'
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')  # to be ignored, by the specification
    monkeypatch.setattr(Path, 'home', lambda: (_ for _ in ()).throw(RuntimeError('no home')))
    assert path_for({}) is None


def test_few_rounds_are_not_kept_and_old_files_are_removed(machine, tmp_path, monkeypatch):
    """A choice of one round on a busy machine that lasts; a folder that grows with every training."""
    monkeypatch.setattr(choice, 'MOST_FILES', 2)
    some = Choice({}, 'torch', 'float32', '2026-11-27', 2, {'torch float32': 1.0})
    keep_choice(some)
    assert not (tmp_path / 'cache').exists()
    for number in range(4):
        keep_choice(dataclasses.replace(some, rounds=3, conditions={'number': str(number)}))
        os.utime(path_for({'number': str(number)}), (number, number))
    assert {path.name for path in (tmp_path / 'cache').iterdir()} == {
        path_for({'number': number}).name for number in '23'}


def test_a_processor_is_described_by_what_does_not_change(tmp_path):
    """The clock rate of the moment, or the order of the flags: no start would find the choice of another."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    first.write_text('processor\t: 0\nmodel name\t: A\ncpu MHz\t\t: 1000\nflags\t\t: avx2 sse\n\nprocessor\t: 1\n')
    second.write_text('processor\t: 0\nmodel name\t: A\ncpu MHz\t\t: 2000\nflags\t\t: sse avx2\n')
    assert cpu_description(first) == cpu_description(second)
    second.write_text(first.read_text().replace('avx2', 'avx2 amx_int8'))
    assert cpu_description(first) != cpu_description(second)
    assert cpu_description(tmp_path / 'none').keys() == {'machine', 'processor'}
    assert conditions(network(), (), ['torch float32'], 1) == conditions(network(), (), ['torch float32'], 1)
