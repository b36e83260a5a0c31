"""The network that pre-training without labels stores: the trunk, and classifiers that have learned nothing."""

from __future__ import annotations

import torch

from vit_tactile_ros.model import ViTTactile


def with_classifiers(trained: ViTTactile) -> ViTTactile:
    """The trunk of a network whose heads are others, and classifiers of zeros with their norms; in eval mode.

    The weights are not copied, and no random numbers are drawn, so that a resumed run stays the same.
    """
    network = ViTTactile.without_weights(trained.config)
    ours = trained.state_dict()
    network.take_weights({name: ours[name] if name in ours else torch.zeros(tensor.shape)
                          for name, tensor in network.state_dict().items()})
    return network.eval()
