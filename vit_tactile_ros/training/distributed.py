"""Training with several processes: their ranks, and the sum of their gradients."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vit_tactile_ros.inference.runtime import select_device

T = TypeVar('T')


@dataclass(frozen=True)
class Processes:
    """The rank of this process among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and logs."""
        return self.rank == 0


ALONE = Processes()


def started_by_torchrun() -> bool:
    return 'WORLD_SIZE' in os.environ and 'RANK' in os.environ and 'MASTER_ADDR' in os.environ


def join(device: str) -> tuple[Processes, torch.device]:
    """Connect to the other processes of torchrun: gloo on the CPU, NCCL on CUDA, one device for each.

    Alone when torchrun did not start this process. `device` is as for `inference.runtime.select_device`, which says
    what it raises.
    """
    if not started_by_torchrun():
        return ALONE, select_device(device)
    kind = select_device(device).type
    if kind == 'cuda' and ':' not in device:
        device = f'cuda:{os.environ.get("LOCAL_RANK", "0")}'
    chosen = select_device(device)
    if kind == 'cuda':
        torch.cuda.set_device(chosen)
    # The others wait while the first one validates, which may take long on a large validation set.
    dist.init_process_group('nccl' if kind == 'cuda' else 'gloo', timeout=timedelta(hours=2))
    return Processes(dist.get_rank(), dist.get_world_size()), chosen


def leave() -> None:
    """Disconnect from the other processes, if any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def sum_over_processes(tensors: Sequence[Tensor], processes: Processes) -> None:
    """Replace each tensor by its sum over the processes, all in one message."""
    if processes.count == 1:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def from_first(value: T, processes: Processes) -> T:
    """The value that the first process has, on all of them."""
    if processes.count == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]
