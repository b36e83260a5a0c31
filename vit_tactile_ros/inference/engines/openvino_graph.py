"""The stages of a network as OpenVINO graphs, built from its weights: without tracing, so the start is fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino import Node
from torch import Tensor, nn

from vit_tactile_ros.inference.ranges import Range
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.attention import FavorAttention, QKNorm, SelfAttention
from vit_tactile_ros.model.tokens import token_counts
from vit_tactile_ros.model.vit import Block, Head, PatchEmbedding, Stage

Array = NDArray[np.float32]


def embedding_graph(model: ViTTactile) -> ov.Model:
    """Images (B, channels, H, W) to tokens (B, N, width), float32; H and W are those of the model's image size."""
    config = model.config
    entry = ops.parameter([-1, config.channels, *config.image_size], np.float32)
    return ov.Model([_embed(entry, model.embed, config.width)], [entry], 'embedding')


def stage_graphs(model: ViTTactile, ranges: Sequence[Range] = ()) -> list[ov.Model]:
    """One graph per exit: images (B, channels, H, W) or tokens (B, N, width) to logits (B, C) and, but for the last
    one, tokens, float32.

    B is dynamic; H, W and N are those of the model's image size. If the model drops patches, all graphs take tokens,
    of `embedding_graph`, N is dynamic, and a second input, (B, N), has the weights of the tokens. With `ranges`, of
    `activation_ranges`, the linear layers of the blocks multiply 8-bit integers. Raises NotImplementedError for an
    unknown layer.
    """
    config = model.config
    drops = config.token_threshold > 0
    if drops and config.attention == 'softmax' and config.heads in token_counts(config.num_patches):
        raise NotImplementedError(f'exact attention with {config.heads} heads on as many tokens: OpenVINO gives other '
                                  'results')
    graphs = []
    for index, stage in enumerate(model.stage_modules):
        if drops:
            entries = [ops.parameter([-1, -1, config.width], np.float32), ops.parameter([-1, -1], np.float32)]
        elif index == 0:
            entries = [ops.parameter([-1, config.channels, *config.image_size], np.float32)]
        else:
            entries = [ops.parameter([-1, config.num_patches, config.width], np.float32)]
        x, weights = entries[0], entries[1] if drops else None
        if index == 0 and not drops:
            x = _embed(x, model.embed, config.width)
        for block in cast('list[Block]', list(cast(Stage, stage).blocks)):
            x = _block(x, block, ranges[:4], weights)
            ranges = ranges[4:]
        logits = _head(x, cast(Stage, stage).head, weights)
        last = index == len(model.stage_modules) - 1
        graphs.append(ov.Model([logits] if last else [logits, x], entries, f'stage_{index}'))
    return graphs


def _array(tensor: Tensor) -> Array:
    return tensor.detach().float().cpu().numpy()


def _constant(values: Array | float) -> Node:
    return ops.constant(np.asarray(values, np.float32))


def _known(module: object, *kinds: type[nn.Module]) -> None:
    if not isinstance(module, kinds):
        raise NotImplementedError(f'no OpenVINO graph for {type(module).__name__}')


def _linear(x: Node, weight: Array, bias: Array, seen: Range | None = None) -> Node:
    """`weight` (out, in), `bias` (out,); 8-bit integers are multiplied if `seen`, the range of x, is given."""
    if seen is None:
        weights = _constant(weight)
    else:
        x = _quantise(x, seen)
        step = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-8) / 127  # one per output
        integers = ops.constant(np.round(weight / step).astype(np.int8))
        weights = ops.multiply(ops.convert(integers, 'f32'), _constant(step))
    return ops.add(ops.matmul(x, weights, False, True), _constant(bias))


def _quantise(x: Node, seen: Range) -> Node:
    """256 levels over the range, shifted so that 0 is one of them."""
    step = (seen[1] - seen[0]) / 255
    below = round(-seen[0] / step)
    low, high = (_constant(step * levels) for levels in (-below, 255 - below))
    return ops.fake_quantize(x, low, high, low, high, 256)


def _normalise(x: Node, norm: nn.LayerNorm) -> Node:
    """A LayerNorm without its gain and offset, which the linear layer after it contains."""
    return ops.mvn(x, ops.constant([-1], np.int64), True, norm.eps, 'inside_sqrt')


def _after_norm(linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Array, Array]:
    """Weight and bias of a linear layer with the gain and offset of the LayerNorm before it multiplied in."""
    weight, offset = _array(linear.weight), _array(norm.bias)
    return weight * _array(norm.weight), _array(linear.bias) + weight @ offset


def _embed(images: Node, embed: PatchEmbedding, width: int) -> Node:
    x = images
    layers = list(embed.project) if isinstance(embed.project, nn.Sequential) else [embed.project]
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            x = ops.relu(x)
            continue
        _known(layer, nn.Conv2d)
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        padding = [int(p) for p in layer.padding]
        x = ops.convolution(x, _constant(_array(layer.weight)), list(layer.stride), padding, padding, [1, 1])
        x = ops.add(x, _constant(_array(layer.bias).reshape(1, -1, 1, 1)))
    x = ops.reshape(x, ops.constant([0, width, -1], np.int64), True)
    x = ops.transpose(x, ops.constant([0, 2, 1], np.int64))
    return ops.add(x, _constant(_array(embed.position)))


def _block(x: Node, block: Block, ranges: Sequence[Range], weights: Node | None) -> Node:
    """`ranges` holds those of the four linear layers, or nothing; `weights` are those of the tokens, (B, N)."""
    _known(block, Block)
    in_qkv, in_out, in_first, in_second = ranges or (None,) * 4
    normal = _normalise(x, block.attention_norm)
    x = ops.add(x, _attention(normal, block.attention, block.attention_norm, in_qkv, in_out, weights))
    first, activation, second = block.mlp
    _known(first, nn.Linear)
    _known(activation, nn.GELU)
    _known(second, nn.Linear)
    hidden = _linear(_normalise(x, block.mlp_norm), *_after_norm(cast(nn.Linear, first), block.mlp_norm), in_first)
    hidden = ops.gelu(hidden, 'erf')
    return ops.add(x, _linear(hidden, _array(cast(nn.Linear, second).weight), _array(cast(nn.Linear, second).bias),
                              in_second))


def _head(x: Node, head: Head, weights: Node | None) -> Node:
    _known(head, Head)
    # The mean of normalised tokens first: one row goes through the linear layer.
    axis = ops.constant([1], np.int64)
    normal = _normalise(x, head.norm)
    if weights is None:
        mean = ops.reduce_mean(normal, axis, False)
    else:
        total = ops.squeeze(ops.matmul(ops.unsqueeze(weights, axis), normal, False, False), axis)
        mean = ops.divide(total, ops.reduce_sum(weights, axis, True))
    return _linear(mean, *_after_norm(head.classify, head.norm))


def _attention(x: Node, attention: SelfAttention, norm: nn.LayerNorm, in_qkv: Range | None,
               in_out: Range | None, weights: Node | None) -> Node:
    width, heads = attention.out.in_features, attention.heads
    head_dim = width // heads
    fused = _linear(x, *_after_norm(attention.qkv, norm), in_qkv)
    fused = ops.reshape(fused, ops.constant([0, 0, 3, heads, head_dim], np.int64), True)
    fused = ops.transpose(fused, ops.constant([2, 0, 3, 1, 4], np.int64))  # 3, B, heads, N, head_dim
    axis = ops.constant(0, np.int64)
    q, k, v = (ops.squeeze(part, axis) for part in ops.split(fused, axis, 3).outputs())
    q, k = _qk_norm(q, attention.q_norm), _qk_norm(k, attention.k_norm)
    kernel = attention.kernel
    if isinstance(kernel, FavorAttention):
        y = _favor(q, k, v, kernel, weights)
    elif weights is None:
        y = ops.scaled_dot_product_attention(q, k, v)
    else:
        y = ops.scaled_dot_product_attention(q, k, v, ops.unsqueeze(ops.log(weights), ops.constant([1, 2], np.int64)))
    y = ops.transpose(y, ops.constant([0, 2, 1, 3], np.int64))
    y = ops.reshape(y, ops.constant([0, 0, width], np.int64), True)
    return _linear(y, _array(attention.out.weight), _array(attention.out.bias), in_out)


def _qk_norm(x: Node, norm: nn.Module) -> Node:
    if isinstance(norm, nn.Identity):
        return x
    _known(norm, QKNorm)
    mean_square = ops.reduce_mean(ops.power(x, _constant(2.0)), ops.constant([-1], np.int64), True)
    root = ops.sqrt(ops.add(mean_square, _constant(1e-6)))
    return ops.multiply(ops.multiply(x, ops.divide(_constant(1.0), root)), _constant(_array(cast(QKNorm, norm).gain)))


def _favor(q: Node, k: Node, v: Node, kernel: FavorAttention, weights: Node | None) -> Node:
    """See `FavorAttention`."""
    projection = _array(kernel.projection_matrix)
    projection = projection * np.float32(projection.shape[1]**-0.25)
    if kernel.features == 'relu':
        q, k = (ops.add(ops.relu(ops.matmul(x, _constant(projection), False, True)), _constant(kernel.epsilon))
                for x in (q, k))
    else:
        q, k = _softmax_features(q, projection, kernel, [-1]), _softmax_features(k, projection, kernel, [-2, -1])
    if weights is not None:
        k = ops.multiply(k, ops.unsqueeze(weights, ops.constant([1, 3], np.int64)))
    context = ops.matmul(k, v, True, False)
    total = ops.reduce_sum(k, ops.constant([-2], np.int64), True)
    return ops.divide(ops.matmul(q, context, False, False), ops.matmul(q, total, False, True))


def _softmax_features(x: Node, projection: Array, kernel: FavorAttention, stabiliser: list[int]) -> Node:
    logits = ops.matmul(x, _constant(projection), False, True)
    square = ops.reduce_sum(ops.multiply(x, x), ops.constant([-1], np.int64), True)
    half_norm = ops.multiply(square, _constant(0.5 * projection.shape[1]**-0.5))
    shift = ops.add(ops.reduce_max(logits, ops.constant(stabiliser, np.int64), True), half_norm)
    return ops.add(ops.exp(ops.subtract(logits, shift)), _constant(kernel.epsilon))
