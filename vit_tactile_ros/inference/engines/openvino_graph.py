"""The stages of a network as OpenVINO graphs, built from its weights: without tracing, so the start is fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from openvino import Node
from torch import nn

from vit_tactile_ros.inference.engines.folding import Array, after_norm, array_of
from vit_tactile_ros.inference.ranges import Range
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.attention import FavorAttention, QKNorm, SelfAttention
from vit_tactile_ros.model.tokens import token_counts
from vit_tactile_ros.model.vit import Block, Head, PatchEmbedding, Stage


def embedding_graph(model: ViTTactile) -> ov.Model:
    """Images (B, channels, H, W) to tokens (B, N, width), float32; H and W are those of the model's image size."""
    config = model.config
    entry = ops.parameter([-1, config.channels, *config.image_size], np.float32)
    return ov.Model([_embed(entry, model.embed, config.width)], [entry], 'embedding')


def stage_graphs(model: ViTTactile, ranges: Sequence[Range] = ()) -> list[ov.Model]:
    """One graph per exit: images (B, channels, H, W) or tokens (B, N, width) to the logits of its own head (B, C) and,
    but for the last one, tokens, float32.

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
            x = block_nodes(x, block, ranges[:4], weights)
            ranges = ranges[4:]
        logits = _head(x, cast(Stage, stage).head, weights)
        last = index == len(model.stage_modules) - 1
        graphs.append(ov.Model([logits] if last else [logits, x], entries, f'stage_{index}'))
    return graphs


def constant(values: Array | float) -> Node:
    return ops.constant(np.asarray(values, np.float32))


def _known(module: object, *kinds: type[nn.Module]) -> None:
    if not isinstance(module, kinds):
        raise NotImplementedError(f'no OpenVINO graph for {type(module).__name__}')


def linear_nodes(x: Node, weight: Array, bias: Array, seen: Range | None = None) -> Node:
    """`weight` (out, in), `bias` (out,); 8-bit integers are multiplied if `seen`, the range of x, is given."""
    if seen is None:
        weights = constant(weight)
    else:
        step = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-8) / 127  # one per output
        integers = np.round(weight / step).astype(np.int8)
        x, added = _quantise(x, seen)
        bias = bias - (added * (integers * step).sum(axis=1, dtype=np.float64)).astype(np.float32)
        weights = ops.multiply(ops.convert(ops.constant(integers), 'f32'), constant(step))
    return ops.add(ops.matmul(x, weights, False, True), constant(bias))


def _quantise(x: Node, seen: Range) -> tuple[Node, float]:
    """256 levels over the range, shifted so that 0 is one of them; and what was added to x so that the lowest is 0.

    With 0 as the lowest level, integers stand for multiples of the step, which makes int8 a fifth faster (AMX).
    """
    step = (seen[1] - seen[0]) / 255
    added = round(-seen[0] / step) * step
    low, high = constant(0.0), constant(255 * step)
    return ops.fake_quantize(ops.add(x, constant(added)), low, high, low, high, 256), added


def normalise_nodes(x: Node, norm: nn.LayerNorm) -> Node:
    """A LayerNorm without its gain and offset, which the linear layer after it contains."""
    return ops.mvn(x, ops.constant([-1], np.int64), True, norm.eps, 'inside_sqrt')


def _embed(images: Node, embed: PatchEmbedding, width: int) -> Node:
    layers = list(embed.project) if isinstance(embed.project, nn.Sequential) else [embed.project]
    return ops.add(patch_nodes(images, layers, width), constant(array_of(embed.position)))


def patch_nodes(x: Node, layers: Sequence[nn.Module], width: int) -> Node:
    """Images to tokens, (B, N, width), without positions."""
    if len(layers) == 1:
        return _patch_products(x, cast(nn.Conv2d, layers[0]))
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            x = ops.relu(x)
            continue
        _known(layer, nn.Conv2d)
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        padding = [int(p) for p in layer.padding]
        x = ops.convolution(x, constant(array_of(layer.weight)), list(layer.stride), padding, padding, [1, 1])
        x = ops.add(x, constant(array_of(layer.bias).reshape(1, -1, 1, 1)))
    x = ops.reshape(x, ops.constant([0, width, -1], np.int64), True)
    return ops.transpose(x, ops.constant([0, 2, 1], np.int64))


def _patch_products(images: Node, layer: nn.Conv2d) -> Node:
    """A convolution whose windows are the patches, as one matrix product.

    As a convolution in bfloat16 with AMX it is wrong for 6 or 12 channels (OpenVINO 2026.4), and not faster.
    """
    _known(layer, nn.Conv2d)
    assert layer.kernel_size == layer.stride and layer.bias is not None
    _, channels, height, width = (dimension.get_max_length() for dimension in images.get_output_partial_shape(0))
    patch = int(layer.stride[0])
    rows, columns = height // patch, width // patch
    x = ops.reshape(images, ops.constant([0, channels, rows, patch, columns, patch], np.int64), True)
    x = ops.transpose(x, ops.constant([0, 2, 4, 1, 3, 5], np.int64))
    x = ops.reshape(x, ops.constant([0, rows * columns, channels * patch**2], np.int64), True)
    return linear_nodes(x, array_of(layer.weight).reshape(layer.out_channels, -1), array_of(layer.bias))


def block_nodes(x: Node, block: Block, ranges: Sequence[Range], weights: Node | None) -> Node:
    """`ranges` holds those of the four linear layers, or nothing; `weights` are those of the tokens, (B, N)."""
    _known(block, Block)
    in_qkv, in_out, in_first, in_second = ranges or (None,) * 4
    normal = normalise_nodes(x, block.attention_norm)
    x = ops.add(x, _attention(normal, block.attention, block.attention_norm, in_qkv, in_out, weights))
    first, activation, second = block.mlp
    _known(first, nn.Linear)
    _known(activation, nn.GELU)
    _known(second, nn.Linear)
    hidden = linear_nodes(normalise_nodes(x, block.mlp_norm), *after_norm(cast(nn.Linear, first), block.mlp_norm),
                          in_first)
    hidden = ops.gelu(hidden, 'erf')
    return ops.add(x, linear_nodes(hidden, array_of(cast(nn.Linear, second).weight),
                                   array_of(cast(nn.Linear, second).bias), in_second))


def _head(x: Node, head: Head, weights: Node | None) -> Node:
    _known(head, Head)
    # The mean of normalised tokens first: one row goes through the linear layer.
    axis = ops.constant([1], np.int64)
    normal = normalise_nodes(x, head.norm)
    if head.queries is not None:
        mean = _means_of_queries(normal, array_of(head.queries) * array_of(head.norm.weight), weights)
    elif weights is None:
        mean = ops.reduce_mean(normal, axis, False)
    else:
        total = ops.squeeze(ops.matmul(ops.unsqueeze(weights, axis), normal, False, False), axis)
        mean = ops.divide(total, ops.reduce_sum(weights, axis, True))
    return linear_nodes(mean, *after_norm(head.classify, head.norm))


def _means_of_queries(x: Node, queries: Array, weights: Node | None) -> Node:
    """Normalised tokens, (B, N, width), to one weighted mean per query, (B, Q * width); see `Head`."""
    # The offset of the norm changes the products of a query with all tokens by the same number: not their softmax.
    scores = ops.matmul(constant(queries), x, False, True)  # (B, Q, N)
    if weights is not None:
        scores = ops.add(scores, ops.unsqueeze(ops.log(weights), ops.constant([1], np.int64)))
    means = ops.matmul(ops.softmax(scores, -1), x, False, False)
    return ops.reshape(means, ops.constant([0, queries.size], np.int64), True)


def _attention(x: Node, attention: SelfAttention, norm: nn.LayerNorm, in_qkv: Range | None,
               in_out: Range | None, weights: Node | None) -> Node:
    width, heads = attention.out.in_features, attention.heads
    head_dim = width // heads
    fused = linear_nodes(x, *after_norm(attention.qkv, norm), in_qkv)
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
    return linear_nodes(y, array_of(attention.out.weight), array_of(attention.out.bias), in_out)


def _qk_norm(x: Node, norm: nn.Module) -> Node:
    if isinstance(norm, nn.Identity):
        return x
    _known(norm, QKNorm)
    mean_square = ops.reduce_mean(ops.power(x, constant(2.0)), ops.constant([-1], np.int64), True)
    root = ops.sqrt(ops.add(mean_square, constant(1e-6)))
    return ops.multiply(ops.multiply(x, ops.divide(constant(1.0), root)), constant(array_of(cast(QKNorm, norm).gain)))


def _favor(q: Node, k: Node, v: Node, kernel: FavorAttention, weights: Node | None) -> Node:
    """See `FavorAttention`."""
    projection = array_of(kernel.projection_matrix)
    projection = projection * np.float32(projection.shape[1]**-0.25)
    if kernel.features == 'relu':
        q, k = (ops.add(ops.relu(ops.matmul(x, constant(projection), False, True)), constant(kernel.epsilon))
                for x in (q, k))
    else:
        q, k = _softmax_features(q, projection, kernel, [-1]), _softmax_features(k, projection, kernel, [-2, -1])
    if weights is not None:
        k = ops.multiply(k, ops.unsqueeze(weights, ops.constant([1, 3], np.int64)))
    context = ops.matmul(k, v, True, False)
    total = ops.reduce_sum(k, ops.constant([-2], np.int64), True)
    return ops.divide(ops.matmul(q, context, False, False), ops.matmul(q, total, False, True))


def _softmax_features(x: Node, projection: Array, kernel: FavorAttention, stabiliser: list[int]) -> Node:
    logits = ops.matmul(x, constant(projection), False, True)
    square = ops.reduce_sum(ops.multiply(x, x), ops.constant([-1], np.int64), True)
    half_norm = ops.multiply(square, constant(0.5 * projection.shape[1]**-0.5))
    shift = ops.add(ops.reduce_max(logits, ops.constant(stabiliser, np.int64), True), half_norm)
    return ops.add(ops.exp(ops.subtract(logits, shift)), constant(kernel.epsilon))
