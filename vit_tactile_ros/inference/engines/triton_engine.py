"""Fused kernels in CUDA graphs: the fastest engine of a GPU, for networks that its kernels support."""

from __future__ import annotations

import torch

from vit_tactile_ros.inference.engines.cuda_graph import CudaGraphRuntime
from vit_tactile_ros.inference.engines.graphs import Steps
from vit_tactile_ros.inference.engines.triton_steps import TritonSteps
from vit_tactile_ros.model import ViTTactile


class TritonRuntime(CudaGraphRuntime):
    """As `CudaGraphRuntime`, but each graph has a few large kernels instead of those of torch."""

    name = 'triton'
    precisions = ('bfloat16',)

    def _steps(self, model: ViTTactile, dtype: torch.dtype) -> Steps:
        is_hopper = self.device.type == 'cuda' and torch.cuda.get_device_capability(self.device) >= (9, 0)
        return TritonSteps(model, self.device, dtype, dependent=is_hopper)
