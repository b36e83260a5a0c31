"""What an engine's arithmetic costs in accuracy: its answers beside those of plain torch, on the same touches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.evaluation.outputs import ExitOutputs, Inputs
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import Checkpoint, compute_shares


@torch.inference_mode()
def outputs_of_engines(engines: Sequence[Runtime], frames: Frames, checkpoint: Checkpoint, size: int, batch_size: int,
                       progress: str = '') -> list[ExitOutputs]:
    """What each engine says at every exit of the first `size` frames, in batches of `batch_size`."""
    inputs = Inputs(frames, checkpoint.preprocessing)
    logits: list[list[np.ndarray[Any, Any]]] = [[] for _ in engines]
    labels: list[int] = []
    with tqdm(total=size, desc=progress, unit='image', leave=False,
              disable=not progress or not sys.stderr.isatty()) as bar:
        for start in range(0, size, batch_size):
            batch = [inputs[i] for i in range(start, min(start + batch_size, size))]
            images = torch.stack([image for image, _ in batch])
            labels += [label for _, label in batch]
            for engine, said in zip(engines, logits, strict=True):
                said.append(torch.stack([x.float().cpu() for x in engine.stages(images)]).numpy())
            bar.update(len(batch))
    config = checkpoint.model.config
    return [ExitOutputs(np.concatenate(said, axis=1), np.array(labels, np.int64), checkpoint.class_names, config.exits,
                        compute_shares(config)) for said in logits]


def compare_accuracy(engine: ExitOutputs, plain: ExitOutputs, tau: Sequence[float],
                     temperatures: Sequence[float]) -> dict[str, Any]:
    """Accuracies, 0 to 1, at every exit (by its block) and with early exits, and the engine's minus plain torch's in
    points (hundredths); `points_below_full` is what the engine with early exits has less than plain torch's last exit.
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
