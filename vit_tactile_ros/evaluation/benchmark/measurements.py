"""The benchmark's three measurements: at one batch size, over batch sizes, over numbers of tokens."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vit_tactile_ros.evaluation.benchmark.baselines import Baseline, Network
from vit_tactile_ros.evaluation.benchmark.contest import Run, Times, interleave
from vit_tactile_ros.evaluation.benchmark.workloads import (
    early,
    forward,
    full_depth,
    leave_at,
    matrix_products,
    mixed_exits,
)
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import ViTTactile, multiply_adds

SIDES = (14, 20, 28, 40, 56)  # of a square grid of patches: 196 to 3136 tokens
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """How long the measurements may take; each completes its current round."""

    seconds: float  # for all three, without preparation
    rounds: int  # maximum for each measurement


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    model: ViTTactile
    engines: dict[str, Runtime]
    main: str  # the engine that all measurements use
    batches: list[Tensor]  # images, float32 (batch_size, 3, h, w) each
    tau: tuple[float, ...]
    temperatures: tuple[float, ...]
    make: Callable[[ViTTactile], Runtime]  # the main engine for another network
    baselines: Sequence[Baseline]
    networks: Mapping[str, Network]  # of the baselines in the main engine and precision, by their key

    @property
    def runtime(self) -> Runtime:
        return self.engines[self.main]

    @property
    def image_size(self) -> tuple[int, int]:
        return self.model.config.image_size


def staying(batch_size: int, exits: int) -> tuple[int, ...]:
    """How many samples of a mixed batch continue after each early exit: half each time, at least one."""
    return tuple(max(1, batch_size >> (i + 1)) for i in range(exits - 1))


def fastest(engines: dict[str, Runtime], images: Tensor) -> str:
    """The engine with the smallest median over 5 rounds at full depth."""
    if len(engines) == 1:
        return next(iter(engines))
    times = interleave({name: full_depth(runtime, [images]) for name, runtime in engines.items()}, 10, 5, 3)
    return min(times, key=lambda name: times[name].p50)


def measure_batch(subject: Subject, budget: Budget, compiled: bool, progress: str) -> tuple[dict[str, Times], int]:
    """Times at the batch size of `subject.batches`, multiply-adds of 'matrix'."""
    runtime, images, config = subject.runtime, subject.batches[0], subject.model.config
    exits, device, size = len(config.exits), subject.runtime.device, len(images)
    colours = images[:, :3].contiguous()  # without motion, which the baselines have no channels for
    products, operations = matrix_products(config, size * config.num_patches, device)
    softmax = subject.make(subject.model.changed(image_size=subject.image_size, attention='softmax'))
    contenders: dict[str, Run] = {f'exit {i}': leave_at(runtime, images, i) for i in range(exits)}
    contenders |= {'full': full_depth(runtime, subject.batches),
                   'early': early(runtime, subject.batches, subject.tau, subject.temperatures),
                   'softmax': full_depth(softmax, subject.batches), 'matrix': products}
    for baseline in subject.baselines:
        model = baseline.model if device.type == 'cpu' else copy.deepcopy(baseline.model).to(device)
        contenders[baseline.key] = forward(model, colours, device)
        if compiled:
            try:
                graphs = 'reduce-overhead' if device.type == 'cuda' else None  # CUDA graphs
                fast = forward(cast(torch.nn.Module, torch.compile(model, mode=graphs)), colours, device)
                with torch.inference_mode():
                    fast(0)
                contenders[f'{baseline.key} compiled'] = fast
            except Exception as error:  # for instance without a C++ compiler; the rest does not need it
                log.warning('torch.compile of %s failed and is left out: %s', baseline.name,
                            str(error).splitlines()[0])
        if baseline.key in subject.networks:
            contenders[f'{baseline.key} engine'] = forward(subject.networks[baseline.key], colours, device)
    contenders |= {f'engine {name}': full_depth(other, subject.batches)
                   for name, other in subject.engines.items() if name != subject.main}
    if exits > 1 and size > 1:
        counts = staying(size, exits)
        contenders['mixed'] = mixed_exits(runtime, images, counts)
        for i, count in enumerate(counts):
            # Their difference is the time of the stage after exit i for `count` samples.
            contenders[f'part {i} before'] = leave_at(runtime, images[:count], i)
            contenders[f'part {i} after'] = leave_at(runtime, images[:count], i + 1)
    return interleave(contenders, 0.4 * budget.seconds, budget.rounds, progress=progress, warm_up=2), operations


def mixed_over_parts(times: dict[str, Times], exits: int) -> float | None:
    """Time of a batch with mixed exits over the sum of the times of its stages for their numbers of samples."""
    if 'mixed' not in times:
        return None
    parts = times['exit 0'].p50 + sum(times[f'part {i} after'].p50 - times[f'part {i} before'].p50
                                      for i in range(exits - 1))
    return times['mixed'].p50 / parts


def measure_batches(subject: Subject, sizes: Sequence[int], budget: Budget, progress: str) -> dict[int, Times]:
    """Times of the main engine at full depth for each batch size."""
    if not sizes:
        return {}
    pool = torch.cat(subject.batches)
    pool = pool.repeat(-(-max(sizes) // len(pool)), 1, 1, 1)
    times = interleave({str(size): full_depth(subject.runtime, [pool[:size].contiguous()]) for size in sizes},
                       0.2 * budget.seconds, budget.rounds, progress=progress)
    return {int(size): t for size, t in times.items()}


def measure_tokens(subject: Subject, sides: Sequence[int], budget: Budget, progress: str,
                   ) -> tuple[dict[int, Times], dict[int, Times]]:
    """Times of one image at full depth by number of tokens: the network's own attention, and softmax attention."""
    if not sides:
        return {}, {}
    patch = subject.model.config.patch_size
    contenders: dict[str, Run] = {}
    for side in sides:
        size = (side * patch, side * patch)
        image = [torch.randn(1, subject.model.config.channels, *size)]
        own = subject.model.changed(image_size=size)
        contenders[f'own {side * side}'] = full_depth(subject.make(own), image)
        contenders[f'softmax {side * side}'] = full_depth(subject.make(own.changed(attention='softmax')), image)
    times = interleave(contenders, 0.4 * budget.seconds, budget.rounds, progress=progress)
    return ({side**2: times[f'own {side**2}'] for side in sides},
            {side**2: times[f'softmax {side**2}'] for side in sides})


def matrix_share(times: dict[str, Times], operations: int, model: ViTTactile, batch_size: int) -> dict[int, float]:
    """By block of each exit: rate of multiply-adds, relative to bare matrix products in the same minutes."""
    rate = operations / times['matrix'].p50
    return {block: batch_size * cost / times[f'exit {i}'].p50 / rate
            for i, (block, cost) in enumerate(zip(model.config.exits, multiply_adds(model.config), strict=True))}
