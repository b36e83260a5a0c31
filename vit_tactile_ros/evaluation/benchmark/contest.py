"""Interleaved timing of alternatives, so that load on the machine affects all of them alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from vit_tactile_ros.inference.engines.select import REST

# Runs once and returns when the result is ready (also on a GPU). The argument is the number of the round.
Run = Callable[[int], object]


@dataclass(frozen=True)
class Times:
    """Times of one alternative, s, one per round."""

    seconds: tuple[float, ...]
    cpu: tuple[float, ...] = ()  # of all threads of this process

    @property
    def n(self) -> int:
        return len(self.seconds)

    @property
    def mean(self) -> float:
        return float(np.mean(self.seconds))

    @property
    def p50(self) -> float:
        return float(np.median(self.seconds))

    @property
    def p99(self) -> float:
        """With fewer than 100 rounds, close to the largest."""
        return float(np.percentile(self.seconds, 99))

    def cpu_of(self, frames: int, batch_size: int = 1) -> float:
        """Seconds of CPU time for so many frames; each round was a batch of this size."""
        return float(np.mean(self.cpu)) * frames / batch_size


@torch.inference_mode()
def interleave(contenders: Mapping[str, Run], budget: float, most: int, least: int = 2, progress: str = '',
               warm_up: int = 1, seed: int = 0, rest: float = REST) -> dict[str, Times]:
    """Times of all contenders; in each round, each runs once, in a new random order, after `rest` s of sleep.

    Ends after `most` rounds, or after `budget` seconds including the warm-up, but not before `least` rounds.
    `progress` is the title of a progress bar on a terminal; '' shows none.
    """
    rng = np.random.default_rng(seed)
    names = list(contenders)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    begun = time.perf_counter()
    for run in contenders.values():
        for turn in range(warm_up):
            run(turn)
    with tqdm(total=most, desc=progress, unit='round', leave=False,
              disable=not progress or not sys.stderr.isatty()) as bar:
        for turn in range(most):
            for index in rng.permutation(len(names)):
                time.sleep(rest)
                cpu, start = time.process_time(), time.perf_counter()
                contenders[names[index]](turn)
                taken[names[index]].append((time.perf_counter() - start, time.process_time() - cpu))
            bar.update()
            if turn + 1 >= least and time.perf_counter() - begun > budget:
                break
    return {name: Times(*zip(*pairs, strict=True)) for name, pairs in taken.items()}
