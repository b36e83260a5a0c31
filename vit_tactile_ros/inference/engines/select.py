"""Which engine runs a checkpoint: the one asked for by name, or the fastest that agrees with plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.runtime import Precision, Runtime, select_device
from vit_tactile_ros.model import ViTTactile


@dataclass(frozen=True)
class Request:
    """What an engine is to be prepared for."""

    model: ViTTactile  # in eval mode, float32, on the CPU
    device: torch.device
    precision: Precision
    threads: int  # CPU threads, at least 1
    cache_dir: Path | None  # where prepared models may be kept; None: nowhere


def _torch(request: Request) -> Runtime:
    return TorchRuntime(request.model, request.device, request.precision)


def _cuda_graph(request: Request) -> Runtime:
    from vit_tactile_ros.inference.engines.cuda_graph import CudaGraphRuntime
    try:
        return CudaGraphRuntime(request.model, request.device, request.precision)
    except RuntimeError as error:  # an operation that can't be captured, or no memory left
        raise ValueError(f"the capture of CUDA graphs failed: {error}: take engine 'torch'") from error


# Prepares a runtime; raises ValueError with what to install or to change where it can't.
Prepare = Callable[[Request], Runtime]

CPU_ENGINES: dict[str, Prepare] = {'torch': _torch}
# The place for engines of a GPU, each in a file of its own beside this one.
CUDA_ENGINES: dict[str, Prepare] = {'torch': _torch, 'cuda_graph': _cuda_graph}


def make_runtime(model: ViTTactile, device: str = 'auto', engine: str = 'auto', precision: Precision = 'float32',
                 threads: int = 1, cache_dir: Path | None = None) -> Runtime:
    """A model made ready to run; 'auto' takes the fastest engine whose answers agree with plain torch.

    Raises ValueError for a device that is not there, an unknown engine or precision, or an engine asked for by name
    that can't run here, saying what would be right.
    """
    torch_device = select_device(device)
    engines = CUDA_ENGINES if torch_device.type == 'cuda' else CPU_ENGINES
    if engine != 'auto' and engine not in engines:
        raise ValueError(f"engine is {engine!r}; on {torch_device} it must be 'auto' or one of {', '.join(engines)}")
    request = Request(model, torch_device, precision, threads, cache_dir)
    return engines['torch' if engine == 'auto' else engine](request)
