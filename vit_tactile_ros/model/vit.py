"""The staged ViT: patches, blocks, a head after some of them; a generator runs the stages on demand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from vit_tactile_ros.model.attention import SelfAttention, has_values
from vit_tactile_ros.model.config import Attention, ModelConfig, Stem
from vit_tactile_ros.model.early_exit import Stages, early_exit, thresholds
from vit_tactile_ros.model.tokens import Group, Tokens, choose_tokens, run_stages, take_tokens


class Mlp(nn.Sequential):
    def __init__(self, config: ModelConfig) -> None:
        hidden = int(config.width * config.mlp_ratio)
        super().__init__(nn.Linear(config.width, hidden), nn.GELU(), nn.Linear(hidden, config.width))


class Block(nn.Module):
    """A pre-norm transformer block, (B, N, width) -> (B, N, width); weights of the tokens: `SelfAttention`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), weights)
        x = x + self.mlp(self.mlp_norm(x))
        return x


class Head(nn.Module):
    """Classifier over the mean token, (B, N, width) -> (B, num_classes); with weights, (B, N), the weighted mean.

    With queries, it is over one mean for each: weighted by the softmax, over the tokens, of their products with the
    query, where a token counts as often as its weight says. A query of zeros gives the plain mean.
    Weights are 0 or more, and their sum over the tokens of an image must be above 0, or the logits are NaN.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.queries = nn.Parameter(torch.zeros(config.queries, config.width)) if config.queries else None
        self.classify = nn.Linear(max(config.queries, 1) * config.width, config.num_classes)

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        if self.queries is not None:
            scores = self.queries @ x.transpose(1, 2)  # (B, queries, N)
            if weights is not None:
                scores = scores + weights.log().unsqueeze(1)
            means = scores.softmax(dim=2) @ x
            return cast(Tensor, self.classify(means.flatten(1)))
        if weights is None:
            return cast(Tensor, self.classify(x.mean(dim=1)))
        mean = (weights.unsqueeze(1) @ x).squeeze(1) / weights.sum(dim=1, keepdim=True)
        return cast(Tensor, self.classify(mean))


class Stage(nn.Module):
    """The blocks up to one exit and its head, (B, N, width) -> (B, N, width), (B, num_classes); weights: (B, N).

    before: logits of the exit before, (B, num_classes), to which the head adds its own.
    """

    def __init__(self, config: ModelConfig, num_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(config) for _ in range(num_blocks)))
        self.head = Head(config)

    def forward(self, x: Tensor, weights: Tensor | None = None, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x = block(x, weights)
        own = self.head(x, weights)
        return x, own if before is None else before + own


class PatchEmbedding(nn.Module):
    """Patches and a fixed 2-D sine-cosine position embedding (Beyer et al. 2022), (B, channels, H, W) -> (B, N, width).

    The position embedding is computed, not learned, so any H and W that are multiples of the patch size work.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_size, self.width, self.channels = config.patch_size, config.width, config.channels
        self.project = make_stem(config)
        self._grid = (config.image_size[0] // config.patch_size, config.image_size[1] // config.patch_size)
        self.position: Tensor
        self.register_buffer('position', torch.empty(0), persistent=False)
        if has_values():
            self.compute_position()

    def compute_position(self) -> None:
        """Compute the position embedding, which is not one of the weights."""
        self.position = position_embedding(*self._grid, self.width)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.channels or images.shape[2] % self.patch_size or (
                images.shape[3] % self.patch_size) or 0 in images.shape:
            raise ValueError(f'images have shape {tuple(images.shape)}; must be (B, {self.channels}, H, W), '
                             f'H and W multiples of {self.patch_size}, B at least 1')
        x = self.project(images)  # (B, width, H / patch, W / patch)
        grid = (x.shape[2], x.shape[3])
        position = self.position
        if grid != self._grid:
            position = position_embedding(*grid, x.shape[1]).to(x)
        return x.flatten(2).transpose(1, 2) + position


def make_stem(config: ModelConfig) -> nn.Module:
    """Images to patch tokens, (B, channels, H, W) -> (B, width, H / patch, W / patch)."""
    if config.stem == 'patch':
        return nn.Conv2d(config.channels, config.width, config.patch_size, config.patch_size)
    layers: list[nn.Module] = []
    channels = config.channels
    for out in stem_channels(config):
        convolution = nn.Conv2d(channels, out, 3, stride=2, padding=1)
        if has_values():
            # no normalisation follows that would correct the scale
            nn.init.kaiming_normal_(convolution.weight, nonlinearity='relu')
        nn.init.zeros_(cast(Tensor, convolution.bias))
        layers += [convolution, nn.ReLU()]
        channels = out
    size = config.patch_size // 8  # a patch after three strides of 2
    return nn.Sequential(*layers, nn.Conv2d(channels, config.width, size, size))


def stem_channels(config: ModelConfig) -> tuple[int, int, int]:
    """Channels of the three convolutions of the stem."""
    return config.width // 12, config.width // 6, config.width // 3


def position_embedding(rows: int, columns: int, width: int) -> Tensor:
    """Fixed 2-D sine-cosine embedding of a patch grid, (rows * columns, width), float32."""
    frequency = 1.0 / 10000 ** (torch.arange(width // 4) / max(width // 4 - 1, 1))
    y = torch.arange(rows)[:, None] * frequency
    x = torch.arange(columns)[:, None] * frequency
    y = torch.cat((y.sin(), y.cos()), dim=1)[:, None, :].expand(rows, columns, width // 2)
    x = torch.cat((x.sin(), x.cos()), dim=1)[None, :, :].expand(rows, columns, width // 2)
    return torch.cat((x, y), dim=2).reshape(rows * columns, width)


class ViTTactile(nn.Module):
    """Early-exit ViT for tactile images.

    In eval mode `model(images)` returns `(logits, exit_index)`: for each sample, logits (B, num_classes) of the exit
    that was used, and its 0-based index (B,). In train mode it returns the logits of every exit, a list of
    (B, num_classes). `images` are float (B, channels, H, W), preprocessed; H and W are multiples of
    the patch size.
    """

    def __init__(self, config: ModelConfig, tau: float | Sequence[float] = 0.8) -> None:
        super().__init__()
        self.config = config
        self.embed = PatchEmbedding(config)
        starts = (0, *config.exits)
        self.stage_modules = nn.ModuleList(
            Stage(config, end - start) for start, end in zip(starts, config.exits, strict=False))
        self.token_threshold = config.token_threshold  # training varies it
        self.temperatures: tuple[float, ...] = (1.0,) * len(config.exits)
        self.tau = tau
        self.apply(initialise)

    @staticmethod
    def without_weights(config: ModelConfig, tau: float | Sequence[float] = 0.8) -> ViTTactile:
        """A model whose weights have shapes but no values and no memory; `take_weights` makes it usable."""
        with torch.device('meta'):
            return ViTTactile(config, tau)

    def take_weights(self, weights: dict[str, Tensor]) -> None:
        """Make these tensors (name to tensor, as in `state_dict`) the model's own weights, without copying them."""
        self.load_state_dict(weights, assign=True)
        self.embed.compute_position()

    def changed(self, **changes: Any) -> ViTTactile:
        """The same weights, in eval mode, with another image_size, token_threshold or attention.

        Raises UserError as ModelConfig does.
        """
        model = ViTTactile(dataclasses.replace(self.config, **changes), self.tau).eval()
        # Softmax attention has no random features.
        unknown = model.load_state_dict(self.state_dict(), strict=False)
        assert not unknown.missing_keys and all('projection_matrix' in key for key in unknown.unexpected_keys)
        model.temperatures = self.temperatures
        return model

    @property
    def tau(self) -> tuple[float, ...]:
        """Threshold of each early exit, 0 to 1; set one number for all or one for each."""
        return self._tau

    @tau.setter
    def tau(self, value: float | Sequence[float]) -> None:
        self._tau = thresholds(value, len(self.config.exits))

    def choose(self, images: Tensor) -> list[Group]:
        """The patches of float32 images, (B, channels, H, W), that are computed."""
        return choose_tokens(images, self.config.patch_size, self.token_threshold)

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """Yield the logits of each exit in turn; each stage runs only when the next value is requested.

        `send(rows)` continues with those rows only, `send(None)` and `next` with all. groups: of `choose`; None: those
        of these images.
        """
        groups = self.choose(images) if groups is None else groups
        yield from run_stages(take_tokens(self.embed(images), groups), len(self.stage_modules), self._run,
                              lambda _index, tokens, rows: tokens.subset(rows))

    def _run(self, index: int, tokens: Tokens) -> tuple[Tokens, Tensor]:
        x, logits = self.stage_modules[index](*tokens)
        return Tokens(x, tokens.weights, logits if self.config.added_exits else None), logits

    def forward(self, images: Tensor) -> list[Tensor] | tuple[Tensor, Tensor]:
        if self.training:
            return list(self.stages(images))
        result = early_exit(self.stages(images), self.tau, self.temperatures)
        return result.logits, result.exit_index

    def redraw_features(self) -> None:
        """Draw new random features in every block; for training only, because it changes every prediction."""
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.redraw_features()


def initialise(module: nn.Module) -> None:
    """Draw the weights of one module, for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Head) and module.queries is not None:
        nn.init.trunc_normal_(module.queries, std=0.02)


def create_vit_tactile(
    num_classes: int = 10,
    tau: float | Sequence[float] = 0.8,
    feature_map_dim: int = 256,
    *,
    attention: Attention = 'favor_softmax',
    image_size: tuple[int, int] = (224, 224),
    exits: tuple[int, ...] = (4, 8, 12),
    stem: Stem = 'patch',
    channels: int = 3,
    queries: int = 0,
    added_exits: bool = False,
) -> ViTTactile:
    """A ViT-Tiny (patch 16, width 192, 12 blocks, 3 heads) with Performer attention and exits, untrained.

    `tau` is the exit threshold, 0 to 1, one number or one per early exit; `feature_map_dim` the number of random
    features per head; `image_size` (height, width) in px; `channels` 3, with motion 3 more per earlier image; `queries`
    the number of learned vectors by which each exit weighs the tokens (0: equally); `added_exits` whether each exit
    adds its logits to those of the exit before. Raises UserError with the name of the wrong argument.
    """
    config = ModelConfig(num_classes=num_classes, feature_map_dim=feature_map_dim, attention=attention,
                         image_size=image_size, exits=exits, depth=exits[-1] if exits else 12, stem=stem,
                         channels=channels, queries=queries, added_exits=added_exits)
    return ViTTactile(config, tau)


def compute_shares(config: ModelConfig, image_size: tuple[int, int] | None = None) -> tuple[float, ...]:
    """Multiply-adds of a sample that exits at each exit, over those of the full depth; the last is 1."""
    costs = multiply_adds(config, image_size)
    return tuple(cost / costs[-1] for cost in costs)


def multiply_adds(config: ModelConfig, image_size: tuple[int, int] | None = None) -> tuple[int, ...]:
    """Multiply-adds of the matrix products for a sample that exits at each exit."""
    height, width_px = image_size or config.image_size
    n = (height // config.patch_size) * (width_px // config.patch_size)
    d = config.width
    if config.attention == 'softmax':
        attention = 2 * n * n * d  # q k^T and its product with v
    else:
        m = config.feature_map_dim
        attention = 2 * n * d * m + 2 * n * d * m  # features of q and k; k^T v and its product with q
    block = (4 * n * d * d) + attention + int(2 * n * d * d * config.mlp_ratio)
    # The products of tokens and queries, the weighted means, the classifier.
    head = 2 * n * d * config.queries + max(config.queries, 1) * d * config.num_classes
    if config.stem == 'patch':
        embed = n * config.channels * config.patch_size**2 * d
    else:
        patch, embed, channels = config.patch_size, 0, config.channels
        for out in stem_channels(config):
            patch //= 2
            embed += n * patch**2 * 9 * channels * out
            channels = out
        embed += n * patch**2 * channels * d
    return tuple(embed + blocks * block + (i + 1) * head for i, blocks in enumerate(config.exits))
