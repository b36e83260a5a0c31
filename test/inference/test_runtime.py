"""The torch engine, the choice of a device and the choice of a thread count."""

import pytest
import torch

from vit_tactile_ros.inference import runtime
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.runtime import fastest_thread_count, select_device
from vit_tactile_ros.model import ModelConfig, ViTTactile

CONFIG = ModelConfig(num_classes=4, width=48, heads=3, depth=3, exits=(1, 2, 3), image_size=(32, 48),
                     feature_map_dim=32)
CPU = torch.device('cpu')


@pytest.fixture
def cuda(monkeypatch):
    """Says how many CUDA devices there are."""
    def pretend(count: int):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    return pretend


def test_auto_takes_cuda_where_there_is_one(cuda):
    """A GPU that stays idle, or a start that fails for want of one."""
    cuda(0)
    assert select_device('auto') == CPU
    cuda(2)
    assert select_device('auto') == torch.device('cuda')
    assert select_device('cuda:1') == torch.device('cuda:1')
    assert select_device('cpu') == CPU


@pytest.mark.parametrize('device', ('', 'gpu', 'CUDA', 'cuda:', 'cuda:x', 'cuda:-1', 'cuda0', 'cpu:', 'cpu:0', 'mps',
                                    'cuda:0:1', 'cuda:²'))
def test_an_unknown_device_is_refused(cuda, device):
    """'cuda:' and 'cpu:' went through to torch, whose RuntimeError nobody expects."""
    cuda(2)
    with pytest.raises(ValueError, match="must be 'auto', 'cpu', 'cuda' or 'cuda:N'") as error:
        select_device(device)
    assert repr(device) in str(error.value)


def test_a_device_that_is_not_there_is_refused(cuda):
    """A robot that quietly runs on the CPU at a tenth of the rate."""
    cuda(0)
    for device in ('cuda', 'cuda:0'):
        with pytest.raises(ValueError, match=f"device is '{device}'; .*finds no CUDA device here"):
            select_device(device)
    cuda(2)
    with pytest.raises(ValueError, match="device is 'cuda:2'; there are 2 CUDA devices"):
        select_device('cuda:2')


def test_the_engine_equals_the_model():
    """An engine that leaves the model in training mode, or changes its numbers."""
    model = ViTTactile(CONFIG).train()
    images = torch.randn(3, 3, 32, 48)
    with torch.no_grad():
        for a, b in zip(TorchRuntime(model, CPU).stages(images), model.eval().stages(images), strict=True):
            assert torch.equal(a, b)


def test_bfloat16_is_close_and_leaves_the_checkpoint_alone():
    """Weights rounded in place: a second classifier on the same checkpoint would answer with them."""
    torch.manual_seed(0)
    model = ViTTactile(CONFIG).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randn(3, 3, 32, 48)
    engine = TorchRuntime(model, CPU, 'bfloat16')
    with torch.no_grad():
        pairs = list(zip(engine.stages(images), model.stages(images), strict=True))
    for rounded, exact in pairs:
        assert rounded.dtype == torch.bfloat16
        assert (rounded.float() - exact).norm() < 0.05 * exact.norm()
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[name]), name


def test_an_unknown_precision_is_refused():
    """float16, where FAVOR+ overflows, or a misspelling: both were quietly run in float32."""
    for precision in ('float16', 'bf16', ''):
        with pytest.raises(ValueError, match='must be one of float32, bfloat16'):
            TorchRuntime(ViTTactile(CONFIG), CPU, precision)


@pytest.mark.parametrize(('seconds', 'wanted'), (
    ({1: 0.02, 4: 0.01}, 4), ({1: 0.02, 4: 0.018}, 1), ({1: 0.02, 4: 0.04}, 1)))
def test_more_threads_only_where_they_pay(monkeypatch, seconds, wanted):
    """Two threads beside a busy neighbour are slower than one; a gain of a tenth is not worth a core."""
    clock = {'now': 0.0, 'threads': 1}

    def perf_counter() -> float:  # each reading lies one forward pass after the one before
        clock['now'] += seconds[clock['threads']]
        return clock['now']

    monkeypatch.setattr(runtime.time, 'perf_counter', perf_counter)
    monkeypatch.setattr(torch, 'set_num_threads', lambda threads: clock.update(threads=threads))
    assert fastest_thread_count(ViTTactile(CONFIG).eval(), 4) == wanted


def test_the_choice_of_threads_takes_no_longer_than_its_budget(monkeypatch):
    """Two threads beside a busy neighbour took a second each: the probe alone took 7 s of the 8 s to start in."""
    passes = []

    class Slow:
        config = CONFIG

        def stages(self, _image):
            passes.append(clock['threads'])
            yield

    clock = {'now': 0.0, 'threads': 1}

    def perf_counter() -> float:
        clock['now'] += 0.02 if clock['threads'] == 1 else 1.0
        return clock['now']

    monkeypatch.setattr(runtime.time, 'perf_counter', perf_counter)
    monkeypatch.setattr(torch, 'set_num_threads', lambda threads: clock.update(threads=threads))
    assert fastest_thread_count(Slow(), 2) == 1
    assert passes == [1, 2]


@pytest.mark.parametrize('limit', (0, 1))
def test_a_single_core_is_not_measured(limit):
    """Start-up time spent on a choice that there is not."""
    assert fastest_thread_count(None, limit) == 1
