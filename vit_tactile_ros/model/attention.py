"""Self-attention with a choice of kernel: Performer's FAVOR+ (softmax or ReLU features) or plain softmax."""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from performer_pytorch.performer_pytorch import gaussian_orthogonal_random_matrix
from torch import Tensor, nn

from vit_tactile_ros.model.config import ModelConfig

# At this rms of queries and keys, logits have a standard deviation of 0.25, where 64 to 256 random features still
# approximate softmax attention (relative error 0.67 to 0.40). The gain is learned from there.
INITIAL_QK_RMS = 0.5


class SelfAttention(nn.Module):
    """Multi-head self-attention, (B, N, width) -> (B, N, width).

    With weights, (B, N), a token counts as a key as often as its weight says.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        head_dim = config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.q_norm = QKNorm(head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = QKNorm(head_dim) if config.qk_norm else nn.Identity()
        if config.attention == 'softmax':
            self.kernel: nn.Module = SoftmaxAttention()
        else:
            self.kernel = FavorAttention(head_dim, config.feature_map_dim, 'relu' if config.attention == 'favor_relu'
                                         else 'softmax')
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (B, heads, N, head_dim)
        y = self.kernel(self.q_norm(q), self.k_norm(k), v, weights)
        return cast(Tensor, self.out(y.transpose(1, 2).reshape(b, n, width)))

    def redraw_features(self) -> None:
        """Draw new random features; for training only, because it changes every prediction."""
        if isinstance(self.kernel, FavorAttention):
            self.kernel.redraw_features()


def has_values() -> bool:
    """False while a model is made on the meta device, where weights have shapes but no values.

    Values computed there would be lost, and some torch functions import modules for seconds on first use there.
    """
    return torch.get_default_device().type != 'meta'


class FavorAttention(nn.Module):
    """FAVOR+, (B, heads, N, head_dim) three times -> (B, heads, N, head_dim), in time linear in N.

    Choromanski et al. 2021 with softmax features (eq. 5) or ReLU features (eq. 10). Outputs match performer-pytorch's
    FastAttention with fewer passes over memory: the scale of queries and keys is a factor of the projection, the
    epsilon of ReLU features is a bias, and the common factor of all softmax features cancels.
    """

    def __init__(self, head_dim: int, num_features: int, features: Literal['softmax', 'relu'],
                 epsilon: float | None = None) -> None:
        """`epsilon` is added to every feature so that the divisor is not 0; None: 1e-4 (softmax) or 1e-3 (ReLU).

        With large queries and keys it outweighs the features, and attention becomes an average.
        """
        super().__init__()
        self.features = features
        self.epsilon = epsilon if epsilon is not None else {'softmax': 1e-4, 'relu': 1e-3}[features]
        self.projection_matrix: Tensor
        draw = gaussian_orthogonal_random_matrix if has_values() else torch.empty
        self.register_buffer('projection_matrix', draw(num_features, head_dim))

    def redraw_features(self) -> None:
        """Draw new random features; for training only, because it changes every prediction."""
        rows, columns = self.projection_matrix.shape
        self.projection_matrix.copy_(gaussian_orthogonal_random_matrix(rows, columns,
                                                                       device=self.projection_matrix.device))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, weights: Tensor | None = None) -> Tensor:
        projection = (self.projection_matrix * q.shape[-1]**-0.25).to(q.dtype)
        if self.features == 'relu':
            q, k = self._relu_features(q, projection), self._relu_features(k, projection)
        else:
            # The keys' stabiliser is per sample and head: over the batch, samples would depend on each other.
            q, k = self._softmax_features(q, projection, (-1,)), self._softmax_features(k, projection, (-2, -1))
        if weights is not None:
            k = k * weights[:, None, :, None].to(k.dtype)
        context = k.transpose(-2, -1) @ v  # (B, heads, features, head_dim)
        divisor = q @ k.sum(dim=-2).unsqueeze(-1)
        return (q @ context) / divisor

    def _relu_features(self, x: Tensor, projection: Tensor) -> Tensor:
        """relu(x) + epsilon as max(x + epsilon, epsilon)."""
        bias = projection.new_full((len(projection),), self.epsilon)
        return F.linear(x, projection, bias).clamp_min(self.epsilon)

    def _softmax_features(self, x: Tensor, projection: Tensor, stabiliser: tuple[int, ...]) -> Tensor:
        logits = F.linear(x, projection).float()  # bfloat16 would cause errors of percents in the exponential
        half_norm = x.float().square().sum(dim=-1, keepdim=True) * (0.5 * x.shape[-1]**-0.5)
        shift = logits.amax(dim=stabiliser, keepdim=True).detach() + half_norm
        return ((logits - shift).exp() + self.epsilon).to(x.dtype)


class QKNorm(nn.Module):
    """RMS normalisation of queries or keys over the head dimension, with a learned gain per dimension."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((head_dim,), INITIAL_QK_RMS))

    def forward(self, x: Tensor) -> Tensor:
        # The gain in the input's type: otherwise torch uses a slow path under autocast.
        return F.rms_norm(x, (x.shape[-1],), self.gain.to(x.dtype), eps=1e-6)


class SoftmaxAttention(nn.Module):
    """Exact scaled dot-product attention, the baseline that FAVOR+ approximates."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, weights: Tensor | None = None) -> Tensor:
        mask = None if weights is None else weights.log()[:, None, None, :].to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, mask)
