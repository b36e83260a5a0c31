"""Workloads of the benchmark: stages up to an exit, mixed exits, other sizes and attentions, matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vit_tactile_ros.evaluation.benchmark.contest import Run
from vit_tactile_ros.inference.decide import decide
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import ModelConfig, exit_probabilities, exit_score


def leave_at(runtime: Runtime, images: Tensor, exit_index: int) -> Run:
    """The whole batch up to one exit, probabilities on the host; earlier exits are not evaluated."""
    def run(_round: int) -> Tensor:
        stages = runtime.stages(images)
        for _ in range(exit_index + 1):
            logits = next(stages)
        stages.close()
        return exit_probabilities(logits).cpu()
    return run


def full_depth(runtime: Runtime, batches: Sequence[Tensor]) -> Run:
    """A different batch each round, up to the last exit."""
    def run(turn: int) -> Tensor:
        return exit_probabilities(list(runtime.stages(batches[turn % len(batches)]))[-1]).cpu()
    return run


def early(runtime: Runtime, batches: Sequence[Tensor], tau: Sequence[float], temperatures: Sequence[float]) -> Run:
    """The same batches with early exit."""
    def run(turn: int) -> Tensor:
        return decide(runtime, batches[turn % len(batches)], tau, temperatures).probabilities.cpu()
    return run


def mixed_exits(runtime: Runtime, images: Tensor, staying: Sequence[int]) -> Run:
    """A batch of which `staying[i]` samples, spread over the batch, continue after exit i."""
    def run(_round: int) -> Tensor:
        stages = runtime.stages(images)
        logits = next(stages)
        for count in staying:
            exit_score(exit_probabilities(logits)).cpu()
            rows = torch.arange(count, device=logits.device) * len(logits) // count
            logits = stages.send(rows)
        stages.close()
        return exit_probabilities(logits).cpu()
    return run


def forward(model: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Run:
    """A network without exits, from images to probabilities in host memory."""
    def run(_round: int) -> Tensor:
        return exit_probabilities(model(images.to(device, non_blocking=True))).cpu()
    return run


def matrix_products(config: ModelConfig, rows: int, device: torch.device) -> tuple[Run, int]:
    """The four matrix products of a block for `rows` tokens, and their multiply-adds: the achievable rate."""
    hidden = int(config.width * config.mlp_ratio)
    shapes = ((config.width, 3 * config.width), (config.width, config.width), (config.width, hidden),
              (hidden, config.width))
    pairs = [(torch.randn(rows, a, device=device), torch.randn(a, b, device=device)) for a, b in shapes]
    outputs = [torch.empty(rows, b, device=device) for _, b in shapes]

    def run(_round: int) -> None:
        for (x, weight), out in zip(pairs, outputs, strict=True):
            torch.mm(x, weight, out=out)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
    return run, sum(rows * a * b for a, b in shapes)
