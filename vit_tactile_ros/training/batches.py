"""Which examples make up an epoch, in which order, and which of them this process gets."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.dataloader import default_collate

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.training.distributed import ALONE, Processes
from vit_tactile_ros.training.stopping import SIGNALS

Order = Callable[[int], NDArray[np.int64]]  # epoch (0-based) -> indices of its examples
Batch = tuple[Tensor, Tensor, Tensor]  # frames and references as in `data.frames`, labels (B,)

# Augmentation draws its random numbers for this many examples at once, and processes divide a batch into such pieces:
# so an example is augmented in the same way in whichever process it is.
PIECE = 8


def shuffled(size: int, seed: int) -> Order:
    """All examples once per epoch, in an order that is a function of seed and epoch."""
    return lambda epoch: np.random.default_rng((seed, epoch)).permutation(size)


def balanced(labels: NDArray[np.int64], seed: int) -> Order:
    """As many draws per epoch as there are examples, every class equally often; small classes repeat."""
    classes = [np.flatnonzero(labels == c) for c in np.unique(labels)]

    def order(epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((seed, epoch))
        per_class = math.ceil(len(labels) / len(classes))
        # Whole permutations first, so that no example is drawn twice before all of its class were.
        drawn = [np.concatenate([rng.permutation(members) for _ in range(math.ceil(per_class / len(members)))])
                 [:per_class] for members in classes]
        return rng.permutation(np.concatenate(drawn))[:len(labels)]

    return order


def consecutive(epoch_size: int) -> Order:
    """Fresh examples in every epoch, one after another, of a dataset that can make any number of them."""
    return lambda epoch: np.arange(epoch * epoch_size, (epoch + 1) * epoch_size)


def resized(order: Order, epoch_size: int) -> Order:
    """Epochs of `epoch_size` examples out of those of `order`, which follow one another without a gap."""
    size = len(order(0))

    def piece(epoch: int) -> NDArray[np.int64]:
        first, last = epoch * epoch_size, (epoch + 1) * epoch_size
        passes = np.concatenate([order(i) for i in range(first // size, math.ceil(last / size))])
        return passes[first % size:first % size + epoch_size]

    return piece


def own_rows(batch_size: int, processes: Processes) -> slice:
    """The rows of a batch for this process: whole pieces, possibly none."""
    pieces = math.ceil(batch_size / PIECE)
    first, last = (pieces * r // processes.count for r in (processes.rank, processes.rank + 1))
    return slice(first * PIECE, min(last * PIECE, batch_size))


class EpochBatches(Sampler[list[int]]):
    """This process's share of the batches of the epoch `epoch` from `first` on; the loop sets both."""

    def __init__(self, order: Order, batch_size: int, processes: Processes = ALONE) -> None:
        self.order = order
        self.batch_size = batch_size
        self.processes = processes
        self.epoch = 0
        self.first = 0
        self.epoch_size = len(order(0))

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return math.ceil(self.epoch_size / self.batch_size)

    def sizes(self) -> list[int]:
        """Examples in each batch of an epoch, over all processes."""
        return [min(self.batch_size, self.epoch_size - start) for start in range(0, self.epoch_size, self.batch_size)]

    def __iter__(self) -> Iterator[list[int]]:
        indices = self.order(self.epoch).tolist()
        for start in range(self.first * self.batch_size, len(indices), self.batch_size):
            batch = indices[start:start + self.batch_size]
            yield batch[own_rows(len(batch), self.processes)]


def make_loader(frames: Frames, batches: EpochBatches, workers: int, device: torch.device) -> DataLoader[Any]:
    """Yields a `Batch`, or None where this process has no share of it. The workers live as long as the loader."""
    if workers:
        cv2.setNumThreads(1)  # ends its threads: a forked worker would wait for them for ever
    return DataLoader(frames, batch_sampler=batches, num_workers=workers, collate_fn=_collate,
                      worker_init_fn=_prepare_worker, persistent_workers=workers > 0,
                      pin_memory=device.type == 'cuda')


def _collate(examples: list[tuple[Tensor, Tensor, int]]) -> Any:
    return default_collate(examples) if examples else None


def _prepare_worker(_index: int) -> None:
    cv2.setNumThreads(1)  # one core per worker; OpenCV would start a thread per core in each
    for kind in SIGNALS:  # which may go to all processes; the main one ends its workers
        signal.signal(kind, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
