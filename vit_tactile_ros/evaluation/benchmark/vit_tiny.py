"""The baseline: ViT-Tiny from timm, or a copy of its architecture if timm cannot be imported."""

from __future__ import annotations

import re
from typing import cast

import torch
from torch import Tensor, nn

from vit_tactile_ros.model import ModelConfig
from vit_tactile_ros.model.vit import Block

TIMM_NAME = 'vit_tiny_patch16_224'
OWN_NAME = f'{TIMM_NAME} (own copy of the architecture)'
NUM_PARAMETERS = 5_717_416  # of timm's model at 224x224 with 1000 classes
_NAMES = {'norm1.': 'attention_norm.', 'attn.qkv.': 'attention.qkv.', 'attn.proj.': 'attention.out.',
          'norm2.': 'mlp_norm.', 'mlp.fc1.': 'mlp.0.', 'mlp.fc2.': 'mlp.2.'}  # timm's, and ours, in a block


def vit_tiny(image_size: tuple[int, int] = (224, 224)) -> tuple[nn.Module, str]:
    """An untrained ViT-Tiny for (B, 3, height, width) images, in eval mode, and its name.

    timm needs a matching build of torchvision, which not every machine has. The copy has the same layers and speed.
    """
    try:
        import timm
    except (ImportError, RuntimeError):  # RuntimeError: a torchvision built for another torch
        return VitTiny(image_size).eval(), OWN_NAME
    return cast(nn.Module, timm.create_model(TIMM_NAME, pretrained=False, img_size=image_size)).eval(), (
        f'timm {timm.__version__} {TIMM_NAME}')


class VitTiny(nn.Module):
    """(B, 3, H, W) -> (B, num_classes): class token, learned positions, 12 pre-norm blocks of 3 heads, width 192."""

    def __init__(self, image_size: tuple[int, int] = (224, 224), num_classes: int = 1000) -> None:
        super().__init__()
        config = ModelConfig(num_classes=num_classes, image_size=image_size, exits=(12,), attention='softmax',
                             qk_norm=False)
        self.image_size, width = image_size, config.width
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, config.num_patches + 1, width))
        self.patch_embed = nn.ModuleDict({'proj': nn.Conv2d(3, width, 16, 16)})
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6

    @classmethod
    def copy_of(cls, model: nn.Module, image_size: tuple[int, int]) -> VitTiny:
        """In eval mode, with the weights of timm's model; the model itself if it is one of this class."""
        if isinstance(model, cls):
            return model
        weights = {}
        for name, value in model.state_dict().items():
            if found := re.fullmatch(r'(blocks\.\d+\.)(.*\.)(weight|bias)', name):
                name = found[1] + _NAMES[found[2]] + found[3]
            weights[name] = value
        copy = cls(image_size, len(weights['head.bias'])).eval()
        copy.load_state_dict(weights)
        return copy

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed['proj'](images).flatten(2).transpose(1, 2)  # (B, N, width)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        return cast(Tensor, self.head(self.norm(self.blocks(x)[:, 0])))
