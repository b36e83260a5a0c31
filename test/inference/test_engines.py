"""Every engine against plain torch, and the choice among them."""

import builtins
import importlib.util
import logging

import pytest
import torch

from vit_tactile_ros.inference.engines import select
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.inference.ranges import activation_ranges
from vit_tactile_ros.model import ModelConfig, ViTTactile, load_checkpoint, shipped_checkpoint
from vit_tactile_ros.model.early_exit import early_exit, exit_probabilities

reason = 'openvino is not installed: pip install .[fast]'
pytest.importorskip('openvino', reason=reason)
from vit_tactile_ros.inference.engines.openvino import OpenVinoRuntime  # noqa: E402 (it imports openvino)

CPU = torch.device('cpu')
VARIANTS = {
    'relu': {'attention': 'favor_relu'},
    'softmax features': {'attention': 'favor_softmax'},
    'exact': {'attention': 'softmax'},
    'stem': {'attention': 'favor_relu', 'stem': 'convolution'},
    'no norm': {'attention': 'favor_softmax', 'qk_norm': False},
}


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
        images = torch.randn(batch, 3, 32, 48)
        with torch.inference_mode():
            for got, wanted in zip(engine.stages(images), model.stages(images), strict=True):
                torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_openvino_goes_on_with_the_rows_that_are_sent():
    """Rows taken from the wrong stage's tokens, in the wrong order, or from memory that the next run overwrites."""
    model = toy_model()
    engine, reference = OpenVinoRuntime(model).stages, model.stages
    images = torch.randn(6, 3, 32, 48)
    got, wanted = engine(images), reference(images)
    first = next(got)
    kept = first.clone()
    torch.testing.assert_close(first, next(wanted), atol=2e-5, rtol=1e-4)
    for rows in (torch.tensor([4, 1, 2]), torch.tensor([2])):
        torch.testing.assert_close(got.send(rows), wanted.send(rows), atol=2e-5, rtol=1e-4)
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


@pytest.mark.parametrize('variant', VARIANTS)
@torch.inference_mode()
def test_int8_is_close_to_torch(variant):
    """A range given to another layer than the one that it was measured at, or integers where there are none to be."""
    model = toy_model(**VARIANTS[variant])
    images = torch.randn(5, 3, 32, 48)
    engine = OpenVinoRuntime(model, 'int8', ranges=activation_ranges(model, images.split(2)))
    for batch in (images, images[:1]):
        for got, wanted in zip(engine.stages(batch), model.stages(batch), strict=True):
            # correct 0.025 at most (bfloat16 alone 0.015), with the ranges of the MLP swapped 0.11 at least
            assert 0 < (got - wanted).abs().max() < 0.06 * wanted.abs().max()


def test_int8_without_ranges_is_refused():
    """Ranges that are guessed."""
    with pytest.raises(ValueError, match="precision is 'int8'; this checkpoint holds no ranges"):
        OpenVinoRuntime(toy_model(), 'int8')


def test_openvino_refuses_images_of_another_size():
    """A library's error about a node's number in place of what would be right."""
    with pytest.raises(ValueError, match=r'images have shape \(1, 3, 48, 48\); must be \(B, 3, 32, 48\)'):
        OpenVinoRuntime(toy_model()).stages(torch.zeros(1, 3, 48, 48))


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
    monkeypatch.setattr(select, '_fastest', lambda runtimes, model: runtimes[-1])
    assert make_runtime(toy_model(), 'cpu', 'auto').name == 'openvino'
    assert 'engine wrong is left out: its logits differ from those of plain torch by 0.01' in caplog.text
    with pytest.raises(ValueError, match="engine is 'wrong': its logits differ"):
        make_runtime(toy_model(), 'cpu', 'wrong')


def test_auto_takes_the_fastest(monkeypatch, caplog):
    """The slowest of the engines, or the first."""
    caplog.set_level(logging.INFO)
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
    assert select._fastest([slow, fast], toy_model()).name == 'fast'
    assert select._fastest([fast, slow], toy_model()).name == 'fast'
    assert 'slow float32 4000.00 ms, fast float32 1000.00 ms; taken: fast float32, 4.0 times' in caplog.text
