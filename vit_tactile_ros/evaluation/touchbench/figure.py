"""The figure of the benchmark: every score with its interval, and its controls."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from vit_tactile_ros.evaluation.figures import BLUE, GREY, ORANGE
from vit_tactile_ros.evaluation.touchbench.scores import TaskResult


def touchbench_figure(found: Sequence[TaskResult]) -> Figure:
    """One row per task and method."""
    rows = [len(task.results) for task in found]
    figure = Figure(figsize=(8.0, 1.2 + 0.34 * sum(rows) + 0.35 * len(rows)), layout='constrained')
    panels = figure.subplots(len(found), 1, squeeze=False, sharex=True, height_ratios=rows)[:, 0]
    for axes, task in zip(panels, found, strict=True):
        axes.axvline(task.chance, color=GREY, linewidth=1, linestyle='--', label='chance')
        for place, result in enumerate(task.results):
            score = result.score
            if not math.isnan(score.low):
                axes.plot([score.low, score.high], [place, place], color=BLUE, linewidth=2.5)
            axes.plot([score.value], [place], 'o', color=BLUE, markersize=7, label='score' if not place else None)
            axes.plot(list(result.controls.values()), [place] * len(result.controls), 'x', color=ORANGE, markersize=7,
                      label='controls' if not place else None)
        axes.set_yticks(range(len(task.results)), [result.method for result in task.results])
        axes.set_ylim(len(task.results) - 0.4, -0.6)
        shown = [value for r in task.results for value in (r.score.value, r.score.high, *r.controls.values())]
        axes.set_xlim(0, 1.02 * max([1.0, *(value for value in shown if not math.isnan(value))]))
        axes.set_title(f'{task.task} ({task.items} items, {task.groups} groups)', fontsize=10, loc='left')
        axes.grid(axis='x', alpha=0.3)
    panels[0].legend(loc='lower right', bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=9)
    panels[-1].set_xlabel('score (log loss: nats, lower is better); bars: 95 % intervals over groups')
    return figure
