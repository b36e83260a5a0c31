"""The attention kernels against formulas written here from the paper, in float64 numpy."""

import numpy as np
import pytest
import torch
from performer_pytorch import FastAttention

from vit_tactile_ros.model import ModelConfig, ViTTactile
from vit_tactile_ros.model.attention import FavorAttention, SelfAttention

KINDS = ('favor_softmax', 'favor_relu', 'softmax')


def config(attention: str, **changes) -> ModelConfig:
    return ModelConfig(**{'num_classes': 4, 'width': 48, 'heads': 3, 'depth': 1, 'exits': (1,),
                          'image_size': (32, 48), 'attention': attention, 'feature_map_dim': 32} | changes)


def attention_layer(attention: str, **changes) -> SelfAttention:
    torch.manual_seed(3)
    layer = SelfAttention(config(attention, **changes))
    with torch.no_grad():
        for gain in (layer.q_norm.gain, layer.k_norm.gain):  # no two alike, so that a mixed-up dimension shows
            gain.uniform_(0.3, 0.9)
    return layer


def softmax_features(x, projection, stabiliser_axes):
    """Choromanski et al. 2021, eq. 5, with the stabiliser and the epsilon of the reference implementation."""
    x = x * x.shape[-1]**-0.25
    logits = x @ projection.T
    logits = logits - (x**2).sum(-1, keepdims=True) / 2 - logits.max(axis=stabiliser_axes, keepdims=True)
    return (np.exp(logits) + 1e-4) / np.sqrt(len(projection))


def relu_features(x, projection):
    return np.maximum(x * x.shape[-1]**-0.25 @ projection.T, 0) + 1e-3


def reference_attention(layer: SelfAttention, attention: str, x: np.ndarray) -> np.ndarray:
    """The expected output of the layer, sample by sample and head by head."""
    def array(tensor):
        return tensor.detach().double().numpy()

    def normalised(y, gain):
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * gain

    samples = []
    for tokens in x:
        fused = tokens @ array(layer.qkv.weight).T + array(layer.qkv.bias)
        heads = []
        for head in range(3):
            q, k, v = (fused[:, part * 48 + head * 16:part * 48 + head * 16 + 16] for part in range(3))
            q, k = normalised(q, array(layer.q_norm.gain)), normalised(k, array(layer.k_norm.gain))
            if attention == 'softmax':
                weights = np.exp(q @ k.T / 4)
            else:
                projection = array(layer.kernel.projection_matrix)
                if attention == 'favor_softmax':
                    weights = softmax_features(q, projection, -1) @ softmax_features(k, projection, (-1, -2)).T
                else:
                    weights = relu_features(q, projection) @ relu_features(k, projection).T
            heads.append(weights @ v / weights.sum(-1, keepdims=True))
        samples.append(np.concatenate(heads, axis=-1) @ array(layer.out.weight).T + array(layer.out.bias))
    return np.stack(samples)


@pytest.mark.parametrize('attention', KINDS)
def test_layer_equals_the_formula(attention):
    """Heads or q, k, v split along the wrong axis, a missing scale, or keys stabilised like queries."""
    layer = attention_layer(attention)
    x = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = layer(x)
    np.testing.assert_allclose(y.numpy(), reference_attention(layer, attention, x.double().numpy()), atol=2e-5)


def test_favor_softmax_approximates_softmax_attention():
    """Features that do not estimate the softmax kernel, or queries and keys so large that the epsilon flattens all."""
    x = torch.randn(1, 40, 48, generator=torch.Generator().manual_seed(2))
    exact = attention_layer('softmax')
    approximate = SelfAttention(config('favor_softmax', feature_map_dim=4096))
    with torch.no_grad():
        for name, parameter in exact.named_parameters():
            approximate.get_parameter(name).copy_(parameter)
        wanted, got = exact(x), approximate(x)
        exact.q_norm.gain.zero_()  # every query alike: the plain average of the values
        average = exact(x)
    assert (got - wanted).norm() < 0.4 * (average - wanted).norm()


@pytest.mark.parametrize('attention', KINDS)
def test_queries_and_keys_start_small(attention):
    """Logits that start far from FAVOR+'s range, where its epsilon turns attention into an average."""
    layer = SelfAttention(config(attention))
    q = layer.q_norm(100 * torch.randn(2, 3, 7, 16))
    assert q.square().mean().sqrt().item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize('attention', KINDS)
def test_a_sample_does_not_depend_on_its_neighbours(attention):
    """A stabiliser taken over the batch: one extreme image would change the outputs of all others."""
    torch.manual_seed(0)
    layer = SelfAttention(config(attention, qk_norm=False))  # which would hide how loud the neighbour is
    x = torch.randn(3, 7, 48, generator=torch.Generator().manual_seed(4))
    x[1] *= 20
    with torch.no_grad():
        batched, alone = layer(x), torch.cat([layer(sample[None]) for sample in x])
    torch.testing.assert_close(batched, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('attention', KINDS)
def test_gradients_reach_every_parameter(attention):
    """A detached part of the network, or feature maps without gradients."""
    torch.manual_seed(0)
    model = ViTTactile(config(attention, depth=3, exits=(1, 2, 3))).train()
    outputs = model(torch.randn(2, 3, 32, 48))
    torch.stack([logits.square().sum() for logits in outputs]).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize('attention', ('favor_softmax', 'favor_relu'))
@pytest.mark.parametrize('training', (True, False))
def test_forward_never_redraws_the_features(attention, training):
    """A redraw at inference changes predictions from frame to frame; in training it must be explicit."""
    model = ViTTactile(config(attention, depth=2, exits=(1, 2))).train(training)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert sum('projection_matrix' in name for name in before) == 2
    for _ in range(3):
        model(torch.randn(2, 3, 32, 48))
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_redraw_features_changes_the_projections_only():
    """A redraw that does nothing, or that changes weights."""
    model = ViTTactile(config('favor_softmax', depth=2, exits=(1, 2)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.redraw_features()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not name.endswith('projection_matrix')), name


def test_redraw_features_of_softmax_is_harmless():
    """A training loop that redraws must also run with exact attention, which has no features."""
    model = ViTTactile(config('softmax'))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.redraw_features()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def library_and_ours(features: str, num_features: int) -> tuple[FastAttention, FavorAttention]:
    """The same random features in performer-pytorch's attention and in ours, by way of a state dict."""
    torch.manual_seed(5)
    library = FastAttention(16, num_features, generalized_attention=features == 'relu')
    ours = FavorAttention(16, num_features, features)
    ours.load_state_dict(library.state_dict())
    return library, ours


@pytest.mark.parametrize('num_features', (24, 256))
@pytest.mark.parametrize('features', ('softmax', 'relu'))
@pytest.mark.parametrize('scale', (0.1, 0.5, 3.0))
def test_favor_equals_the_library(features, num_features, scale):
    """Checkpoints trained with performer-pytorch's attention would predict or train differently."""
    library, ours = library_and_ours(features, num_features)
    q, k, v = torch.randn(3, 2, 3, 50, 16)
    inputs = [t.clone().requires_grad_() for t in (scale * q, scale * k, v)]
    wanted, got = library(*inputs), ours(*inputs)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(v)
    for a, b in zip(torch.autograd.grad((got * weights).sum(), inputs),
                    torch.autograd.grad((wanted * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize('features', ('softmax', 'relu'))
def test_favor_in_bfloat16_is_as_exact_as_the_library(features):
    """Exponents rounded to bfloat16, or a divisor that underflows."""
    library, ours = library_and_ours(features, 64)
    q, k, v = torch.randn(3, 2, 3, 200, 16).bfloat16()
    wanted = library(q.float(), k.float(), v.float())
    ours, library = ours.bfloat16(), library.bfloat16()
    got = ours(q, k, v)
    assert got.dtype == torch.bfloat16
    assert (got.float() - wanted).norm() <= 1.2 * (library(q, k, v).float() - wanted).norm()
    assert (got.float() - wanted).norm() < 0.03 * wanted.norm()


def test_a_smaller_epsilon_attends_where_the_default_averages():
    """An epsilon that is not passed on: large queries and keys would still see the plain average of the values."""
    q, k, v = torch.randn(3, 1, 1, 40, 16, generator=torch.Generator().manual_seed(6))
    spread = [(FavorAttention(16, 64, 'softmax', epsilon)(4 * q, 4 * k, v) - v.mean(-2, keepdim=True)).norm()
              for epsilon in (None, 1e-12)]
    assert spread[1] > 5 * spread[0]
