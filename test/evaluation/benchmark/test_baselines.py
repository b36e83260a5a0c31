"""The baselines in the engine of our network: the same outputs as in plain torch, or no time."""

import dataclasses
import importlib.util

import pytest
import torch

from vit_tactile_ros.evaluation.agreement import TOLERANCE, DisagreementError
from vit_tactile_ros.evaluation.benchmark import baselines
from vit_tactile_ros.evaluation.benchmark.baselines import Baseline, in_engine, networks_in_engine
from vit_tactile_ros.evaluation.benchmark.vit_tiny import _NAMES, VitTiny
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.runtime import computes_in_bfloat16, has_vnni
from vit_tactile_ros.model import create_vit_tactile

CPU = torch.device('cpu')


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return Baseline('timm', 'tiny', VitTiny((32, 48), 10).eval())


@pytest.mark.parametrize('precision', ('float32', 'bfloat16', 'int8'))
@torch.inference_mode()
def test_vit_tiny_in_openvino(tiny, precision):
    """A layer that the graph leaves out: a baseline that is too fast, or another network."""
    pytest.importorskip('openvino', reason='openvino is not installed: pip install .[fast]')
    if precision == 'int8' and not has_vnni():
        pytest.skip('this CPU has no VNNI, which int8 needs')
    if precision == 'bfloat16' and not computes_in_bfloat16(CPU):
        pytest.skip('this CPU has no bfloat16 arithmetic')
    images = torch.randn(2, 3, 32, 48)
    network = in_engine(tiny, images, 'openvino', precision, 1)
    for batch in (images, torch.randn(2, 3, 32, 48)):
        got, wanted = network(batch), tiny.model(batch)
        assert got.shape == (2, 10) and (got - wanted).abs().max() <= TOLERANCE[precision] * wanted.abs().max()
    assert (got != wanted).any()


def test_a_baseline_that_is_wrong_is_not_timed(tiny, monkeypatch):
    """The time of another network."""
    monkeypatch.setattr(baselines, '_in_openvino', lambda baseline, *_: lambda x: 1.1 * baseline.model(x))
    with pytest.raises(DisagreementError, match='tiny in float32: its logits differ from those of plain torch by 0.1'):
        in_engine(tiny, torch.randn(1, 3, 32, 48), 'openvino', 'float32', 1)


def test_engines_without_the_baseline_are_named(tiny):
    """A missing line without a reason."""
    with pytest.raises(UserError, match='tiny is not compared in engine torch and precision float32'):
        in_engine(tiny, torch.randn(1, 3, 32, 48), 'torch', 'float32', 1)
    like = TorchRuntime(create_vit_tactile(image_size=(32, 48)).eval(), CPU)
    networks, missing = networks_in_engine([tiny], torch.randn(1, 3, 32, 48), like, 1)
    assert networks == {} and len(missing) == 1


def test_weights_of_timm_are_taken_over():
    """Names of timm's layers that are not those of our blocks: other weights, silently."""
    ours = VitTiny((32, 48), 10)
    back = {ours_name: theirs for theirs, ours_name in _NAMES.items()}
    renamed = {}
    for name, value in ours.state_dict().items():
        for ours_name, theirs in back.items():
            name = name.replace('.' + ours_name, '.' + theirs)
        renamed[name] = value

    class Theirs(torch.nn.Module):
        def state_dict(self):
            return renamed

    assert 'blocks.11.mlp.fc2.bias' in renamed and 'blocks.0.norm1.weight' in renamed
    images = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(VitTiny.copy_of(Theirs(), (32, 48))(images), ours.eval()(images))
    assert VitTiny.copy_of(ours, (32, 48)) is ours


def test_without_transformers_the_cnn_is_left_out():
    """A crash where an optional package is missing, or no word of it."""
    if importlib.util.find_spec('transformers'):
        assert dataclasses.is_dataclass(Baseline)
        assert baselines.mobile_net()(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    else:
        with pytest.raises(MissingPackageError, match="pip install 'transformers>=4.40'"):
            baselines.mobile_net()
    found, missing = baselines.baselines((32, 48))
    assert found[0].key == 'timm' and len(found) + len(missing) == 2
