"""The baseline: ViT-Tiny from timm, or a copy of its architecture if timm cannot be imported."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIMM_NAME = 'vit_tiny_patch16_224'
OWN_NAME = f'{TIMM_NAME} (own copy of the architecture)'
NUM_PARAMETERS = 5_717_416  # of timm's model at 224x224 with 1000 classes


def vit_tiny(image_size: tuple[int, int] = (224, 224)) -> tuple[nn.Module, str]:
    """An untrained ViT-Tiny for (B, 3, height, width) images, in eval mode, and its name.

    timm needs a matching build of torchvision, which not every machine has. The copy has the same layers, weight names
    and speed.
    """
    try:
        import timm
    except (ImportError, RuntimeError):  # RuntimeError: a torchvision built for another torch
        return VitTiny(image_size).eval(), OWN_NAME
    return cast(nn.Module, timm.create_model(TIMM_NAME, pretrained=False, img_size=image_size)).eval(), (
        f'timm {timm.__version__} {TIMM_NAME}')


class VitTiny(nn.Module):
    """(B, 3, H, W) -> (B, num_classes): class token, learned positions, 12 pre-norm blocks of 3 heads, width 192."""

    def __init__(self, image_size: tuple[int, int] = (224, 224), width: int = 192, depth: int = 12,
                 num_classes: int = 1000) -> None:
        super().__init__()
        tokens = (image_size[0] // 16) * (image_size[1] // 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens + 1, width))
        self.patch_embed = nn.ModuleDict({'proj': nn.Conv2d(3, width, 16, 16)})
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed['proj'](images).flatten(2).transpose(1, 2)  # (B, N, width)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        return cast(Tensor, self.head(self.norm(self.blocks(x))[:, 0]))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({'fc1': nn.Linear(width, 4 * width), 'fc2': nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp['fc2'](F.gelu(self.mlp['fc1'](self.norm2(x))))
        return x


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 3, width // 3).permute(2, 0, 3, 1, 4)  # each (B, heads, N, head_dim)
        y = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(y.transpose(1, 2).reshape(b, n, width)))
