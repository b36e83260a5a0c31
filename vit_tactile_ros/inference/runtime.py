"""The interface of every engine, and the choice of a device and of the number of CPU threads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.early_exit import Stages
from vit_tactile_ros.model.tokens import Group, touched_images

Precision = Literal['float32', 'bfloat16', 'int8']
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
AUTO_OR_PRECISION = ('auto', *PRECISIONS)  # what users can set


class Runtime(Protocol):
    """A network prepared on a device; not thread-safe, one generator at a time."""

    name: str  # of the engine
    device: torch.device  # of the logits
    precision: Precision

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """Yield the logits (rows, C) of each exit in turn for float32 (B, channels, H, W) images in host memory.

        `send(rows)` continues with these rows only, `send(None)` and `next` with all; see `ViTTactile.stages`. groups:
        of `ViTTactile.choose`, if they are known already.
        """


def check_precision(precision: str, choices: Sequence[str], engine: str) -> None:
    """Raises UserError for a precision that the engine does not have."""
    if precision not in choices:
        raise UserError(f'precision is {precision!r}; must be one of {", ".join(choices)} for engine {engine!r}')


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, so that it is faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported()
    if device.type != 'cpu':
        return False
    # Earlier releases of torch do not report it; float32 is used there.
    known: Mapping[str, Any] = getattr(torch.cpu, 'get_capabilities', dict)()
    return any(known.get(name, False) for name in ('avx512_bf16', 'amx_bf16'))


def has_vnni() -> bool:
    """Whether the CPU multiplies and adds up 8-bit integers in one instruction, as Linux reports it; False elsewhere.

    Without it int8 was slower than float32 (Zen 3), and sums of products may overflow their 16 bits.
    """
    try:
        flags = Path('/proc/cpuinfo').read_text().split()
    except OSError:
        return False
    return 'avx512_vnni' in flags or 'avx_vnni' in flags


def select_device(device: str) -> torch.device:
    """'auto' is CUDA if there is a GPU, else the CPU; 'cuda', 'cuda:N' and 'cpu' are taken literally.

    Raises UserError for a device that is unknown or does not exist.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    kind, colon, index = device.partition(':')
    if kind not in ('cpu', 'cuda') or (colon and (kind == 'cpu' or not index.isdecimal())):
        raise UserError(f"device is {device!r}; must be 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if kind == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'device is {device!r}; torch {torch.__version__} finds no CUDA device here: '
                        "use 'auto' or 'cpu'")
    if index and int(index) >= torch.cuda.device_count():
        raise UserError(f'device is {device!r}; there are {torch.cuda.device_count()} CUDA devices')
    return torch.device(device)


@torch.inference_mode()
def fastest_thread_count(model: ViTTactile, limit: int, budget: float = 0.5) -> int:
    """1 or `limit` CPU threads, whichever is faster for one image now (interleaved medians).

    Next to a busy process two threads are slower than one, up to ten times, so the number of cores is not enough. Stops
    after 5 rounds or `budget` seconds, and takes several threads only if they were timed at least twice.
    """
    if limit <= 1:
        return 1
    image = touched_images(model.config)[-1:]  # of which all patches are computed
    times: dict[int, list[float]] = {1: [], limit: []}
    begun = time.perf_counter()
    for _ in range(1 + 5):  # the first round only warms up
        for threads, taken in times.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            for _logits in model.stages(image):
                pass
            taken.append(time.perf_counter() - start)
        if time.perf_counter() - begun > budget:
            break
    single, several = times[1][1:], times[limit][1:]
    # A small gain is not worth a core that the robot's other nodes can use.
    return limit if len(several) >= 2 and statistics.median(several) < 0.8 * statistics.median(single) else 1
