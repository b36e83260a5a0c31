"""The backend of CUDA graphs without a GPU: the logic around the graphs runs on CPU tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class DirectBackend:
    """No graphs, no streams: the same code, executed immediately on CPU tensors."""

    device = torch.device('cpu')

    def host_buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def mark(self) -> Callable[[], None]:
        return lambda: None
