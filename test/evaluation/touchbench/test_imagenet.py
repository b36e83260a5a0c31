"""The network with ImageNet weights: every layer runs once and in order; without its packages it is explained."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from vit_tactile_ros.evaluation.touchbench import imagenet
from vit_tactile_ros.foundation.errors import MissingPackageError

INSTALLED = all(importlib.util.find_spec(package) for package in imagenet.PACKAGES)


class Lite(nn.Module):
    """The layers of EfficientNet-Lite0 by name, with small ones."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self._blocks = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(16))
        self._conv_head, self._bn1, self._swish = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU6()

    def extract_features(self, x):
        x = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._swish(self._bn1(self._conv_head(x)))


@torch.inference_mode()
def test_the_parts_are_the_network():
    """A layer that is left out, or computed twice."""
    torch.manual_seed(0)
    network, x = Lite().eval(), torch.randn(2, 3, 12, 16)
    parts = imagenet._layers(network)
    assert len(parts) == len(imagenet.BLOCKS) + 1
    found = x
    for part in parts:
        found = part(found)
    torch.testing.assert_close(found, network.extract_features(x))


def test_efficientnet():
    """A crash where the optional packages are missing; with them, descriptions of nothing."""
    if not INSTALLED:
        with pytest.raises(MissingPackageError, match=f'pip install {imagenet.PACKAGES[0]}'):
            imagenet.efficientnet()
        return
    features = imagenet.efficientnet()
    rng = np.random.default_rng(0)
    same, other = (rng.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(2))
    described = features.compute([same, other], [same, same])
    assert [len(d) for d in described] == [2] * len(features.names)
    assert all(np.abs(nothing - touch).max() > 0.1 for nothing, touch in described)
