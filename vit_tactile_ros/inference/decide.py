"""Early exit of a batch with any engine: by the engine itself if it decides on its device, else stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import ExitResult, Hurry, early_exit


@runtime_checkable
class DecidesItself(Protocol):
    """An engine that decides on its device, without the host at each exit."""

    def early_exit(self, images: Tensor, tau: Sequence[float], temperatures: Sequence[float],
                   hurry: Hurry | None = None) -> ExitResult: ...


def decide(runtime: Runtime, images: Tensor, tau: Sequence[float], temperatures: Sequence[float],
           hurry: Hurry | None = None) -> ExitResult:
    """The result of `model.early_exit` for float32 (B, channels, H, W) images in host memory."""
    if isinstance(runtime, DecidesItself):
        return runtime.early_exit(images, tau, temperatures, hurry)
    return early_exit(runtime.stages(images), tau, temperatures, hurry)
