"""benchmark end to end on a toy network, and that it refuses to time an engine that is wrong."""

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from toy_clips import write_video
from toy_outputs import toy_checkpoint

from vit_tactile_ros import benchmark
from vit_tactile_ros.evaluation.agreement import DisagreementError, check_agreement
from vit_tactile_ros.evaluation.benchmark.contest import interleave
from vit_tactile_ros.evaluation.benchmark.vit_tiny import NUM_PARAMETERS, VitTiny
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.ranges import activation_ranges
from vit_tactile_ros.inference.runtime import has_vnni
from vit_tactile_ros.model import Calibration, early_exit, load_checkpoint, save_checkpoint
from vit_tactile_ros.simulator import CLASS_NAMES

CPU = torch.device('cpu')
KEYS = ['device', 'threads', 'engine', 'batch_size', 'tau', 'n', 'exit_ms', 'full_ms', 'early_ms', 'speedup_percent',
        'timm_ms', 'ratio_vs_timm', 'extra']


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(names=CLASS_NAMES))
    return path


def test_the_command(toy, tmp_path, capsys):
    """The last line is what other programs read; its figures are those of the CSV."""
    assert benchmark.main(['--checkpoint', str(toy), '--quick', '--seconds', '1', '--batch_size', '8', '--tau', '0.4',
                           '--size', '16', '--engines', 'torch', '--output', str(tmp_path / 'out')]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result) == KEYS
    assert (result['device'], result['engine'], result['batch_size'], result['tau']) == ('cpu', 'torch', 8, 0.4)
    assert list(result['exit_ms']) == ['1', '2', '3'] and min(result['exit_ms'].values()) > 0
    assert list(result['full_ms']) == ['p50', 'p99'] and list(result['early_ms']) == ['mean', 'p50', 'p99']
    assert result['ratio_vs_timm'] == pytest.approx(result['timm_ms']['p50'] / result['full_ms']['p50'])
    assert sum(result['extra']['exit_rates']) == pytest.approx(1)
    assert list(result['extra']['batches_ms']) == [str(b) for b in benchmark.BATCHES]
    rows = {(r['contest'], r['name']): r for r in csv.DictReader((tmp_path / 'out' / 'benchmark.csv').open())}
    assert float(rows['batch', 'full']['p50_ms']) == pytest.approx(result['full_ms']['p50'])
    assert int(rows['batch', 'full']['n']) == result['n'] >= 2
    assert float(rows['tokens', '3136']['p50_ms']) > float(rows['tokens', '196']['p50_ms'])
    cpu = result['extra']['cpu_s_per_1000']
    assert {'full', 'early', 'timm', 'exit 0'} <= set(cpu) and min(cpu.values()) > 0
    assert result['extra']['stream'] is None
    assert (tmp_path / 'out' / 'benchmark.png').read_bytes().startswith(b'\x89PNG')


def test_a_stream_without_other_sizes(toy, tmp_path, capsys):
    """A flag that reaches nothing; a JSON without the keys that other programs read."""
    path = write_video(tmp_path / 'press.avi', [np.full((64, 64, 3), 90 + 60 * (10 <= number < 13), np.uint8)
                                                for number in range(20)])
    assert benchmark.main(['--checkpoint', str(toy), '--quick', '--seconds', '0.2', '--batch_size', '1', '--size', '4',
                           '--engines', 'torch', '--skip_sizes', '--stream', str(path), '--stream_seconds', '1',
                           '--tau', '0.4', '--output', str(tmp_path / 'out')]) == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    found = result['extra']['stream']
    assert list(result) == KEYS and result['extra']['tokens_ms'] == {}
    assert found['clips'] == 1 and {'full depth', 'all together', 'preprocessing alone'} < set(found['lines'])
    assert found['lines']['all together']['cpu_s_per_1000'] > 0 and 'stream, 32x32 px, torch in float32' in out


@pytest.mark.parametrize(('flags', 'message'), (
    (['--contacts', 'c.csv'], 'contacts: only allowed with --stream'),
    (['--random', '--stream', 'clips'], 'random: not allowed with --stream')))
def test_flags_that_need_each_other(flags, message, capsys):
    """Labels that nothing uses; exits of a network whose confidences are random."""
    with pytest.raises(SystemExit):
        benchmark.main(flags)
    assert message in capsys.readouterr().err


@pytest.fixture
def with_ranges(toy):
    """The toy network with ranges; skips where int8 can't run."""
    pytest.importorskip('openvino', reason='openvino is not installed: pip install .[fast]')
    if not has_vnni():
        pytest.skip('this CPU has no VNNI, which int8 needs')
    checkpoint = load_checkpoint(toy)
    ranges = activation_ranges(checkpoint.model, [torch.randn(8, 3, 32, 32)])
    save_checkpoint(toy, dataclasses.replace(checkpoint, calibration=Calibration(activation_ranges=ranges)))
    return toy


@pytest.mark.parametrize('precision', ('int8', 'auto'))
def test_int8_and_what_it_costs(with_ranges, tmp_path, capsys, precision):
    """One command for both targets: how much faster, at how many points. Other sizes have no ranges in the file."""
    assert benchmark.main(['--checkpoint', str(with_ranges), '--quick', '--seconds', '1', '--batch_size', '4', '--size',
                           '16', '--engines', 'openvino', '--precision', precision, '--accuracy', '20', '--tau', '0.4',
                           '--output', str(tmp_path / 'out')]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    extra = result['extra']
    assert list(result) == KEYS and result['engine'] == 'openvino'
    assert extra['precision'] == 'int8' or precision == 'auto'
    assert list(extra['agreement']) == (['openvino'] if precision == 'int8' else
                                        ['openvino float32', 'openvino bfloat16', 'openvino int8'])
    assert extra['accuracy']['n'] == 20 and list(extra['accuracy']['exits']) == ['1', '2', '3']
    early = extra['accuracy']['early']
    assert early['points'] == pytest.approx(100 * (early['accuracy'] - early['plain']))
    assert extra['data'].startswith('16 of 20 simulated') and extra['early_ratio_vs_timm'] > 0
    assert f'accuracy on 20 touches, openvino in {extra["precision"]}' in printed


def test_int8_without_ranges_is_refused(toy, tmp_path, capsys):
    """Another engine's or precision's figures under the name of int8."""
    assert benchmark.main(['--checkpoint', str(toy), '--quick', '--size', '4', '--engines', 'openvino', '--precision',
                           'int8', '--output', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert any(words in error for words in ('calibrate --checkpoint FILE', 'VNNI', 'openvino is not installed'))


def test_an_engine_that_loses_classes_is_refused():
    """Logits within what 8 bits may be off by, and other answers for many."""
    model = toy_checkpoint().model

    class Nudges(TorchRuntime):
        precision = 'int8'

        def __init__(self, share):
            super().__init__(model, CPU)
            self.precision, self._share = 'int8', share

        def stages(self, images):
            for logits in super().stages(images):
                top, runner_up = logits.topk(2).indices.T
                rows = torch.arange(int(self._share * len(logits)))
                gap = logits.amax(1) - logits[torch.arange(len(logits)), runner_up]
                order = gap.argsort()[:len(rows)]  # the smallest gaps
                logits[order, top[order]] -= gap[order] + 1e-3
                yield logits

    torch.manual_seed(1)
    images = torch.randn(600, 3, 32, 32)
    reference = TorchRuntime(model, CPU)
    assert check_agreement(Nudges(0.01), reference, images, (1.0, 1.0), (1.0,) * 3, 600) < 0.15
    with pytest.raises(DisagreementError, match='gives 12 of 600 samples another class .* must be at most 7'):
        check_agreement(Nudges(0.02), reference, images, (1.0, 1.0), (1.0,) * 3, 600)


def test_an_auto_precision_that_disagrees_is_left_out(toy, tmp_path, monkeypatch, capsys):
    """The fastest precision, whose answers are wrong."""
    def fake(model, engine, precision='float32', **_):
        runtime = TorchRuntime(model, CPU)
        if precision == 'int8':
            runtime._model.stage_modules[1].head.classify.bias.data[0] += 100
        runtime.precision = precision
        return runtime

    monkeypatch.setattr(benchmark, 'make_runtime', fake)
    monkeypatch.setattr(benchmark, 'CPU_ENGINES', {'torch': None})
    assert benchmark.main(['--checkpoint', str(toy), '--quick', '--seconds', '0.5', '--size', '4', '--batch_size', '2',
                           '--precision', 'auto', '--output', str(tmp_path)]) == 0
    out, error = capsys.readouterr()
    assert "engine torch int8 is skipped: engine 'torch' differs from plain torch" in error
    assert list(json.loads(out.splitlines()[-1])['extra']['agreement']) == ['torch float32', 'torch bfloat16']


def test_an_engine_that_is_wrong_is_not_timed(toy, tmp_path, monkeypatch, capsys):
    """A fast engine with wrong answers."""
    def wrong(model, engine, **_):
        runtime = TorchRuntime(model, CPU)
        if engine != 'torch':
            runtime._model.stage_modules[1].head.classify.bias.data[0] += 1
        return runtime

    monkeypatch.setattr(benchmark, 'make_runtime', wrong)
    monkeypatch.setattr(benchmark, 'CPU_ENGINES', {'torch': None, 'other': None})
    assert benchmark.main(['--checkpoint', str(toy), '--quick', '--size', '8', '--batch_size', '4', '--output',
                           str(tmp_path)]) == 1
    assert 'differs from plain torch: logits of exit 1' in capsys.readouterr().err


def test_other_exits_with_equal_logits_are_refused():
    """An engine whose stages lose rows after the first samples have left; full depth does not show it."""
    model = toy_checkpoint().model

    class Mixes(TorchRuntime):
        def stages(self, images):
            stages = super().stages(images)
            rows = yield next(stages)
            for _ in range(2):
                rows = yield stages.send(None if rows is None else rows.flip(0).roll(1))

    torch.manual_seed(1)
    images = torch.randn(16, 3, 32, 32)
    confidences = torch.stack([logits.softmax(1).amax(1) for logits in model.stages(images)], dim=1).detach()
    tau = (float(confidences[:, 0].median()) + 1e-3, float(confidences[:, 1].median()) + 1e-3)
    reference = TorchRuntime(model, CPU)
    assert check_agreement(TorchRuntime(model, CPU), reference, images, tau, (1.0,) * 3, 16) == 0
    with pytest.raises(DisagreementError, match='a sample exits at exit'):
        check_agreement(Mixes(model, CPU), reference, images, tau, (1.0,) * 3, 16)


def test_an_engine_that_mixes_up_its_early_answers_is_refused():
    """Right stages and right exits, with the answers of other samples."""
    model = toy_checkpoint().model

    class Rolls(TorchRuntime):
        def early_exit(self, images, tau, temperatures, hurry=None, evidence=None):
            found = early_exit(self.stages(images), tau, temperatures)
            return dataclasses.replace(found, probabilities=found.probabilities.roll(1, 1))

    torch.manual_seed(1)
    with pytest.raises(DisagreementError, match='differs from plain torch with early exits'):
        check_agreement(Rolls(model, CPU), TorchRuntime(model, CPU), torch.randn(8, 3, 32, 32), (0.0, 0.0), (1.0,) * 3,
                        8)


def test_rounds_are_interleaved_and_end_with_the_budget():
    """One contender timed in a quiet minute, the next in a busy one."""
    calls = []
    times = interleave({'a': lambda i: calls.append('a'), 'b': lambda i: calls.append('b')}, 100, 20, warm_up=0)
    assert all(sorted(calls[i:i + 2]) == ['a', 'b'] for i in range(0, 40, 2)) and times['a'].n == times['b'].n == 20
    assert {tuple(calls[i:i + 2]) for i in range(0, 40, 2)} == {('a', 'b'), ('b', 'a')}
    assert interleave({'a': lambda i: None}, 1e-9, 20, least=3)['a'].n == 3


def test_contenders_rest_between_turns(monkeypatch):
    """Threads of one contender that spin for more work on the core of the next."""
    slept, events = [], []
    monkeypatch.setattr('vit_tactile_ros.evaluation.benchmark.contest.time.sleep',
                        lambda s: (slept.append(s), events.append('rest')))
    interleave({'a': lambda i: events.append('run'), 'b': lambda i: events.append('run')}, 100, 3, warm_up=0)
    assert events == ['rest', 'run'] * 6 and min(slept) >= 0.005


def test_own_vit_tiny_has_the_size_of_timms():
    """A baseline that is slower than what it is named after."""
    assert sum(p.numel() for p in VitTiny().parameters()) == NUM_PARAMETERS


def test_own_vit_tiny_answers_as_timms():
    timm = pytest.importorskip('timm', reason='timm is not installed; it needs a torchvision that fits torch')
    theirs = timm.create_model('vit_tiny_patch16_224', pretrained=False).eval()
    ours = VitTiny.copy_of(theirs, (224, 224))
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_another_image_size_keeps_the_weights():
    """Random weights at every size but the checkpoint's."""
    model = toy_checkpoint().model
    images = torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        for a, b in zip(model.changed(image_size=(64, 48)).stages(images), model.stages(images), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize('flags', (['--batch_size', '0'], ['--accuracy', '-1'],
                                   ['--tau', '80'], ['--seconds', '0'], ['--threads', '0']))
def test_arguments_out_of_range(flags, capsys):
    """A percentage for a share, or a division by zero later."""
    with pytest.raises(SystemExit) as error:
        benchmark.main(flags)
    assert error.value.code == 2 and 'must be' in capsys.readouterr().err


def test_threads_and_thresholds_are_those_that_were_asked_for(toy, tmp_path, monkeypatch, capsys):
    """OpenCV on all cores in figures for one thread: it waits for the busy ones. One threshold where each exit has one.
    """
    before = cv2.getNumThreads()
    seen = {}

    def look(request, checkpoint, console):
        seen.update(threads=cv2.getNumThreads(), tau=request.tau)
        return {}

    monkeypatch.setattr(benchmark, 'run', look)
    try:
        for threads in (2, 1):
            assert benchmark.main(['--checkpoint', str(toy), '--output', str(tmp_path), '--threads', str(threads),
                                   '--tau', '0.9', '0.5']) == 0
            assert seen == {'threads': threads, 'tau': (0.9, 0.5)}
    finally:
        cv2.setNumThreads(before)
        torch.set_num_threads(1)


def test_mistakes_and_ctrl_c(toy, tmp_path, monkeypatch, capsys):
    """A traceback in place of a word."""
    assert benchmark.main(['--checkpoint', 'nowhere', '--output', str(tmp_path)]) == 2
    assert 'no such file' in capsys.readouterr().err

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, 'run', interrupted)
    assert benchmark.main(['--checkpoint', str(toy), '--output', str(tmp_path)]) == 130
    assert 'stopped' in capsys.readouterr().err
