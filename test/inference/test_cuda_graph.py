"""The CUDA graphs themselves, against plain torch on the same GPU."""

from functools import partial

import pytest
import torch

from vit_tactile_ros.inference.engines.cuda_graph import CudaGraphRuntime
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.model import create_vit_tactile, early_exit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='torch.cuda finds no GPU here')
TEMPERATURES = (1.0, 1.0, 1.0)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = create_vit_tactile(image_size=(96, 128)).eval()
    for stage in model.stage_modules:
        torch.nn.init.normal_(stage.head.classify.weight, std=0.6)
    return model


def of_triton(*arguments, dependent=False):
    from vit_tactile_ros.inference.engines.triton_engine import TritonRuntime
    return TritonRuntime(*arguments, dependent=dependent)


@pytest.mark.parametrize(('make', 'precision', 'tolerance'), (
    (CudaGraphRuntime, 'float32', 1e-3), (CudaGraphRuntime, 'bfloat16', 0.1), (of_triton, 'bfloat16', 0.1),
    (partial(of_triton, dependent=True), 'bfloat16', 0.1)))
@pytest.mark.parametrize('speculate', (False, True))
def test_graphs_equal_plain_torch(model, make, precision, tolerance, speculate):
    """A graph that reads a buffer before it is filled, or after it was filled again."""
    device = torch.device('cuda')
    graphs, plain = make(model, device, precision, speculate), TorchRuntime(model, device, precision)
    with torch.inference_mode():
        for turn in range(30):
            batch = torch.randn(1 + turn % 17, 3, 96, 128)
            for got, wanted in zip(graphs.stages(batch), plain.stages(batch), strict=True):
                assert (got - wanted.float()).abs().max() <= tolerance * wanted.float().abs().max()
            tau = (0.4 + 0.01 * turn, 0.4 + 0.01 * turn)
            got = graphs.early_exit(batch, tau, TEMPERATURES)
            wanted = early_exit(plain.stages(batch), tau, TEMPERATURES)
            near = ((wanted.confidences.cpu()[:, :2] - tau[0]).abs() < 2 * tolerance).any(dim=1)
            same = got.exit_index == wanted.exit_index.cpu()
            assert (same | near).all()
            torch.testing.assert_close(got.probabilities[same], wanted.probabilities.cpu()[same], rtol=0,
                                       atol=2 * tolerance)


def test_it_can_be_asked_for_by_name(model):
    """An engine that exists and nobody gets."""
    assert make_runtime(model, 'cuda', 'cuda_graph').name == 'cuda_graph'
