"""Every engine against plain torch, and the choice among them."""

import builtins
import dataclasses
import importlib.util
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.evaluation.outputs import inputs_of
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.engines import select
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.select import _amid, make_runtime
from vit_tactile_ros.inference.ranges import activation_ranges
from vit_tactile_ros.inference.runtime import computes_in_bfloat16, has_vnni
from vit_tactile_ros.model import ModelConfig, ViTTactile, load_checkpoint, shipped_checkpoint
from vit_tactile_ros.model.early_exit import early_exit, exit_probabilities
from vit_tactile_ros.model.tokens import Group, Kept, choose_tokens, kept_shares

reason = 'openvino is not installed: pip install .[fast]'
pytest.importorskip('openvino', reason=reason)
from vit_tactile_ros.inference.engines.openvino import (  # noqa: E402 (it imports openvino)
    OpenVinoRuntime,
    compile_graphs,
    settings_for,
)
from vit_tactile_ros.inference.engines.openvino_counts import for_counts, for_one_image  # noqa: E402
from vit_tactile_ros.inference.engines.openvino_graph import stage_graphs  # noqa: E402

CPU = torch.device('cpu')
needs_vnni = pytest.mark.skipif(not has_vnni(), reason='this CPU has no VNNI, which int8 needs')
needs_bfloat16 = pytest.mark.skipif(not computes_in_bfloat16(CPU), reason='this CPU has no bfloat16 arithmetic')
VARIANTS = {
    'relu': {'attention': 'favor_relu'},
    'softmax features': {'attention': 'favor_softmax'},
    'exact': {'attention': 'softmax'},
    'stem': {'attention': 'favor_relu', 'stem': 'convolution'},
    'motion': {'channels': 6},
    'queries': {'queries': 3},
    'queries, tokens': {'queries': 3, 'token_threshold': 0.1},
    'added exits': {'added_exits': True},
    'added exits, tokens': {'added_exits': True, 'token_threshold': 0.1},
    'no norm': {'attention': 'favor_softmax', 'qk_norm': False},
    'relu, tokens': {'attention': 'favor_relu', 'token_threshold': 0.1},
    'softmax features, tokens': {'attention': 'favor_softmax', 'token_threshold': 0.1},
    'exact, tokens': {'attention': 'softmax', 'token_threshold': 0.1, 'heads': 4},
}


def varied(count: int, model: ViTTactile) -> torch.Tensor:
    """Images of which a model that drops patches keeps different numbers."""
    images = torch.randn(count, model.config.channels, *model.config.image_size)
    for number, image in enumerate(images):
        image[:, :, 16 * (number % 4):] *= 0.01
    return images


def toy_model(**changes) -> ViTTactile:
    """Every weight random, gains and offsets of norms too: what is left out or mixed up shows."""
    torch.manual_seed(0)
    model = ViTTactile(ModelConfig(**{'num_classes': 4, 'width': 48, 'heads': 3, 'depth': 3, 'exits': (1, 2, 3),
                                      'image_size': (32, 48), 'feature_map_dim': 32} | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize('variant', VARIANTS)
def test_openvino_equals_torch(variant):
    """A layer written wrongly into the graph; a batch size or a choice of rows that it can't follow."""
    model = toy_model(**VARIANTS[variant])
    engine = OpenVinoRuntime(model)
    for batch in (1, 5, 2, 1):
        images = varied(batch, model)
        with torch.inference_mode():
            for got, wanted in zip(engine.stages(images), model.stages(images), strict=True):
                torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)


def test_as_many_heads_as_tokens_are_refused():
    """OpenVINO mixed them up with exact attention: a silent wrong prediction."""
    with pytest.raises(NotImplementedError, match='3 heads on as many tokens'):
        OpenVinoRuntime(toy_model(attention='softmax', token_threshold=0.1))


@pytest.mark.parametrize('counts', ((2, 3, 6), (3, 6), (6,)))
def test_one_graph_computes_every_number_of_tokens(counts):
    """A branch of another number of tokens, when the number changes from image to image."""
    graph = stage_graphs(toy_model(token_threshold=0.1))[0]
    settings = settings_for('float32', 1)
    one, = compile_graphs([for_counts(graph, counts)], settings)
    fixed = {count: compile_graphs([for_one_image(graph, count)], settings)[0] for count in counts}
    for count in (*counts, *counts[::-1], counts[0]):
        inputs = [torch.randn(1, count, 48).numpy(), 1 + torch.rand(1, count).numpy()]
        for got, wanted in zip(one.infer(inputs).values(), fixed[count].infer(inputs).values(), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize('images', (1, 2))
def test_other_numbers_of_tokens_are_refused(images):
    """The graph of one image took any number for its largest one, and returned wrong logits."""
    runtime = OpenVinoRuntime(toy_model(token_threshold=0.1))
    for count in (1, 4):
        kept = Kept(torch.arange(count).expand(images, count), torch.ones(images, count))
        with pytest.raises(ValueError, match=f'keeps {count} patches; must be one of 2, 3, 5, 6'):
            runtime.stages(torch.randn(images, 3, 32, 48), [Group(torch.arange(images), kept)])


def test_equal_confidences_have_a_threshold_that_rounding_does_not_decide():
    """A threshold at the confidence itself: an engine was refused for the last bit."""
    assert _amid(torch.tensor([0.5, 0.5, 0.5])) == 0.25
    assert _amid(torch.tensor([0.5, 0.9, 0.52])) == pytest.approx(0.71)


def test_every_number_of_tokens_is_checked(monkeypatch):
    """An engine that is wrong only for a number of tokens that no check uses."""
    model, seen = toy_model(token_threshold=0.1), set()
    stages = TorchRuntime.stages
    monkeypatch.setattr(TorchRuntime, 'stages', lambda self, images: seen.update(
        (kept_shares(model.choose(images), model.config) * 6).round().astype(int).tolist()) or stages(self, images))
    make_runtime(model, 'cpu', 'openvino')
    assert seen == {2, 3, 5, 6}


@torch.inference_mode()
def test_every_precision_computes_the_same_patches():
    """Patches chosen from rounded inputs: bfloat16 would decide on other ones than float32."""
    model = toy_model(token_threshold=0.1)
    images = 0.17496 + 2e-4 * torch.randn(40, 3, 32, 48)  # at the threshold, after the smooth change
    seen = []
    runtime = TorchRuntime(model, CPU, 'bfloat16')
    runtime._model.stage_modules[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape[:2]))
    next(runtime.stages(images))
    assert seen == [(len(group.rows), 6 if group.kept is None else group.kept.patches.shape[1])
                    for group in choose_tokens(images, 16, 0.1)] and len(seen) > 1


@pytest.mark.parametrize('precision', ('float32', pytest.param('int8', marks=needs_vnni)))
@torch.inference_mode()
def test_one_image_is_computed_as_openvino_computes_it_alone(precision):
    """Tokens of the image before, of a run that ended early, or of a batch of which one image was left, in memory that
    an earlier run has used."""
    model = toy_model()
    images = varied(6, model)
    ranges = activation_ranges(model, images.split(2)) if precision == 'int8' else ()
    runtime = OpenVinoRuntime(model, precision, ranges=ranges)
    requests = compile_graphs([for_one_image(graph) for graph in stage_graphs(model, ranges)],
                              settings_for(precision, 1))
    for number, image in enumerate(images.split(1)):
        state, wanted = image.numpy(), []
        for request in requests:
            logits, *rest = request.infer([state]).values()
            wanted.append(logits)
            state = rest[0] if rest else None
        early = runtime.stages(images[-1:])
        next(early)
        early.close()
        if number % 2:
            batch = runtime.stages(images[:3])
            next(batch)
            batch.send(torch.tensor([2]))
            batch.close()
        got = list(runtime.stages(image))
        kept = [logits.clone() for logits in got]
        list(runtime.stages(images[-1:]))
        for logits, same, expected in zip(got, kept, wanted, strict=True):
            assert np.array_equal(logits.numpy(), expected) and torch.equal(logits, same)


@pytest.mark.parametrize('added', (False, True))
@pytest.mark.parametrize('threshold', (0.0, 0.1))
@torch.inference_mode()
def test_openvino_goes_on_with_the_rows_that_are_sent(threshold, added):
    """Rows taken from the wrong stage's tokens, in the wrong order, or from memory that the next run overwrites; logits
    of an exit added to those of another image."""
    model = toy_model(token_threshold=threshold, added_exits=added)
    engine, reference = OpenVinoRuntime(model).stages, model.stages
    images = varied(6, model)
    got, wanted = engine(images), reference(images)
    first = next(got)
    kept = first.clone()
    torch.testing.assert_close(first, next(wanted), atol=2e-5, rtol=1e-4)
    for rows in (torch.tensor([4, 1, 2]), torch.tensor([2])):
        torch.testing.assert_close(got.send(rows), wanted.send(rows), atol=2e-5, rtol=1e-4)
    assert torch.equal(first, kept)
    list(engine(torch.randn(6, 3, 32, 48)))
    assert torch.equal(first, kept)


@torch.inference_mode()
def test_openvino_leaves_at_the_same_exits_as_torch_with_the_shipped_checkpoint():
    """Real weights: features and norms of a scale that random ones never reach."""
    checkpoint = load_checkpoint(shipped_checkpoint())
    model = checkpoint.model
    height, width = model.config.image_size
    images = torch.randn(12, 3, height, width, generator=torch.Generator().manual_seed(0))
    images *= torch.linspace(0.0, 2.0, 12)[:, None, None, None]  # from nothing touched to noise
    temperatures = checkpoint.calibration.temperatures
    # Thresholds amid the confidences, so that some leave at each exit.
    tau = [float(exit_probabilities(logits, temperature).amax(dim=-1).median()) + 1e-4
           for logits, temperature in zip(model.stages(images), temperatures, strict=True)][:-1]
    results = [early_exit(runtime.stages(images), tau, temperatures)
               for runtime in (make_runtime(model, 'cpu', 'openvino'), TorchRuntime(model, CPU))]
    torch.testing.assert_close(results[0].logits, results[1].logits, atol=1e-3, rtol=1e-3)
    assert results[0].exit_index.tolist() == results[1].exit_index.tolist()
    assert len(set(results[0].exit_index.tolist())) > 1, 'the images are too alike to show anything'


@needs_bfloat16
@pytest.mark.parametrize('channels', (3, 6, 12))
@torch.inference_mode()
def test_bfloat16_patches_of_several_views(channels):
    """OpenVINO's convolution with AMX: logits that are off by half for 6 or 12 channels."""
    model = toy_model(channels=channels)
    images = torch.randn(2, channels, 32, 48)
    for got, wanted in zip(OpenVinoRuntime(model, 'bfloat16').stages(images), model.stages(images), strict=True):
        assert 0 < (got - wanted).abs().max() < 0.03 * wanted.abs().max()


@needs_vnni
@pytest.mark.parametrize('variant', VARIANTS)
@torch.inference_mode()
def test_int8_is_close_to_torch(variant):
    """A range given to another layer than the one that it was measured at, or integers where there are none to be.

    The images had three channels and all patches, also for models with motion or a token_threshold.
    """
    model = toy_model(**VARIANTS[variant])
    images = varied(5, model)
    engine = OpenVinoRuntime(model, 'int8', ranges=activation_ranges(model, images.split(2)))
    largest = [logits.abs().max() for logits in model.stages(images)]  # some images have small ones only
    for batch in (images, *images.split(1)):
        for got, wanted, scale in zip(engine.stages(batch), model.stages(batch), largest, strict=True):
            # correct 0.025 at most (bfloat16 alone 0.015), with the ranges of the MLP swapped 0.11 at least
            assert 0 < (got - wanted).abs().max() < 0.06 * scale


@pytest.mark.parametrize('engine', ('auto', 'openvino'))
def test_int8_without_ranges_is_refused(monkeypatch, engine):
    """Ranges that are guessed, or float32 in silence; the way out must be a command that can be given."""
    monkeypatch.setattr('vit_tactile_ros.inference.engines.openvino.has_vnni', lambda: True)
    with pytest.raises(ValueError, match="engine is '.*precision is 'int8'; it needs ranges of activations.*: run "
                                         'python -m vit_tactile_ros.calibrate --checkpoint FILE --output NEW'):
        make_runtime(toy_model(), 'cpu', engine, 'int8')


def test_int8_where_it_can_not_be_computed_is_refused(monkeypatch):
    """8-bit products that overflow their 16 bits on CPUs without VNNI, or a silent other engine."""
    monkeypatch.setattr('vit_tactile_ros.inference.engines.openvino.has_vnni', lambda: False)
    model = toy_model()
    ranges = activation_ranges(model, [torch.zeros(1, 3, 32, 48)])
    for engine in ('auto', 'openvino'):
        with pytest.raises(ValueError, match=r"precision is 'int8'; this CPU has no .*\(VNNI\).*must be 'float32'"):
            make_runtime(model, 'cpu', engine, 'int8', ranges=ranges)
    with pytest.raises(ValueError, match="engine is 'torch': precision is 'int8'; plain torch has no 8-bit layers"):
        make_runtime(model, 'cpu', 'torch', 'int8', ranges=ranges)


@pytest.fixture(scope='module')
def shipped_with_ranges():
    """The shipped network with ranges of 32 simulated touches, and 64 others as inputs."""
    checkpoint = load_checkpoint(shipped_checkpoint())
    seen, others = (torch.from_numpy(inputs_of(SimulatedTouches(n, checkpoint.preprocessing, seed),
                                               checkpoint.preprocessing, range(n))) for n, seed in ((32, 1), (64, 2)))
    calibration = dataclasses.replace(checkpoint.calibration,
                                      activation_ranges=activation_ranges(checkpoint.model, seen.split(8)))
    return dataclasses.replace(checkpoint, calibration=calibration), others


@needs_vnni
def test_int8_answers_as_float32_on_touches(shipped_with_ranges):
    """Logits that are near and predictions that are not: what the user sees is the class and the exit."""
    checkpoint, touches = shipped_with_ranges
    exact, fast = (TactileClassifier(checkpoint, 'cpu', p, threads=1) for p in ('float32', 'int8'))
    assert (exact.runtime.name, fast.runtime.name, fast.runtime.precision) == ('torch', 'openvino', 'int8')
    pairs = list(zip(*(c.classify_inputs(touches.numpy(), (0.7, 0.7)) for c in (exact, fast)), strict=True))
    assert sum(a.class_id != b.class_id for a, b in pairs) <= 1
    assert sum(a.exit_index != b.exit_index for a, b in pairs) <= 3
    assert max(abs(a.probabilities - b.probabilities).max() for a, b in pairs if a.exit_index == b.exit_index) < 0.15


@needs_vnni
def test_ranges_of_another_network_are_refused(shipped_with_ranges):
    """Ranges left in a checkpoint whose weights were trained on: predictions that are off by more than the rounding."""
    checkpoint, _ = shipped_with_ranges
    ranges = checkpoint.calibration.activation_ranges
    assert make_runtime(checkpoint.model, 'cpu', 'openvino', 'int8', ranges=ranges).precision == 'int8'
    for wrong in (ranges[1:] + ranges[:1], [(low / 2, high / 2) for low, high in ranges],
                  [(low / 4, high / 4) for low, high in ranges]):
        with pytest.raises(ValueError, match='must be at most 0.05: .* calibrate the checkpoint again'):
            make_runtime(checkpoint.model, 'cpu', 'openvino', 'int8', ranges=wrong)


class _Pretends(TorchRuntime):
    """Float32 that calls itself something else, and may be wrong by a factor."""

    name = 'fake'

    def __init__(self, request, factor=1.0):
        super().__init__(request.model, request.device)
        self.precision = request.precision
        for stage in self._model.stage_modules:
            stage.head.classify.weight.data *= factor
            stage.head.classify.bias.data *= factor


@pytest.mark.parametrize(('given', 'factor', 'wanted'), (
    (True, 1.0, ('fake', 'int8')), (False, 1.0, ('fake', 'bfloat16')), (True, 1.06, ('fake', 'bfloat16'))))
def test_auto_precision_takes_the_fastest_that_agrees(monkeypatch, caplog, given, factor, wanted):
    """Int8 that predicts otherwise, without ranges, or bfloat16 where int8 is faster; and nobody is told."""
    caplog.set_level(logging.INFO)

    def prepare(request):
        if request.precision == 'int8' and not request.ranges:
            raise ValueError('no ranges')
        return _Pretends(request, factor if request.precision == 'int8' else 1.0)

    clock = {'now': 0.0}
    seconds = {'float32': 4.0, 'bfloat16': 2.0, 'int8': 1.0}
    monkeypatch.setattr(select, 'CPU_ENGINES', {'torch': select._torch, 'fake': prepare})
    monkeypatch.setattr(select, 'computes_in_bfloat16', lambda device: False)
    monkeypatch.setattr(select.time, 'perf_counter', lambda: clock['now'])
    timed = select._fastest

    def fastest(runtimes, model):
        for runtime in runtimes:
            def stages(images, runtime=runtime):
                clock['now'] += seconds[runtime.precision] + (runtime.name == 'torch')
                return iter(())
            runtime.stages = stages
        return timed(runtimes, model)

    monkeypatch.setattr(select, '_fastest', fastest)
    model = toy_model()
    taken = make_runtime(model, 'cpu', 'auto', 'auto', ranges=[(-1.0, 1.0)] * 12 if given else ())
    assert (taken.name, taken.precision) == wanted
    times = {'int8': '1000.00', 'bfloat16': '2000.00'}
    assert f'engine chosen: fake {wanted[1]}: {times[wanted[1]]} ms for one image in full depth, against' in caplog.text
    assert '5000.00 of torch float32 (medians of' in caplog.text
    assert ('engine fake is left out in int8: ' in caplog.text) is (wanted[1] != 'int8')


def test_openvino_refuses_images_of_another_size():
    """A library's error about a node's number in place of what would be right."""
    with pytest.raises(ValueError, match=r'images have shape \(1, 3, 48, 48\); must be \(B, 3, 32, 48\)'):
        OpenVinoRuntime(toy_model()).stages(torch.zeros(1, 3, 48, 48))


def test_openvino_does_not_report_its_import_over_the_network():
    """It sent one from a fork of the node; where no reply came, the signal that ended the fork stopped the node."""
    from openvino.tools.ovc import telemetry

    assert type(telemetry).__module__ == 'openvino.tools.ovc.telemetry_stub'


def test_an_unknown_engine_is_refused():
    """A misspelt name that runs something else."""
    with pytest.raises(ValueError, match="engine is 'openvin'; on cpu it must be 'auto' or one of torch, openvino"):
        make_runtime(toy_model(), 'cpu', 'openvin')


def test_bfloat16_is_refused_where_the_cpu_lacks_it(monkeypatch):
    """bfloat16 that is emulated, at a tenth of the speed; on a CPU that has it the engine must run."""
    model = toy_model()
    with open('/proc/cpuinfo') as file:
        has_bfloat16 = 'avx512_bf16' in file.read()
    if has_bfloat16:
        assert make_runtime(model, 'cpu', 'openvino', 'bfloat16').name == 'openvino'
    else:
        with pytest.raises(ValueError, match="engine is 'openvino': precision is 'bfloat16'; this CPU has no bfloat16"):
            make_runtime(model, 'cpu', 'openvino', 'bfloat16')


@pytest.fixture
def without_openvino(monkeypatch):
    """A machine that lacks the optional package."""
    find_spec, original = importlib.util.find_spec, builtins.__import__
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'openvino' else find_spec(name))

    def refuse(name, *arguments, **keywords):
        if name.split('.')[0] == 'openvino':
            raise ModuleNotFoundError(name)
        return original(name, *arguments, **keywords)
    monkeypatch.setattr(builtins, '__import__', refuse)


def test_an_engine_asked_for_by_name_that_is_not_installed_is_an_error(without_openvino):
    """A robot that quietly runs on another engine than its configuration says."""
    with pytest.raises(ValueError, match="engine is 'openvino': openvino is not installed: pip install"):
        make_runtime(toy_model(), 'cpu', 'openvino')


def test_auto_says_what_it_leaves_out(without_openvino, caplog):
    """A fall-back in silence."""
    assert make_runtime(toy_model(), 'cpu', 'auto').name == 'torch'
    assert 'engine openvino is left out: openvino is not installed' in caplog.text


class _Wrong(TorchRuntime):
    """An engine that is fast and wrong."""

    name = 'wrong'

    def stages(self, images):
        return (logits * 1.01 for logits in super().stages(images))


def test_an_engine_that_answers_differently_is_never_taken(monkeypatch, caplog):
    """A miscompiled network on the robot."""
    monkeypatch.setitem(select.CPU_ENGINES, 'wrong', lambda request: _Wrong(request.model, request.device))
    monkeypatch.setattr(select, '_fastest', lambda runtimes, _model: (
        runtimes[-1], {f'{runtimes[-1].name} float32': 1.0}, 1))
    assert make_runtime(toy_model(), 'cpu', 'auto').name == 'openvino'
    assert 'engine wrong is left out: its logits differ from those of plain torch by 0.01' in caplog.text
    with pytest.raises(ValueError, match="engine is 'wrong': its logits differ"):
        make_runtime(toy_model(), 'cpu', 'wrong')


class _Confidences(TorchRuntime):
    """The confidences of three images, by exit, in place of a network; each rounded by `off`."""

    def __init__(self, off):
        self.device, self.precision, self._off = CPU, 'bfloat16', torch.tensor(off)

    def stages(self, images, groups=None):
        known = select.check_images(toy_model())[:, 0, 0, 0]
        rows = (images[:, 0, 0, 0, None] == known).int().argmax(dim=1)
        for confidences in torch.tensor([[0.6, 0.95, 0.63], [0.628, 0.9, 0.75], [0.7, 0.9, 0.8]]):
            confidence = (confidences + self._off)[rows]
            kept = yield torch.stack((confidence, 1 - confidence), dim=1).log()
            rows = rows if kept is None else rows[kept]


def test_confidences_at_the_threshold_of_the_check_are_no_difference():
    """An engine refused for rounding: two of the three images had nearly the confidence that was taken as tau."""
    assert select._difference(_Confidences([0.003, 0.0, -0.0004]), _Confidences([0.0] * 3), toy_model()) < 0.02
    assert select._difference(_Confidences([0.25, 0.0, 0.25]), _Confidences([0.0] * 3), toy_model()) > 0.1


def test_auto_takes_the_fastest(monkeypatch):
    """The slowest of the engines, or the first."""
    clock = iter(range(10_000))
    monkeypatch.setattr(select.time, 'perf_counter', lambda: float(next(clock)))
    slow, fast = (TorchRuntime(toy_model(), CPU) for _ in range(2))
    slow.name, fast.name = 'slow', 'fast'
    stages = slow.stages

    def waits(images):
        for logits in stages(images):
            next(clock)
            yield logits
    slow.stages = waits
    for runtimes in ([slow, fast], [fast, slow]):
        best, milliseconds, _rounds = select._fastest(runtimes, toy_model())
        assert best.name == 'fast' and milliseconds == {'slow float32': 4000.0, 'fast float32': 1000.0}


SIGNAL_AFTER_RUNTIMES = """
import faulthandler, os, signal
from vit_tactile_ros.inference.engines.openvino import OpenVinoRuntime
from vit_tactile_ros.model import ModelConfig, ViTTactile

faulthandler.enable()  # handlers of signals run on a stack of their own from now on
signal.signal(signal.SIGUSR1, lambda *_: print('handled'))
model = ViTTactile(ModelConfig(num_classes=3, image_size=(32, 32), width=48, depth=1, exits=(1,), feature_map_dim=16))
first, second = OpenVinoRuntime(model.eval()), OpenVinoRuntime(model)
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_are_handled_after_runtimes_have_come_and_gone():
    """OpenVINO leaves a freed stack for signal handlers: a node that dies of Ctrl-C or of a child's end."""
    ended = subprocess.run([sys.executable, '-c', SIGNAL_AFTER_RUNTIMES], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, 'handled\n'), ended.stderr


@pytest.mark.parametrize(('reason', 'may_pass'), [('CUDA error: out of memory', True),
                                                  ('operation not permitted when stream is capturing', False)])
def test_memory_of_a_gpu_that_another_program_has(monkeypatch, reason, may_pass):
    """The node ended for ever, although the memory was free a moment later."""
    from vit_tactile_ros.foundation.errors import PassingError, UserError
    from vit_tactile_ros.inference.engines import cuda_graph

    def capture(*_):
        raise RuntimeError(reason)

    monkeypatch.setattr(cuda_graph, 'CudaGraphRuntime', capture)
    with pytest.raises(UserError, match=reason) as raised:
        select.CUDA_ENGINES['cuda_graph'](select.Request(None, torch.device('cpu'), 'float32', 1))
    assert isinstance(raised.value, PassingError) == may_pass
