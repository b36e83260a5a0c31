"""Early exit of a batch by any engine: the engine's own way where it decides on its device, else stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import ExitResult, early_exit


@runtime_checkable
class DecidesItself(Protocol):
    """An engine that need not ask the host at each exit."""

    def early_exit(self, images: Tensor, tau: Sequence[float], temperatures: Sequence[float]) -> ExitResult: ...


def decide(runtime: Runtime, images: Tensor, tau: Sequence[float], temperatures: Sequence[float]) -> ExitResult:
    """What `model.early_exit` says of float32 (B, 3, H, W) images in host memory."""
    if isinstance(runtime, DecidesItself):
        return runtime.early_exit(images, tau, temperatures)
    return early_exit(runtime.stages(images), tau, temperatures)
