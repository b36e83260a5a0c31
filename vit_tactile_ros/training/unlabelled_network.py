"""The network that pre-training without labels stores: the trunk, and classifiers that have learned nothing."""

from __future__ import annotations

from vit_tactile_ros.model import ViTTactile


def with_classifiers(trained: ViTTactile) -> ViTTactile:
    """The trunk of a network whose heads are others, and new classifiers with their norms; in eval mode on the CPU."""
    network = ViTTactile(trained.config)
    ours, theirs = trained.state_dict(), network.state_dict()
    network.load_state_dict({name: ours.get(name, theirs[name]) for name in theirs})
    return network.eval()
