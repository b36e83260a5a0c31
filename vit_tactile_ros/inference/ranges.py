"""The ranges of the inputs of a network's linear layers on given images, for 8-bit integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.vit import Block, Stage

# Lowest (at most 0) and highest (at least 0) input of one linear layer.
Range = tuple[float, float]
ENOUGH_IMAGES = 128  # the ranges of 32 touches cost no more accuracy than those of 128


def activation_ranges(model: ViTTactile, batches: Iterable[Tensor]) -> tuple[Range, ...]:
    """Ranges of the inputs of the linear layers of every block, block by block: see `ranges_of_blocks`.

    `batches` are float32 (B, channels, H, W) on the model's device. Raises ValueError if there is no batch.
    """
    blocks = [b for stage in model.stage_modules for b in cast('list[Block]', list(cast(Stage, stage).blocks))]
    return ranges_of_blocks(blocks, lambda images: list(model.stages(images)), batches)


@torch.inference_mode()
def ranges_of_blocks(blocks: Sequence[Block], run: Callable[[Tensor], object], batches: Iterable[Tensor],
                     ) -> tuple[Range, ...]:
    """Ranges of the inputs of qkv, out and the two layers of the MLP of every block while `run` gets each batch.

    After a LayerNorm, the range is without its gain and offset, which engines fold into the layer. Raises ValueError if
    there is no batch.
    """
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def observe(layer: nn.Module, x: Tensor) -> None:
        x = x.float()
        low, high = found.get(layer, (x.new_zeros(()), x.new_zeros(())))
        found[layer] = (torch.minimum(low, x.min()), torch.maximum(high, x.max()))

    def observe_after(norm: nn.LayerNorm, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return norm.register_forward_pre_hook(
            lambda _, inputs: observe(layer, F.layer_norm(inputs[0], inputs[0].shape[-1:], eps=norm.eps)))

    layers: list[nn.Module] = []
    hooks = []
    for block in blocks:
        attention, (first, _, second) = block.attention, block.mlp
        layers += [attention.qkv, attention.out, first, second]
        hooks += [observe_after(block.attention_norm, attention.qkv), observe_after(block.mlp_norm, first)]
        hooks += [layer.register_forward_pre_hook(lambda layer, inputs: observe(layer, inputs[0]))
                  for layer in (attention.out, second)]
    try:
        for images in batches:
            run(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError('no image to measure the ranges of activations on; must be at least one')
    return tuple((float(found[layer][0]), float(found[layer][1])) for layer in layers)
