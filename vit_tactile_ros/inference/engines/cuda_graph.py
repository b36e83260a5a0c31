"""CUDA graphs: a graph per stage and batch size, the exit decision on the device, one small read-back per exit."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vit_tactile_ros.inference.engines.exit_loop import ExitLoop
from vit_tactile_ros.inference.runtime import Precision, check_precision
from vit_tactile_ros.model import ExitResult, ViTTactile
from vit_tactile_ros.model.early_exit import Stages


class Backend(Protocol):
    """What differs between a GPU and the execution on CPU tensors that the tests use."""

    device: torch.device

    def host_buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor: ...

    def stream(self) -> contextlib.AbstractContextManager[Any]: ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What runs `work` again on the same tensors; call it inside `stream()`."""

    def mark(self) -> Callable[[], None]:
        """What waits until everything queued so far is done."""


class CudaBackend:
    """A stream of its own, pinned host memory, captured graphs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def host_buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype).pin_memory()

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)  # also makes its device the current one

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        with self.stream():
            for _ in range(3):  # libraries choose their kernels and take their workspace
                work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # 'thread_local': another thread that uses CUDA meanwhile must not spoil the capture.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode='thread_local'):
            work()
        return graph.replay

    def mark(self) -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record(self._stream)
        return event.synchronize


class DirectBackend:
    """No graphs, no streams: the same code executed at once on CPU tensors."""

    device = torch.device('cpu')

    def host_buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def mark(self) -> Callable[[], None]:
        return lambda: None


class CudaGraphRuntime:
    """Stages as CUDA graphs; batches are padded to the next of the sizes that graphs exist for (powers of two).

    `early_exit` is the fast way; `stages` offers the same graphs to callers that decide for themselves, with a
    round trip to the host at each exit.
    """

    name = 'cuda_graph'

    def __init__(self, model: ViTTactile, device: torch.device, precision: Precision = 'float32',
                 speculate: bool | None = None, backend: Backend | None = None) -> None:
        """`speculate`: start the next stage while the answer of this one travels; None: unless most batches end there.

        Raises ValueError for an unknown precision, RuntimeError where CUDA refuses the capture.
        """
        check_precision(precision, ('float32', 'bfloat16'), self.name)
        self.device = device
        self.precision = precision
        dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
        own = copy.deepcopy(model).to(device, dtype).eval().requires_grad_(False)
        self._loop = ExitLoop(own, dtype, backend or CudaBackend(device), speculate)
        self._loop.prepare(1)  # a capture that fails must fail here, where another engine can still be taken

    def stages(self, images: Tensor) -> Stages:
        """See `runtime.Runtime`; the batch is at most 64. Raises ValueError for images of another size."""
        return self._loop.stages(images)

    def early_exit(self, images: Tensor, tau: Sequence[float], temperatures: Sequence[float]) -> ExitResult:
        """As `model.early_exit` of the stages, with the decision on the device; the result lies on the host."""
        return self._loop.early_exit(images, tau, temperatures)
