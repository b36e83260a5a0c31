"""How roughness, bumps and hardness grow with the number of objects in training, and how many a target would need.

    python tools/measure_training_objects.py --data data [--counts 6 12 24 36 48] [--cache FOLDER] [--figure FILE.png]

The folds, seeds, touches and scores of `touchbench`; of the training objects of each fold only --counts are kept, as
many of each class. A larger number keeps those of a smaller one, and the tested objects are always the same, so counts
are compared on the same presses. Beside each score its controls, which do not show the touch, trained on the same
objects. Then a line of the score over the logarithm of the count: points gained by twice as many objects, and the
number at which the line reaches the --targets; intervals by drawing tested objects, the same ones for every count.
They do not include that other training objects might have been drawn (scores are means over folds and seeds), nor that
the line may bend. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vit_tactile_ros.data.split import Split
from vit_tactile_ros.data.table import TouchTable
from vit_tactile_ros.evaluation.figures import BLUE, GREY, ORANGE, save_figure
from vit_tactile_ros.evaluation.recordings.comparison import Estimate
from vit_tactile_ros.evaluation.touchbench.features import TOUCH, Descriptions, Features, handmade, pooled
from vit_tactile_ros.evaluation.touchbench.imagenet import efficientnet
from vit_tactile_ros.evaluation.touchbench.labelled import LabelledTask, predict, property_task
from vit_tactile_ros.evaluation.touchbench.scores import interval
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint

TARGETS = {'roughness': 0.68, 'bumps': 0.76, 'hardness': 0.60}
COUNTS = (6, 12, 24, 36, 48)
NEVER = 1e6  # objects: the line rises no faster than to this, or not at all


@dataclass(frozen=True)
class Curve:
    """One method's score over the number of training objects."""

    method: str
    counts: tuple[int, ...]
    scores: tuple[Estimate, ...]
    controls: dict[str, tuple[float, ...]]
    doubling: Estimate  # gain of the score by twice as many objects
    needed: Estimate  # objects at which the line reaches the target, at most NEVER


def fewer(table: TouchTable, split: Split, count: int, seed: int) -> Split:
    """The split with `count` of its training groups, as many of each class as there are, in an order of the seed."""
    groups = np.array(table.groups)
    names, first = np.unique(groups[split.train], return_index=True)
    order = np.random.default_rng(seed).permutation(len(names))
    labels = table.labels[split.train][first]
    by_class = [[names[i] for i in order if labels[i] == label] for label in np.unique(labels)]
    kept = [name for row in zip_longest(*by_class) for name in row if name is not None][:count]
    return replace(split, train=split.train[np.isin(groups[split.train], kept)])


def with_fewer(task: LabelledTask, count: int) -> LabelledTask:
    return replace(task, splits=cache(
        lambda seed: [fewer(task.table, split, count, seed) for split in task.splits(seed)]))


def curves(task: LabelledTask, methods: Sequence[Features], counts: Sequence[int], target: float,
           seeds: Sequence[int], known: Descriptions, blocks: Sequence[str] = ()) -> list[Curve]:
    """Of every method, by each of its features, or by those of these blocks."""
    found = []
    for features in methods:
        vectors = {shown: known.of(features, task.table, shown) for shown in (TOUCH, *task.controls)}
        for place, name in enumerate(features.names):
            if blocks and ', ' in name and name.rpartition(', ')[2] not in blocks:
                continue
            values: dict[str, list[tuple[float, NDArray[np.float64]]]] = {shown: [] for shown in vectors}
            for count in counts:
                smaller = with_fewer(task, count)
                for shown, arrays in vectors.items():
                    rows, right = predict(smaller, arrays[place], features.names[0], seeds)
                    values[shown].append(task.items(task.groups[rows], task.table.labels[rows]).resampled(right[0]))
            doubling, needed = extrapolated(counts, values[TOUCH], target)
            found.append(Curve(name, tuple(counts), tuple(interval(*one) for one in values[TOUCH]),
                               {shown: tuple(value for value, _ in values[shown]) for shown in task.controls},
                               doubling, needed))
            print(text_of(task.name, found[-1], target), flush=True)
    return found


def extrapolated(counts: Sequence[int], values: Sequence[tuple[float, NDArray[np.float64]]],
                 target: float) -> tuple[Estimate, Estimate]:
    """Gain of twice the count by a straight line over log2(count), and the count at which it reaches the target.

    values: for each count the score and its resamples.
    """
    x = np.log2(counts)
    slope, offset = np.polyfit(x, np.array([np.concatenate(([value], drawn)) for value, drawn in values]), 1)
    with np.errstate(over='ignore', divide='ignore', invalid='ignore'):
        needed = np.minimum(np.where(slope > 0, 2.0 ** ((target - offset) / slope), math.inf), NEVER)
    return interval(slope[0], slope[1:]), interval(needed[0], needed[1:])


def objects(value: float) -> str:
    return f'{value:.3g}' if value < NEVER else 'never'


def text_of(task: str, curve: Curve, target: float) -> str:
    rows = [f'{task}, {curve.method}']
    for place, (count, score) in enumerate(zip(curve.counts, curve.scores, strict=True)):
        controls = ', '.join(f'{name} {values[place]:.3f}' for name, values in curve.controls.items())
        rows.append(f'  {count:4} objects  {score.text()}  {controls}')
    gain, needed = curve.doubling, curve.needed
    rows.append(f'  twice as many: {gain.text("{:+.3f}".format)}; {target:g} at '
                f'{objects(needed.value)} objects ({needed.interval(objects)})')
    return '\n'.join(rows)


def curve_figure(found: dict[str, list[Curve]], targets: dict[str, float]) -> Figure:
    """One panel per task: the best feature of each method with its interval, its border control, the target."""
    figure = Figure(figsize=(3.6 * len(found), 3.8), layout='constrained')
    for axes, (task, all_curves) in zip(figure.subplots(1, len(found), squeeze=False, sharey=True)[0], found.items(),
                                        strict=True):
        best: dict[str, Curve] = {}
        for curve in all_curves:
            method = curve.method.partition(',')[0]
            best[method] = max(curve, best.get(method, curve), key=lambda one: one.scores[-1].value)
        axes.axhline(targets[task], color=GREY, linestyle='--', linewidth=1, label='target')
        for number, (curve, colour) in enumerate(zip(best.values(), (BLUE, ORANGE, '#4d9221'))):
            x = np.array(curve.counts) * 2 ** (0.05 * (number - 1))  # apart, so that intervals do not overlap
            axes.plot(x, [score.value for score in curve.scores], 'o-', color=colour, markersize=5, label=curve.method)
            axes.vlines(x, [score.low for score in curve.scores], [score.high for score in curve.scores], color=colour,
                        alpha=0.5)
            axes.plot(x, curve.controls['border'], 'x:', color=colour, alpha=0.7, label='its border control')
        axes.set_xscale('log', base=2)
        axes.set_xticks(curve.counts, [str(count) for count in curve.counts])
        axes.minorticks_off()
        axes.set_title(task, fontsize=11)
        axes.set_xlabel('training objects')
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc='lower right')
    figure.axes[0].set_ylabel('balanced accuracy per press')
    return figure


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='folder with gelsight_touches/labels.csv')
    parser.add_argument('--tasks', nargs='+', choices=tuple(TARGETS), default=list(TARGETS), help='default: all')
    parser.add_argument('--counts', type=int, nargs='+', default=COUNTS, help=f'training objects; default: {COUNTS}')
    parser.add_argument('--targets', type=float, nargs='+', help=f'one for each task; default: {TARGETS}')
    parser.add_argument('--methods', nargs='+', choices=('handmade', 'efficientnet', 'checkpoint'),
                        default=('handmade', 'checkpoint'), help='as of touchbench; default: handmade checkpoint')
    parser.add_argument('--blocks', nargs='+', default=(), help='of efficientnet and checkpoint, as touchbench names '
                        'them ("block 4"); default: all')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--folds', type=int, default=5, help='default: 5')
    parser.add_argument('--seeds', type=int, default=3, help='default: 3')
    parser.add_argument('--cache', type=Path, help='folder for features, as of touchbench')
    parser.add_argument('--figure', type=Path, help='PNG to write')
    arguments = parser.parse_args(argv)
    counts = sorted(arguments.counts)
    if len(counts) < 2 or counts[0] < 3 or len(set(counts)) < len(counts):
        raise UserError(f'counts are {arguments.counts}; must be two or more different ones, each at least 3')
    targets = TARGETS | dict(zip(arguments.tasks, arguments.targets or ()))
    if arguments.targets and len(arguments.targets) != len(arguments.tasks):
        raise UserError(f'targets are {arguments.targets}; must be one for each of the tasks {arguments.tasks}')
    torch.set_num_threads(1)
    made = {'handmade': handmade, 'efficientnet': efficientnet,
            'checkpoint': lambda: pooled(load_checkpoint(arguments.checkpoint or shipped_checkpoint()))}
    known, methods = Descriptions(arguments.cache), [made[method]() for method in arguments.methods]
    found = {}
    for name in arguments.tasks:
        task = property_task(arguments.data / 'gelsight_touches', name, arguments.folds)
        found[name] = curves(task, methods, counts, targets[name], range(arguments.seeds), known,
                             arguments.blocks)
    if arguments.figure:
        save_figure(curve_figure(found, targets), arguments.figure)
    print(json.dumps({name: [dataclasses.asdict(curve) for curve in rows] for name, rows in found.items()},
                     default=float))


if __name__ == '__main__':
    main()
