"""Early exit of a batch with any engine: by the engine itself if it starts stages ahead, else stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import ExitResult, Hurry, early_exit
from vit_tactile_ros.model.early_exit import Stages
from vit_tactile_ros.model.tokens import Group


@runtime_checkable
class DecidesItself(Protocol):
    """An engine that may start a stage before the exit before it is decided."""

    def early_exit(self, images: Tensor, tau: Sequence[float], temperatures: Sequence[float],
                   hurry: Hurry | None = None, evidence: Tensor | None = None,
                   groups: Sequence[Group] | None = None) -> ExitResult: ...


def decide(runtime: Runtime, images: Tensor, tau: Sequence[float], temperatures: Sequence[float],
           hurry: Hurry | None = None, evidence: Tensor | None = None,
           groups: Sequence[Group] | None = None) -> ExitResult:
    """The result of `model.early_exit` for float32 (B, channels, H, W) images in host memory.

    evidence: float32 (B, C) in host memory, log likelihoods of the classes from elsewhere; at every exit they count as
    if the network had known them, also in the logits that are returned. None: there is none. groups: as for
    `Runtime.stages`.
    """
    chosen = {} if groups is None else {'groups': groups}
    if isinstance(runtime, DecidesItself):
        return runtime.early_exit(images, tau, temperatures, hurry, evidence, **chosen)
    stages = runtime.stages(images, **chosen)
    return early_exit(stages if evidence is None else _with_evidence(stages, evidence, temperatures), tau, temperatures,
                      hurry)


def _with_evidence(stages: Stages, evidence: Tensor, temperatures: Sequence[float]) -> Stages:
    """Logits whose softmax, after the division by the temperature, is the product with the evidence."""
    try:
        logits = next(stages)
        evidence = evidence.to(logits.device)
        for temperature in temperatures:
            rows = yield logits.float() + temperature * evidence
            if rows is not None:
                evidence = evidence[rows]
            logits = stages.send(rows)
    except StopIteration:
        return
    finally:
        stages.close()
