"""Fused kernels in CUDA graphs, for GPUs and networks that the kernels support."""

from __future__ import annotations

import torch

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines.backend import Backend
from vit_tactile_ros.inference.engines.cuda_graph import CudaGraphRuntime
from vit_tactile_ros.inference.engines.graphs import Steps
from vit_tactile_ros.inference.engines.triton_steps import TritonSteps
from vit_tactile_ros.inference.runtime import Precision
from vit_tactile_ros.model import ViTTactile


class TritonRuntime(CudaGraphRuntime):
    """As `CudaGraphRuntime`, but each graph has a few large kernels instead of those of torch."""

    name = 'triton'
    precisions = ('bfloat16',)

    def __init__(self, model: ViTTactile, device: torch.device, precision: Precision = 'bfloat16',
                 speculate: bool | None = None, backend: Backend | None = None, dependent: bool = False) -> None:
        """dependent: kernels start before the one ahead of them ends, which needs compute capability 9.0.

        Raises UserError also for a network that the kernels do not support.
        """
        if device.type == 'cuda' and (found := torch.cuda.get_device_capability(device)) < (
                wanted := (9, 0) if dependent else (8, 0)):
            raise UserError(f'the compute capability of {device} is {found[0]}.{found[1]}; must be at least '
                            f"{wanted[0]}.{wanted[1]} for engine 'triton'{' with dependent launches' * dependent}: use "
                            "engine 'cuda_graph'")
        self._dependent = dependent
        super().__init__(model, device, precision, speculate, backend)

    def _steps(self, model: ViTTactile, dtype: torch.dtype) -> Steps:
        return TritonSteps(model, self.device, dtype, self._dependent)
