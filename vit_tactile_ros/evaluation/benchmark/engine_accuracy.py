"""The accuracy of an engine compared with plain PyTorch on the same touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Subset

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.evaluation.outputs import ExitOutputs, Inputs, outputs_of
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import Checkpoint


def outputs_of_engines(engines: Sequence[Runtime], frames: Frames, checkpoint: Checkpoint, size: int, batch_size: int,
                       progress: str = '') -> list[ExitOutputs]:
    """The outputs of each engine at every exit for the first `size` frames, in batches of `batch_size`."""
    inputs = Subset(Inputs(frames, checkpoint.preprocessing), range(size))
    return outputs_of([engine.stages for engine in engines], inputs, checkpoint.model.config, batch_size, progress,
                      class_names=checkpoint.class_names)


def compare_accuracy(engine: ExitOutputs, plain: ExitOutputs, tau: Sequence[float],
                     temperatures: Sequence[float]) -> dict[str, Any]:
    """Accuracies, 0 to 1, at every exit (by its block) and with early exits; differences to plain PyTorch in points.

    `points_below_full` is the accuracy of plain PyTorch's last exit minus that of the engine with early exits.
    """
    def line(ours: float, theirs: float) -> dict[str, float]:
        return {'accuracy': ours, 'plain': theirs, 'points': 100 * (ours - theirs)}

    def early(outputs: ExitOutputs) -> float:
        return float((outputs.decide(tuple(tau), temperatures)[1] == outputs.labels).mean())

    ours, theirs = engine.right.mean(axis=1), plain.right.mean(axis=1)
    return {
        'n': len(engine),
        'exits': {str(block): line(float(a), float(b)) for block, a, b in zip(engine.exits, ours, theirs, strict=True)},
        'early': {**line(early(engine), early(plain)), 'points_below_full': 100 * (float(theirs[-1]) - early(engine))},
        'other_class_share': float((engine.logits[-1].argmax(axis=1) != plain.logits[-1].argmax(axis=1)).mean())}
