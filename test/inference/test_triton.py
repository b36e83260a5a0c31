"""The fused kernels against plain torch: on a GPU, or in Triton's interpreter on CPU tensors."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from direct_backend import DirectBackend

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines import select
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.exit_loop import ExitLoop
from vit_tactile_ros.inference.engines.graphs import Graphs, Shape
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.model import ModelConfig, ViTTactile, early_exit

pytest.importorskip('triton', reason='triton is not installed; it exists for Linux only')
# Their decorators read TRITON_INTERPRET, which conftest.py has set.
from vit_tactile_ros.inference.engines import triton_engine, triton_steps  # noqa: E402

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device('cuda' if ON_GPU else 'cpu')
BACKEND = None if ON_GPU else DirectBackend()
TEMPERATURES = (1.2, 0.9)
CONFIGS = {
    'ReLU features, an odd number, no norm of queries and keys': {
        'attention': 'favor_relu', 'feature_map_dim': 20, 'qk_norm': False},
    'patches dropped, queries': {'token_threshold': 0.1, 'queries': 2},
    'patches dropped after convolutions, exits added, motion': {
        'token_threshold': 0.1, 'stem': 'convolution', 'attention': 'favor_relu', 'added_exits': True, 'channels': 6},
}
# More than one round of every loop: over tokens, features, the hidden layer and columns.
LARGE = {'image_size': (144, 144), 'feature_map_dim': 80, 'width': 96, 'mlp_ratio': 2.0, 'queries': 2, 'depth': 1,
         'exits': (1,)}


def make_model(**changes):
    torch.manual_seed(0)
    model = ViTTactile(ModelConfig(**{'num_classes': 3, 'image_size': (32, 144), 'width': 48, 'depth': 2,
                                      'exits': (1, 2), 'feature_map_dim': 16, 'mlp_ratio': 2.0, **changes})).eval()
    with torch.no_grad():
        for weight in model.parameters():  # norms with gains and biases, heads that are sure
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def images(model, count):
    """A network that drops patches keeps different numbers of them."""
    found = torch.randn(count, model.config.channels, *model.config.image_size)
    for number, image in enumerate(found):
        image[:, :, 16 * (2 + 4 * number):] *= 0.01
    return found


def runtime(model, **changes):
    """The kernels with float32 inputs, so that they can be compared closely."""
    steps = triton_steps.TritonSteps(model, DEVICE, torch.float32, **{'dependent': False, **changes})
    return ExitLoop(model, steps, BACKEND or triton_engine.CudaBackend(DEVICE))


@pytest.mark.parametrize('changes', CONFIGS.values(), ids=CONFIGS)
def test_the_kernels_equal_plain_torch(changes):
    """Two tiles of tokens, the second in part; a wrong mask, fold, order of channels, weight or exit shows."""
    model = make_model(**changes)
    batch, tolerance = images(model, 2), 1e-5
    loop, plain = runtime(model), TorchRuntime(model, torch.device('cpu'))
    with torch.inference_mode():
        wanted = list(plain.stages(batch))
        for got, right in zip(loop.stages(batch), wanted, strict=True):
            assert (got.cpu() - right).abs().max() <= tolerance * right.abs().max()
        # Between the scores of the first exit, so that one image goes on alone: its rows are moved.
        scores = (wanted[0] / TEMPERATURES[0]).softmax(1).amax(1).sort().values
        tau = (float(scores.mean()),)
        got, right = loop.early_exit(batch, tau, TEMPERATURES), early_exit(plain.stages(batch), tau, TEMPERATURES)
    assert got.exit_index.tolist() == right.exit_index.tolist() and set(got.exit_index.tolist()) == {0, 1}
    torch.testing.assert_close(got.probabilities, right.probabilities, rtol=0, atol=tolerance)


@pytest.mark.parametrize(('changes', 'few_rows'), [
    (LARGE, 1024), ({'depth': 1, 'exits': (1,), 'stem': 'convolution'}, 10)], ids=('large', 'large tiles'))
def test_more_than_one_round_of_a_loop(monkeypatch, changes, few_rows):
    """A sum that is scaled wrongly when a larger number follows; a tile with the end of an image in a part of it."""
    monkeypatch.setattr(triton_steps, 'FEW_ROWS', few_rows)
    model = make_model(**changes)
    batch = torch.randn(1, model.config.channels, *model.config.image_size)
    with torch.inference_mode():
        got, wanted = next(runtime(model).stages(batch)).cpu(), next(model.stages(batch))
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


class DropsTheWork(DirectBackend):
    """As a captured graph, which knows addresses and keeps nothing alive."""

    def capture(self, work):
        work()
        return lambda: None


def test_what_a_graph_works_on_is_kept(monkeypatch):
    """A replay on memory that was freed, and that other tensors use by then: silently wrong logits."""
    made = []

    class Scratch(triton_steps._Scratch):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(weakref.ref(self.features))

    monkeypatch.setattr(triton_steps, '_Scratch', Scratch)
    model = make_model(depth=1, exits=(1,), image_size=(16, 16))
    steps = triton_steps.TritonSteps(model, torch.device('cpu'), torch.float32, dependent=False)
    monkeypatch.setattr(triton_steps.TritonSteps, '_block', lambda *_: None)
    found = Graphs(model.config, steps, DropsTheWork(), Shape(1, 1), torch.ones(1))
    gc.collect()
    assert found.replay and [reference() is not None for reference in made] == [True]


class InTheInterpreter(triton_engine.TritonRuntime):
    """With float32 inputs, since the interpreter multiplies the bits of bfloat16 as if they were integers."""

    made = 0

    def __init__(self, request):
        type(self).made += 1
        super().__init__(request.model, request.device, request.precision, backend=BACKEND)

    def _steps(self, model, dtype):
        return triton_steps.TritonSteps(model, DEVICE, torch.float32, dependent=False)


def test_only_by_name(monkeypatch):
    """`auto` must not take what has never run on a GPU; by name it is checked against plain torch and runs."""
    if not ON_GPU:
        monkeypatch.setattr(select, 'CPU_ENGINES', {'torch': select._torch, 'triton': InTheInterpreter})
    model = make_model(image_size=(16, 32), depth=2)
    assert make_runtime(model, DEVICE.type, 'auto', 'bfloat16').name != 'triton' and InTheInterpreter.made == 0
    found = make_runtime(model, DEVICE.type, 'triton', 'bfloat16')
    assert (found.name, found.precision) == ('triton', 'bfloat16')
    with pytest.raises(UserError, match="precision is 'float32'; must be one of bfloat16 for engine 'triton'"):
        make_runtime(model, DEVICE.type, 'triton')


@pytest.mark.parametrize('error', [OSError('no space left'), AssertionError('libcuda.so cannot be found'),
                                   subprocess.CalledProcessError(1, 'gcc')])
def test_a_compiler_that_fails_is_explained(monkeypatch, error):
    """Triton has errors of many kinds; they ended commands with a traceback."""
    def refuse(*_):
        raise error

    monkeypatch.setattr(triton_engine, 'TritonRuntime', refuse)
    with pytest.raises(UserError, match=f"Triton could not compile or start its kernels: {type(error).__name__}.*use "
                                        "engine 'cuda_graph'"):
        select.CUDA_ENGINES['triton'](select.Request(None, torch.device('cpu'), 'bfloat16', 1))


@pytest.mark.parametrize(('changes', 'told'), [
    ({'attention': 'softmax'}, "attention is 'softmax'; must be 'favor_softmax' or 'favor_relu'"),
    ({'heads': 2}, 'width / heads is 24; must be 16, 32, 64 or 128'),
    ({'feature_map_dim': 300}, 'feature_map_dim is 300; must be at most 256'),
    ({'num_classes': 200}, 'num_classes is 200; must be at most 64'),
    ({'width': 768, 'heads': 6}, 'width is 768; must be at most 256')])
def test_what_the_kernels_do_not_support(changes, told):
    """A kernel that computes something else, or an error of the compiler that nobody understands."""
    with pytest.raises(UserError, match=f"{told} for engine 'triton': use engine 'cuda_graph'"):
        runtime(make_model(**changes))


def test_they_compile_for_a_gpu_without_one(tmp_path):
    """The interpreter runs what the compiler refuses; registers that do not suffice go to slow memory."""
    script = Path(__file__).parents[1] / 'helpers' / 'compile_kernels.py'
    ended = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300,
                           env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert {line[0] for line in lines} == {'convolve', 'project_qkv', 'sum_context', 'attend', 'widen', 'narrow',
                                           'classify'}
    assert len(lines) > 10 and all(line[1:] == ['spilled', '0'] for line in lines), ended.stdout
