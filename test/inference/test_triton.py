"""The fused kernels against plain torch: on a GPU, or in Triton's interpreter on CPU tensors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from direct_backend import DirectBackend

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines import select
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.exit_loop import ExitLoop
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
    'softmax features': {},
    'ReLU features, an odd number, no norm of queries and keys': {
        'attention': 'favor_relu', 'feature_map_dim': 20, 'qk_norm': False},
    'patches dropped, queries': {'token_threshold': 0.1, 'queries': 2},
    'patches dropped after convolutions, exits added, motion': {
        'token_threshold': 0.1, 'stem': 'convolution', 'attention': 'favor_relu', 'added_exits': True, 'channels': 6},
}


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
    """The kernels with float32 inputs, so that they can be compared closely; a GPU rounds them to TF32."""
    steps = triton_steps.TritonSteps(model, DEVICE, torch.float32, **{'dependent': False, **changes})
    return ExitLoop(model, steps, BACKEND or triton_engine.CudaBackend(DEVICE))


@pytest.mark.parametrize('changes', CONFIGS.values(), ids=CONFIGS)
def test_the_kernels_equal_plain_torch(changes):
    """Two tiles of tokens, the second in part; a wrong mask, fold, order of channels, weight or exit shows."""
    model = make_model(**changes)
    batch, tolerance = images(model, 2), 2e-3 if ON_GPU else 5e-6
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


def test_tiles_of_many_rows(monkeypatch):
    """A large batch takes larger tiles, of which one holds the end of an image only in part."""
    model = make_model(depth=1, exits=(1,), stem='convolution')
    monkeypatch.setattr(triton_steps, 'FEW_ROWS', 10)
    batch = images(model, 4)
    with torch.inference_mode():
        got, wanted = next(runtime(model).stages(batch)).cpu(), next(model.stages(batch))
    assert (got - wanted).abs().max() <= (2e-3 if ON_GPU else 5e-6) * wanted.abs().max()


class InTheInterpreter(triton_engine.TritonRuntime):
    """With float32 inputs, since the interpreter multiplies the bits of bfloat16 as if they were integers."""

    def __init__(self, request):
        super().__init__(request.model, request.device, request.precision, backend=BACKEND)

    def _steps(self, model, dtype):
        return triton_steps.TritonSteps(model, DEVICE, torch.float32, dependent=False)


def test_only_by_name(monkeypatch):
    """`auto` must not take what has never run on a GPU; by name it is checked against plain torch and runs."""
    if not ON_GPU:
        monkeypatch.setattr(select, 'CPU_ENGINES', {'torch': select._torch, 'triton': InTheInterpreter})
    model = make_model()
    assert make_runtime(model, DEVICE.type, 'auto', 'bfloat16').name != 'triton'
    found = make_runtime(model, DEVICE.type, 'triton', 'bfloat16')
    assert (found.name, found.precision) == ('triton', 'bfloat16')
    with pytest.raises(UserError, match="precision is 'float32'; must be one of bfloat16 for engine 'triton'"):
        make_runtime(model, DEVICE.type, 'triton')


@pytest.mark.parametrize(('changes', 'told'), [
    ({'attention': 'softmax'}, "attention is 'softmax'; must be 'favor_softmax' or 'favor_relu'"),
    ({'heads': 2}, 'width / heads is 24; must be 16, 32, 64 or 128'),
    ({'feature_map_dim': 300}, 'feature_map_dim is 300; must be at most 256'),
    ({'num_classes': 200}, 'num_classes is 200; must be at most 128')])
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
