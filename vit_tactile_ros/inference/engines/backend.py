"""Where the graphs of the exit loop run: a CUDA stream, or CPU tensors in tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class Backend(Protocol):
    """What differs between a GPU and the CPU tensors of the tests."""

    device: torch.device

    def host_buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor: ...

    def stream(self) -> contextlib.AbstractContextManager[Any]: ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that runs `work` again on the same tensors; call it inside `stream()`."""

    def mark(self) -> Callable[[], None]:
        """A function that waits until everything queued so far is done."""


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
            for _ in range(3):  # libraries choose their kernels and allocate their workspace
                work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # 'thread_local': CUDA calls of another thread must not break the capture.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode='thread_local'):
            work()
        return graph.replay

    def mark(self) -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record(self._stream)
        return event.synchronize
