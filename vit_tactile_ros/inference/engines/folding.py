"""Weights of a layer with those of the norm before it multiplied in, for engines that fuse the two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float32]


def array_of(tensor: Tensor) -> Array:
    """Float32, in host memory."""
    return tensor.detach().float().cpu().numpy()


def after_norm(linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Array, Array]:
    """Weight and bias of a linear layer with the gain and offset of the LayerNorm before it multiplied in.

    The layer may take several normalised vectors, one after the other.
    """
    weight, repeats = array_of(linear.weight), linear.in_features // norm.normalized_shape[0]
    gain, offset = (np.tile(array_of(part), repeats) for part in (norm.weight, norm.bias))
    return weight * gain, array_of(linear.bias) + weight @ offset
