"""The weights of a network as the kernels of `triton_kernels.py` take them, and the order of the launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
import triton
from torch import Tensor, nn

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines import triton_kernels as kernels
from vit_tactile_ros.inference.engines.graphs import Buffers
from vit_tactile_ros.model import ModelConfig, ViTTactile
from vit_tactile_ros.model.attention import FavorAttention, QKNorm, SelfAttention
from vit_tactile_ros.model.vit import Block, Head, Stage

_MOST_FEATURES = 256  # random features of a tile of tokens are in registers
_MOST_CLASSES = 128
_MOST_WIDTH = 512
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
        numbers = 2 * images * config.heads * tokens * max(config.feature_map_dim, config.width)
        if numbers >= _MOST_NUMBERS:
            raise UserError(f'{images} images of {tokens} tokens need buffers of {numbers} numbers; must be below '
                            f"{_MOST_NUMBERS} for engine 'triton': use engine 'cuda_graph'")
        scratch = _Scratch(config, images, tokens, self.dtype, self._device)
        between = [torch.empty(images, *shape, dtype=self.dtype, device=self._device)
                   for shape in _map_shapes(self._embedding, config.image_size)[:-1]]
        weights = None if buffers.kept is None else buffers.kept.weights

        def run(index: int) -> None:
            if index == 0:
                buffers.images.copy_(buffers.images_host, non_blocking=True)
                if buffers.kept is not None:
                    buffers.kept.upload()
                self._embed(buffers, between)
            blocks, head = self._stages[index]
            for block in blocks:
                self._block(buffers.hidden, weights, block, scratch)
            self._head(index, buffers, weights, head, temperatures)
            buffers.outputs_host[index].copy_(buffers.outputs[index], non_blocking=True)
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
    head = config.width // config.heads
    hidden = int(config.width * config.mlp_ratio)
    for is_wrong, name, value, wanted in (
            (config.attention == 'softmax', 'attention', config.attention, "'favor_softmax' or 'favor_relu'"),
            (head not in (16, 32, 64, 128), 'width / heads', head, '16, 32, 64 or 128'),
            (config.width > _MOST_WIDTH, 'width', config.width, f'at most {_MOST_WIDTH}'),
            (config.feature_map_dim > _MOST_FEATURES, 'feature_map_dim', config.feature_map_dim,
             f'at most {_MOST_FEATURES}'),
            (hidden < 16, 'width * mlp_ratio', hidden, 'at least 16'),
            (config.num_classes > _MOST_CLASSES, 'num_classes', config.num_classes, f'at most {_MOST_CLASSES}')):
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
        self.bias = _float32(layer.bias, device)

    def out_size(self, size: int) -> int:
        return (size + 2 * self.pad - self.side) // self.stride + 1


def _map_shapes(layers: list[_Convolution], size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(height, width, channels) of the output of each layer."""
    shapes = []
    for layer in layers:
        size = layer.out_size(size[0]), layer.out_size(size[1])
        shapes.append((*size, layer.channels_out))
    return shapes


def _float32(tensor: Tensor | None, device: torch.device) -> Tensor:
    assert tensor is not None
    return tensor.detach().to(device, torch.float32).contiguous()


def _after_norm(norm: nn.LayerNorm, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight (in, out) and bias (out,) of the layer, float32, for inputs without the norm's gain and bias."""
    weight = layer.weight.detach().float()
    return (weight * norm.weight.detach().float()).T, layer.bias.detach().float() + weight @ norm.bias.detach().float()


class _BlockWeights:
    def __init__(self, block: Block, dtype: torch.dtype, device: torch.device) -> None:
        attention, kernel = block.attention, block.attention.kernel
        assert isinstance(attention, SelfAttention) and isinstance(kernel, FavorAttention)
        first, second = block.mlp[0], block.mlp[2]
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        head = kernel.projection_matrix.shape[1]

        def own(tensor: Tensor, of: torch.dtype = dtype) -> Tensor:
            return tensor.detach().to(device, of).contiguous()

        weight, bias = _after_norm(block.attention_norm, attention.qkv)
        self.weight_qkv, self.bias_qkv = own(weight), own(bias, torch.float32)
        gains = [norm.gain if isinstance(norm, QKNorm) else torch.ones(head)
                 for norm in (attention.q_norm, attention.k_norm)]
        self.gain = own(torch.stack(gains), torch.float32)
        self.projection = own((kernel.projection_matrix.float() * head**-0.25).T)
        self.epsilon = kernel.epsilon
        self.weight_out, self.bias_out = own(attention.out.weight.T), own(attention.out.bias, torch.float32)
        weight, bias = _after_norm(block.mlp_norm, first)
        self.weight_1, self.bias_1 = own(weight), own(bias, torch.float32)
        self.weight_2, self.bias_2 = own(second.weight.T), own(second.bias, torch.float32)


class _HeadWeights:
    """Float32: a head has few products."""

    def __init__(self, head: Head, device: torch.device) -> None:
        gain, shift = head.norm.weight.detach().float(), head.norm.bias.detach().float()
        means = 1 if head.queries is None else len(head.queries)
        weight = head.classify.weight.detach().float()
        self.weight = (weight * gain.repeat(means)).to(device).contiguous()
        self.bias = (head.classify.bias.detach().float() + weight @ shift.repeat(means)).to(device)
        # The norm's bias adds the same to the score of every token.
        self.queries = None if head.queries is None else _float32(head.queries.detach().float() * gain, device)
