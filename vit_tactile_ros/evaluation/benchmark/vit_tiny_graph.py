"""ViT-Tiny as an OpenVINO graph, built as those of our network are, so that both gain what such a graph gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from vit_tactile_ros.evaluation.benchmark.vit_tiny import VitTiny
from vit_tactile_ros.inference.engines.folding import after_norm, array_of
from vit_tactile_ros.inference.engines.openvino_graph import (
    block_nodes,
    constant,
    linear_nodes,
    normalise_nodes,
    patch_nodes,
)
from vit_tactile_ros.inference.ranges import Range


def vit_tiny_graph(model: VitTiny, ranges: Sequence[Range] = ()) -> ov.Model:
    """Images (B, 3, H, W) to logits (B, C), float32; with `ranges`, of `ranges_of_blocks`, in 8-bit integers."""
    entry = ops.parameter([-1, 3, *model.image_size], np.float32)
    x = patch_nodes(entry, [model.patch_embed['proj']], model.norm.normalized_shape[0])
    first = constant(array_of(model.cls_token))
    batch = ops.gather(ops.shape_of(entry), ops.constant([0], np.int64), ops.constant(0, np.int64))
    shape = ops.concat([batch, ops.constant(list(model.cls_token.shape[1:]), np.int64)], 0)
    x = ops.add(ops.concat([ops.broadcast(first, shape), x], 1), constant(array_of(model.pos_embed)))
    for block in model.blocks:
        x = block_nodes(x, block, ranges[:4], None)  # type: ignore[arg-type]
        ranges = ranges[4:]
    token = ops.gather(x, ops.constant(0, np.int64), ops.constant(1, np.int64))  # (B, width)
    logits = linear_nodes(normalise_nodes(token, model.norm), *after_norm(model.head, model.norm))
    return ov.Model([logits], [entry], 'vit_tiny')
