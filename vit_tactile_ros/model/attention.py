"""Self-attention with a choice of kernel: Performer's FAVOR+ (softmax or ReLU features) or plain softmax."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from performer_pytorch import FastAttention
from torch import Tensor, nn

from vit_tactile_ros.model.config import ModelConfig

# Queries and keys of this rms give logits of standard deviation 0.25, where 64 to 256 random features still
# approximate softmax attention (relative error 0.67 to 0.40); the gain is learned from there.
INITIAL_QK_RMS = 0.5


class SelfAttention(nn.Module):
    """Multi-head self-attention, (B, N, width) -> (B, N, width)."""

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
            self.kernel = FastAttention(head_dim, nb_features=config.feature_map_dim,
                                        generalized_attention=config.attention == 'favor_relu')
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (B, heads, N, head_dim)
        y = self.kernel(self.q_norm(q), self.k_norm(k), v)
        return cast(Tensor, self.out(y.transpose(1, 2).reshape(b, n, width)))

    def redraw_features(self) -> None:
        """Draw new random features; for training only, since it changes every answer."""
        if isinstance(self.kernel, FastAttention):
            self.kernel.redraw_projection_matrix(self.kernel.projection_matrix.device)


class QKNorm(nn.Module):
    """RMS normalisation of queries or keys over the head dimension, with a learned gain per dimension."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((head_dim,), INITIAL_QK_RMS))

    def forward(self, x: Tensor) -> Tensor:
        # The gain in the input's type: under autocast torch would else fall back to a slow form.
        return F.rms_norm(x, (x.shape[-1],), self.gain.to(x.dtype), eps=1e-6)


class SoftmaxAttention(nn.Module):
    """Exact scaled dot-product attention, the baseline that FAVOR+ approximates."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)
