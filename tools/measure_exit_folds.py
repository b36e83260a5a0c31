"""What depth and exits are worth on labelled touches, by the outputs of cross-validated networks.

    python tools/measure_exit_folds.py RUN ... [--against RUN ...] -- FLAGS OF cross_validate

A RUN is an --output of `cross_validate`; after -- are the flags of that command that name the data and the folds
(without --output and --seed). Several runs are the same training with other seeds: figures are means over them, and
intervals (95 %) draw whole groups, so 12 alike images of one grasp count as one. Per exit: accuracy, and the gain over
the exit before and of the last over the first. Then what exits lose at --speed times the speed of the full depth, with
a threshold for each exit: the groups that a network did not train on are divided at random, temperatures and
thresholds come from one half, the figure from the other, and in turn. Times of the exits are measured image by image in
plain PyTorch on one thread, or given by --costs. --against: runs of another training on the same images, or of a
control; its accuracy, and the gain over it, paired. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros import cross_validate
from vit_tactile_ros.data.source import read_frames, read_table
from vit_tactile_ros.data.split import folds
from vit_tactile_ros.evaluation.cache import read_outputs
from vit_tactile_ros.evaluation.outputs import ExitOutputs, inputs_of
from vit_tactile_ros.evaluation.recordings.comparison import Estimate
from vit_tactile_ros.evaluation.timing import measure_times
from vit_tactile_ros.evaluation.touchbench.scores import Items
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import load_checkpoint

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH, which env.sh sets, excludes it
from measure_exits import ROUNDS, Fitted, exits_at, lost  # noqa: E402

CHECKPOINT = 'checkpoint.safetensors'
SIGNED, POINTS = '{:+.3f}'.format, '{:+.2f}'.format


class Run:
    """The outputs of all folds of one cross-validation, in the order of its table."""

    def __init__(self, folder: Path, data_flags: Sequence[str]) -> None:
        found = sorted(folder.glob(f'fold_*/{cross_validate.OUTPUTS}'))
        if not found:
            raise UserError(f'{folder} has no fold_*/{cross_validate.OUTPUTS}; give an --output of cross_validate that '
                            'has finished a fold')
        self.checkpoint = load_checkpoint(found[0].parent / CHECKPOINT)
        names, config = self.checkpoint.class_names, self.checkpoint.model.config
        stored = [read_outputs(path, names, config) for path in found]
        seed = json.loads(stored[0][0])['settings']['seed']
        self.request = cross_validate.parse_arguments([*data_flags, '--output', str(folder), '--seed', str(seed)])
        table = read_table(self.request.source)
        assert table is not None
        self.table, self.parts = table, [part.test for part in folds(table, self.request.folds, seed)]
        self.tested = [self.parts[int(path.parent.name.partition('_')[2])] for path in found]
        self.folds: list[ExitOutputs] = [outputs for _, outputs in stored]
        for path, rows, outputs in zip(found, self.tested, self.folds, strict=True):
            if not np.array_equal(table.labels[rows], outputs.labels):
                raise UserError(f'{path}: these are not the outputs of the images of {table.origin} that this fold '
                                'tests; give the flags of the cross_validate command after --')

    def right(self) -> NDArray[np.float64]:
        """1 where an exit is right on an image of the table, (E, N); NaN where no finished fold tests it."""
        found = np.full((len(self.checkpoint.model.config.exits), len(self.table)), np.nan)
        for rows, outputs in zip(self.tested, self.folds, strict=True):
            found[:, rows] = outputs.right
        return found

    def spent(self, costs: NDArray[np.float64], speed: float, splits: int) -> NDArray[np.float64]:
        """Means over the random halves, of every image of the table: points lost by exits, and the cost, (2, N)."""
        groups = np.array(self.table.groups)
        total, seen = np.zeros((2, len(self.table))), np.zeros(len(self.table))
        for rows, outputs in zip(self.tested, self.folds, strict=True):
            for seed in range(splits):
                names = np.random.default_rng(seed).permutation(np.unique(groups[rows]))
                is_first = np.isin(groups[rows], names[::2])
                for half in (is_first, ~is_first):
                    fit, test = np.flatnonzero(half), np.flatnonzero(~half)
                    data = Fitted(outputs.subset(fit), outputs.subset(test))
                    scores = data.scores('largest probability')
                    tau = lost(data, scores, 'one for each exit', costs, speed)['tau']
                    chosen = exits_at(scores[1], tau)
                    right = data.test.right
                    used = right[chosen, np.arange(len(test))]
                    total[:, rows[test]] += np.stack([100.0 * (right[-1].astype(float) - used), costs[chosen]])
                    seen[rows[test]] += 1
        with np.errstate(invalid='ignore'):
            return total / seen


def together(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over runs, whatever each of them has."""
    return np.nanmean(np.stack(values), axis=0)


def estimate(values: NDArray[np.float64], groups: NDArray[Any]) -> Estimate:
    """The mean over the images that were tested, with its interval over the groups."""
    known = ~np.isnan(values)
    return Items(groups[known], np.zeros(known.sum(), np.int64)).score(values[known])


def report(runs: Sequence[Run], against: Sequence[Run], costs: NDArray[np.float64], speed: float,
           splits: int) -> dict[str, Any]:
    groups, exits = np.array(runs[0].table.groups), runs[0].checkpoint.model.config.exits
    if any(run.checkpoint.model.config.exits != exits for run in against):
        raise UserError('runs: those of --against have other exits; give runs with the same ones')
    right = together([run.right() for run in runs])
    accuracy = {block: estimate(row, groups) for block, row in zip(exits, right, strict=True)}
    steps = {f'{exits[i]} to {exits[j]}': estimate(right[j] - right[i], groups)
             for i, j in [*itertools.pairwise(range(len(exits))), (0, len(exits) - 1)]}
    spent = together([run.spent(costs, speed, splits) for run in runs])
    points, cost = estimate(spent[0], groups), estimate(spent[1], groups)
    seeds = [np.nanmean(run.right(), axis=1).round(4).tolist() for run in runs]
    print(f'{int((~np.isnan(right[0])).sum())} images of {len(set(groups.tolist()))} groups, {len(runs)} runs')
    for block, one in accuracy.items():
        print(f'  block {block:3}  {one.text()}  by run {[row[exits.index(block)] for row in seeds]}')
    for name, one in steps.items():
        print(f'  blocks {name:8}  {one.text(SIGNED)}')
    print(f'  exits, aimed at {speed:g} times: {POINTS(points.value)} points lost '
          f'({points.interval(POINTS)}), cost {cost.value:.3f} ({1 / cost.value:.2f} times as fast)')
    found = {'accuracy': accuracy, 'by run': seeds, 'steps': steps, 'points lost': points, 'cost': cost,
             'costs': costs.round(3).tolist()}
    if against:
        other = together([run.right() for run in against])
        found['against'] = {block: estimate(row, groups) for block, row in zip(exits, other, strict=True)}
        found['gain'] = {block: estimate(row, groups) for block, row in zip(exits, right - other, strict=True)}
        for block, one in found['gain'].items():
            print(f'  block {block:3}  against {found["against"][block].text()}, gain {one.text(SIGNED)}')
    return found


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    own, data_flags = (argv[:argv.index('--')], argv[argv.index('--') + 1:]) if '--' in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', type=Path, nargs='+', metavar='RUN')
    parser.add_argument('--against', type=Path, nargs='+', default=[], metavar='RUN')
    parser.add_argument('--speed', type=float, default=2.5, help='over that of the full depth; default: 2.5')
    parser.add_argument('--splits', type=int, default=20, help='random halves of the groups; default: 20')
    parser.add_argument('--costs', type=float, nargs='+', help='time of each exit, 1 at the last; default: measured')
    parser.add_argument('--images', type=int, default=40, help='that are timed one by one; default: 40')
    arguments = parser.parse_args(own)
    torch.set_num_threads(1)
    runs, against = ([Run(folder, data_flags) for folder in part] for part in (arguments.runs, arguments.against))
    costs = np.array(arguments.costs or measured(runs[0], arguments.images))
    if len(costs) != len(runs[0].checkpoint.model.config.exits):
        raise UserError(f'costs are {arguments.costs}; must be one for each exit of {arguments.runs[0]}, which has '
                        f'exits after the blocks {runs[0].checkpoint.model.config.exits}')
    found = report(runs, against, costs / costs[-1], arguments.speed, arguments.splits)
    print(json.dumps(found, default=lambda one: [round(one.value, 4), round(one.low, 4), round(one.high, 4)]))


def measured(run: Run, images: int) -> tuple[float, ...]:
    """Median times of an image that exits at each exit, s."""
    rows = np.linspace(0, len(run.table) - 1, images).round().astype(int).tolist()
    frames = read_frames(run.request.source, run.table.subset(rows), run.checkpoint.preprocessing)
    inputs = inputs_of(frames, run.checkpoint.preprocessing, range(len(rows)))
    return measure_times(TactileClassifier(run.checkpoint, 'cpu', threads=1), inputs, (), ROUNDS).exits


if __name__ == '__main__':
    main()
