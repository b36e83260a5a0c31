"""CUDA graphs: a graph per stage and batch size, one small read-back per exit."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from vit_tactile_ros.inference.engines.backend import Backend, CudaBackend
from vit_tactile_ros.inference.engines.exit_loop import ExitLoop
from vit_tactile_ros.inference.engines.graphs import Steps, TorchSteps
from vit_tactile_ros.inference.runtime import Precision, check_precision
from vit_tactile_ros.model import ExitResult, Hurry, ViTTactile
from vit_tactile_ros.model.early_exit import Stages
from vit_tactile_ros.model.tokens import Group


class CudaGraphRuntime:
    """Stages as CUDA graphs; batches are padded to the next power of two.

    `early_exit` is the fast way; `stages` is for callers that decide themselves, with a round trip to the host at each
    exit.
    """

    name = 'cuda_graph'
    precisions: tuple[Precision, ...] = ('float32', 'bfloat16')

    def __init__(self, model: ViTTactile, device: torch.device, precision: Precision = 'float32',
                 speculate: bool | None = None, backend: Backend | None = None) -> None:
        """`speculate`: start the next stage before the output of this one is read; None: unless most batches end there.

        Raises UserError for an unknown precision, RuntimeError if CUDA refuses the capture.
        """
        check_precision(precision, self.precisions, self.name)
        self.device = device
        self.precision: Precision = precision
        own = copy.deepcopy(model).eval().requires_grad_(False)
        steps = self._steps(own, torch.bfloat16 if precision == 'bfloat16' else torch.float32)
        self._loop = ExitLoop(own, steps, backend or CudaBackend(device), speculate)
        self._loop.prepare(1)  # a capture must fail here, where another engine can still be chosen

    def _steps(self, model: ViTTactile, dtype: torch.dtype) -> Steps:
        """What the graphs hold; the model is this engine's own."""
        return TorchSteps(model, self.device, dtype)

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """See `runtime.Runtime`; the batch is at most 64. Raises ValueError for images of another size."""
        return self._loop.stages(images, groups)

    def early_exit(self, images: Tensor, tau: Sequence[float], temperatures: Sequence[float],
                   hurry: Hurry | None = None, evidence: Tensor | None = None,
                   groups: Sequence[Group] | None = None) -> ExitResult:
        """As `model.early_exit` of the stages; the next stage may have started already. The result is on the host."""
        return self._loop.early_exit(images, tau, temperatures, hurry, evidence, groups)
