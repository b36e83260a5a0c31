"""The weights of a network as the kernels of `triton_kernels.py` take them, and the order of the launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
import triton
from torch import Tensor, nn

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines import triton_kernels as kernels
from vit_tactile_ros.inference.engines.folding import Array, after_norm, array_of
from vit_tactile_ros.inference.engines.graphs import Buffers
from vit_tactile_ros.model import ModelConfig, ViTTactile
from vit_tactile_ros.model.attention import FavorAttention, QKNorm, SelfAttention
from vit_tactile_ros.model.vit import Block, Head, Stage

# What was compiled without slow memory: rows of tokens, features and classes are in registers.
_MOST = {'width': 256, 'heads': 8, 'feature_map_dim': 256, 'num_classes': 64, 'queries': 8}
_MOST_NUMBERS = 2**31  # of a buffer: kernels count in 32 bits
FEW_ROWS = 1024  # of tokens: up to here, small tiles give more programs than the GPU has processors


def _tile(rows: int) -> int:
    """Rows of tokens of a program."""
    return 16 if rows <= FEW_ROWS else 32 if rows <= 2 * FEW_ROWS else 64


class TritonSteps:
    """The network as fused kernels; see `graphs.Steps`."""

    hidden_dtype = torch.float32

    def __init__(self, model: ViTTactile, device: torch.device, dtype: torch.dtype, dependent: bool) -> None:
        """dependent: kernels start before the one ahead of them ends, on GPUs that can.

        Raises UserError for a network that the kernels do not support.
        """
        _check(model.config)
        self.dtype, self._device, self._config = dtype, device, model.config
        self._embedding = [_Convolution(layer, dtype, device, number == 0)
                           for number, layer in enumerate(_convolutions(model))]
        self._position = model.embed.position.to(device, torch.float32).contiguous()
        stages = cast(Iterable[Stage], model.stage_modules)
        self._stages = [([_BlockWeights(cast(Block, block), dtype, device) for block in stage.blocks],
                         _HeadWeights(stage.head, device)) for stage in stages]
        self._options: dict[str, Any] = {'DEPENDENT': dependent, **({'launch_pdl': True} if dependent else {})}

    def on(self, buffers: Buffers, temperatures: Tensor) -> Callable[[int], None]:
        config = self._config
        images, tokens, width = buffers.hidden.shape
        scratch = _Scratch(config, images, tokens, self.dtype, self._device)
        between = [torch.empty(images, *shape, dtype=self.dtype, device=self._device)
                   for shape in _map_shapes(self._embedding, config.image_size)[:-1]]
        numbers = max(tensor.numel() for tensor in (buffers.images, *between, *vars(scratch).values())
                      if isinstance(tensor, Tensor))
        if numbers >= _MOST_NUMBERS:
            raise UserError(f'{images} images of {tokens} patches need a buffer of {numbers} numbers; must be below '
                            f"{_MOST_NUMBERS} for engine 'triton': use engine 'cuda_graph'")
        weights = None if buffers.kept is None else buffers.kept.weights

        def run(index: int) -> None:
            if index == 0:
                buffers.upload()
                self._embed(buffers, between)
            blocks, head = self._stages[index]
            for block in blocks:
                self._block(buffers.hidden, weights, block, scratch)
            self._head(index, buffers, weights, head, temperatures)
            buffers.read_back(index)
        return run

    def _embed(self, buffers: Buffers, between: list[Tensor]) -> None:
        x = buffers.images
        images, tokens = buffers.hidden.shape[:2]
        for number, layer in enumerate(self._embedding):
            is_first, is_last = number == 0, number == len(self._embedding) - 1
            out = buffers.hidden if is_last else between[number]
            # The first map has its channels first, the others last.
            height, width, strides = (*x.shape[2:], (x.stride(0), x.stride(2), x.stride(3), x.stride(1))) if is_first \
                else (*x.shape[1:3], x.stride())
            columns = layer.out_size(width)
            per_image = tokens if is_last else out.shape[1] * out.shape[2]
            rows, kept = images * per_image, buffers.kept if is_last else None
            tile = _tile(rows)
            wide = min(64, triton.next_power_of_2(layer.channels_out))
            kernels.convolve[triton.cdiv(rows, tile), triton.cdiv(layer.channels_out, wide)](
                x, layer.weight, layer.bias, self._position, x if kept is None else kept.patches, out, rows, per_image,
                columns, height, width, *strides, C_OUT=layer.channels_out, CHANNELS=layer.channels, SIDE=layer.side,
                STRIDE=layer.stride, PAD=layer.pad, PLANAR=is_first, RELU=not is_last, IS_LAST=is_last,
                HAS_KEPT=kept is not None, BM=tile, BN=wide, BK=64 if layer.channels * layer.side**2 >= 64 else 32,
                num_warps=4, **self._options)
            x = out

    def _block(self, x: Tensor, weights: Tensor | None, block: _BlockWeights, scratch: _Scratch) -> None:
        images, tokens, width = x.shape
        rows, config = images * tokens, self._config
        heads, features = config.heads, config.feature_map_dim
        head, hidden, padded = width // heads, block.bias_1.shape[0], triton.next_power_of_2(width)
        tile, warps = scratch.tile, 4 if scratch.tile < 64 else 8
        tiles = scratch.tiles
        is_relu = config.attention == 'favor_relu'
        sizes = {'HEADS': heads, 'HEAD': head, 'M': features}
        kernels.project_qkv[images * tiles, 3 * heads](
            x, block.weight_qkv, block.bias_qkv, block.gain, block.projection, scratch.features, scratch.values,
            scratch.peaks, tokens, tiles, images, D=width, **sizes, IS_RELU=is_relu, HAS_GAIN=config.qk_norm,
            EPSILON=block.epsilon, BM=tile, BD=padded, BF=max(16, triton.next_power_of_2(features)), num_warps=warps,
            **self._options)
        kernels.sum_context[images * heads, triton.cdiv(features, 64)](
            scratch.features, scratch.values, scratch.peaks, x if weights is None else weights, scratch.context,
            scratch.sums, tokens, tiles, images, **sizes, IS_RELU=is_relu, HAS_WEIGHTS=weights is not None,
            EPSILON=block.epsilon, TILE=tile, BT=triton.next_power_of_2(tiles), BN=64,
            BF=64, num_warps=4, **self._options)
        kernels.attend[images * tiles,](
            x, scratch.features, scratch.context, scratch.sums, block.weight_out, block.bias_out, tokens, tiles,
            D=width, **sizes, BM=tile, BD=padded, BF=64, num_warps=8, **self._options)
        tile = _tile(2 * rows)
        kernels.widen[triton.cdiv(rows, tile), triton.cdiv(hidden, 64)](
            x, block.weight_1, block.bias_1, scratch.hidden, rows, D=width, HIDDEN=hidden, BM=tile, BN=64, BD=padded,
            num_warps=4 if tile < 64 else 8, **self._options)
        wide = 32 if tile == 16 else 64
        kernels.narrow[triton.cdiv(rows, tile), triton.cdiv(width, wide)](
            scratch.hidden, block.weight_2, block.bias_2, x, rows, D=width, HIDDEN=hidden, BM=tile, BN=wide, BK=128,
            num_warps=4, **self._options)

    def _head(self, index: int, buffers: Buffers, weights: Tensor | None, head: _HeadWeights, temperatures: Tensor,
              ) -> None:
        images, tokens, width = buffers.hidden.shape
        classes, logits = self._config.num_classes, buffers.logits
        is_last = index == len(self._stages) - 1
        none = buffers.outputs  # for the address of what is not there
        kernels.classify[images,](
            buffers.hidden, head.weight, head.bias, none if head.queries is None else head.queries,
            none if weights is None else weights, none if logits is None else logits, temperatures,
            buffers.outputs[index], index, tokens, D=width, CLASSES=classes, QUERIES=self._config.queries,
            HAS_WEIGHTS=weights is not None, ADDS=logits is not None and index > 0,
            KEEPS=logits is not None and not is_last, BN=32, BD=triton.next_power_of_2(width),
            BC=triton.next_power_of_2(classes), num_warps=4, **self._options)


def _check(config: ModelConfig) -> None:
    head, hidden = config.width // config.heads, int(config.width * config.mlp_ratio)
    for is_wrong, name, value, wanted in (
            (config.attention == 'softmax', 'attention', config.attention, "'favor_softmax' or 'favor_relu'"),
            (head not in (16, 32, 64, 128), 'width / heads', head, '16, 32, 64 or 128'),
            (hidden < 16, 'width * mlp_ratio', hidden, 'at least 16'),
            *((getattr(config, name) > most, name, getattr(config, name), f'at most {most}')
              for name, most in _MOST.items())):
        if is_wrong:
            raise UserError(f"{name} is {value!r}; must be {wanted} for engine 'triton': use engine 'cuda_graph'")


class _Scratch:
    """What the kernels of a block pass to each other."""

    def __init__(self, config: ModelConfig, images: int, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        heads, features, width = config.heads, config.feature_map_dim, config.width
        self.tile = _tile(images * tokens)
        self.tiles = triton.cdiv(tokens, self.tile)

        def empty(*shape: int, of: torch.dtype = dtype) -> Tensor:
            return torch.empty(shape, dtype=of, device=device)

        self.features = empty(2, images, heads, tokens, features)
        self.values = empty(images, heads, tokens, width // heads)
        self.peaks = empty(images, heads, self.tiles, of=torch.float32)
        self.context = empty(images, heads, features, width // heads)
        self.sums = empty(images, heads, features, of=torch.float32)
        self.hidden = empty(images * tokens, int(width * config.mlp_ratio))


def _convolutions(model: ViTTactile) -> list[nn.Conv2d]:
    stem = model.embed.project
    return [stem] if isinstance(stem, nn.Conv2d) else [m for m in stem.modules() if isinstance(m, nn.Conv2d)]


class _Convolution:
    """weight (inputs, C_out): inputs by channel, y, x for images, by y, x, channel for the maps that follow."""

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype, device: torch.device, is_first: bool) -> None:
        self.channels, self.channels_out = layer.in_channels, layer.out_channels
        self.side, self.stride, self.pad = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        weight = layer.weight.detach().float()
        ordered = weight.permute(1, 2, 3, 0) if is_first else weight.permute(2, 3, 1, 0)
        self.weight = ordered.reshape(-1, self.channels_out).to(device, dtype).contiguous()
        assert layer.bias is not None
        self.bias = torch.from_numpy(array_of(layer.bias)).to(device)

    def out_size(self, size: int) -> int:
        return (size + 2 * self.pad - self.side) // self.stride + 1


def _map_shapes(layers: list[_Convolution], size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(height, width, channels) of the output of each layer."""
    shapes = []
    for layer in layers:
        size = layer.out_size(size[0]), layer.out_size(size[1])
        shapes.append((*size, layer.channels_out))
    return shapes


class _BlockWeights:
    def __init__(self, block: Block, dtype: torch.dtype, device: torch.device) -> None:
        attention, kernel = block.attention, block.attention.kernel
        assert isinstance(attention, SelfAttention) and isinstance(kernel, FavorAttention)
        first, second = block.mlp[0], block.mlp[2]
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        head = kernel.projection_matrix.shape[1]
        self.weight_qkv, self.bias_qkv = _columns(*after_norm(attention.qkv, block.attention_norm), dtype, device)
        gains = [array_of(norm.gain) if isinstance(norm, QKNorm) else np.ones(head, np.float32)
                 for norm in (attention.q_norm, attention.k_norm)]
        self.gain = torch.from_numpy(np.stack(gains)).to(device)
        projection = kernel.projection_matrix.float() * head**-0.25
        self.projection = projection.T.to(device, dtype).contiguous()
        self.epsilon = kernel.epsilon
        self.weight_out, self.bias_out = _columns(array_of(attention.out.weight), array_of(attention.out.bias), dtype,
                                                  device)
        self.weight_1, self.bias_1 = _columns(*after_norm(first, block.mlp_norm), dtype, device)
        self.weight_2, self.bias_2 = _columns(array_of(second.weight), array_of(second.bias), dtype, device)


def _columns(weight: Array, bias: Array, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weight (in, out) in `dtype`, and bias (out,) in float32, of a weight (out, in)."""
    return torch.from_numpy(weight).T.to(device, dtype).contiguous(), torch.from_numpy(bias).to(device)


class _HeadWeights:
    """Float32: a head has few products."""

    def __init__(self, head: Head, device: torch.device) -> None:
        self.weight, self.bias = (torch.from_numpy(part).to(device) for part in after_norm(head.classify, head.norm))
        # The norm's bias adds the same to the score of every token.
        self.queries = None if head.queries is None else torch.from_numpy(
            array_of(head.queries) * array_of(head.norm.weight)).to(device)
