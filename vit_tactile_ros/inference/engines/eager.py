"""Plain torch: the reference that every other engine is compared with."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.runtime import Precision, check_precision
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.early_exit import Stages
from vit_tactile_ros.model.tokens import Group


class TorchRuntime:
    """Plain torch, eager, on one device."""

    name = 'torch'

    def __init__(self, model: ViTTactile, device: torch.device, precision: Precision = 'float32') -> None:
        """Raises UserError for an unknown precision, or one that torch does not have."""
        if precision == 'int8':
            raise UserError("precision is 'int8'; plain torch has no 8-bit layers, only engine 'openvino' has (on "
                            'CPUs with VNNI): use it, or precision float32 or bfloat16')
        check_precision(precision, ('float32', 'bfloat16'), self.name)
        self.device = device
        self.precision: Precision = precision
        self.dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
        # A copy: rounding the caller's weights in place would change them for every other user of the checkpoint.
        self._model = copy.deepcopy(model).to(device, self.dtype).eval()

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """Stages of float32 (B, channels, H, W) images from host memory; see `ViTTactile.stages`."""
        # Patches are chosen before rounding, so that every engine and precision computes the same ones.
        groups = self._model.choose(images) if groups is None else groups
        return self._model.stages(images.to(self.device, self.dtype, non_blocking=True), groups)
