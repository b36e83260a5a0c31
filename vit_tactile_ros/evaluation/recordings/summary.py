"""The summary of a replay as one JSON object: counts, accuracy, exits, compute, time, missing inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_tactile_ros.evaluation.metrics import balanced_accuracy
from vit_tactile_ros.evaluation.recordings.events import Touch, judge_touches
from vit_tactile_ros.evaluation.recordings.frame_table import FEW_TIMES, FrameTable
from vit_tactile_ros.evaluation.recordings.replaying import Replayed
from vit_tactile_ros.inference.gate import GATE_EXIT_BLOCK


def summarise(results: Sequence[Replayed], table: FrameTable, touches: Sequence[Touch] | None, seconds: float,
              missing: Sequence[str]) -> dict[str, Any]:
    """`table`: the joined tables of the results, with its touches; `seconds`: wall time of the replay."""
    rejected: Counter[str] = Counter()
    for rejection in table.rejections:
        rejected[rejection.reason] += rejection.count
    images = sum(result.images for result in results)
    return {
        'bags': len(results), 'images': images, 'classified': len(table), 'rejected': dict(rejected),
        'rejected_examples': [f'{r.bag} {r.topic}: {r.reason}, {r.example}' for r in table.rejections[:10]],
        **judged(table), 'unchanged': int(table.is_unchanged.sum()), 'enlarged': int((table.zoom > 1).sum()),
        'sensors': {str(sensor): judged(part) | {'latency_ms': latency(part)} for sensor, part in (
            (sensor, table.subset(table.sensor == sensor)) for sensor in np.unique(table.sensor))},
        'tau': list(table.tau), 'frames_per_s': images / seconds if seconds else None, 'seconds': seconds,
        'touches': None if touches is None else judge_touches(table, touches), 'latency_ms': latency(table),
        'notes': [note for result in results for note in result.notes],
        'missing': list(missing), 'stopped': any(result.is_stopped for result in results)}


def judged(table: FrameTable) -> dict[str, Any]:
    """Accuracy (None without labels), share of each exit and compute share of a table's frames."""
    labelled = table.subset(table.is_labelled)
    blocks = [*([GATE_EXIT_BLOCK] if table.is_gated.any() else []), *table.exits]
    return {
        'frames': len(table), 'labelled': len(labelled),
        'accuracy': float(labelled.right.mean()) if len(labelled) else None,
        'balanced_accuracy': balanced_accuracy(labelled.label, labelled.class_id) if len(labelled) else None,
        'exit_rates': {str(b): float((table.exit_blocks == b).mean()) for b in blocks} if len(table) else None,
        'compute_share': float(table.shares.mean()) if len(table) else None}


def latency(table: FrameTable) -> dict[str, Any] | None:
    """ms of one frame with early exit, from input ready to decision; None if nothing was timed. p99: None if few were.
    """
    times = 1e3 * table.inference_time[np.isfinite(table.inference_time)]
    if not len(times):
        return None
    return {'p50': float(np.percentile(times, 50)),
            'p99': float(np.percentile(times, 99)) if len(times) >= FEW_TIMES else None, 'n': len(times)}
