"""Accuracy, compute and time for several exit thresholds.

One forward pass over the data, then for every tau: accuracy, drop, the share of each exit, compute, and the measured
time of images that run one by one with early exits, interleaved with runs at full depth.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from vit_tactile_ros import flags
from vit_tactile_ros.data.source import read_all
from vit_tactile_ros.evaluation.cache import cached_outputs, is_cached
from vit_tactile_ros.evaluation.calibration import CONFIDENCE, lowest_tau, tau_shown
from vit_tactile_ros.evaluation.figures import (
    TradeOff,
    confusion_figure,
    per_class_figure,
    reliability_figure,
    save_figure,
    trade_off_figure,
)
from vit_tactile_ros.evaluation.metrics import balanced_accuracy, confusion, per_class_accuracy, reliability
from vit_tactile_ros.evaluation.outputs import ExitOutputs, inputs_of
from vit_tactile_ros.evaluation.parts import EvaluationData, load_parts
from vit_tactile_ros.evaluation.risk import samples_needed
from vit_tactile_ros.evaluation.timing import Timing, measure_times, spread_sample
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.foundation.files import check_folder_writable, written_whole
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint, thresholds

DROPS = (0.001, 0.004, 0.007)  # of accuracy, that thresholds are chosen for on validation

EXAMPLES = (
    '--tau_start 0.6 --tau_end 0.99 --n_steps 10',
    '--checkpoint runs/mine/checkpoint.safetensors --data touches --output runs/sweep',
)


@dataclass(frozen=True)
class Row:
    """One set of thresholds, evaluated on the test samples."""

    choice: str  # where the thresholds come from
    tau: tuple[float, ...]  # one per early exit
    accuracy: float
    balanced_accuracy: float
    drop: float  # accuracy of the last exit minus this one
    exit_rates: tuple[float, ...]
    compute_share: float
    time_ms: float = float('nan')  # mean of an image
    speed_up_percent: float = float('nan')  # full time / this time - 1


@dataclass(frozen=True)
class SweepRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    tau_start: float = flag(0.6, 'first threshold, 0 to 1')
    tau_end: float = flag(0.99, 'last threshold, 0 to 1')
    n_steps: int = flag(10, 'number of thresholds, evenly spaced from the first to the last')
    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    output: Path = flag(Path('runs/sweep'), 'folder for sweep.csv and the figures')
    timing_images: int = flag(64, 'images that run one by one at every tau')
    timing_rounds: int = flag(3, 'runs per image; 0: no timing')
    threads: int = flag(1, flags.THREADS)
    device: str = flag('auto', flags.DEVICE)
    data: EvaluationData = EvaluationData(size=2000)

    def __post_init__(self) -> None:
        for name in ('tau_start', 'tau_end'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{name} is {getattr(self, name)}; must be between 0 and 1')
        check_least(self, n_steps=1, timing_images=1, timing_rounds=0, threads=0)


def parse_arguments(argv: list[str] | None = None) -> SweepRequest:
    return flags.parse('sweep', __doc__, EXAMPLES, SweepRequest, argv)


def evaluate(choice: str, tau: Sequence[float], outputs: ExitOutputs, temperatures: Sequence[float]) -> Row:
    """Accuracy, exits and compute of thresholds on stored outputs; no time yet."""
    limits = thresholds(tau, outputs.num_exits)
    exits, predicted, _ = outputs.decide(limits, temperatures)
    rates, compute_share = outputs.spent(exits)
    right = float((predicted == outputs.labels).mean())
    return Row(choice, limits, right, balanced_accuracy(outputs.labels, predicted),
               float(outputs.right[-1].mean()) - right, tuple(float(r) for r in rates),
               compute_share)


@command('sweep')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    check_folder_writable(request.output)
    console = Console(width=None if sys.stdout.isatty() else 120)
    path = request.checkpoint or shipped_checkpoint()
    checkpoint = load_checkpoint(path)
    parts = load_parts(request.data, checkpoint, 'test')
    classifier = TactileClassifier(checkpoint, request.device, threads=request.threads)
    needed = [part for name, part in parts.items() if part.size and (
        not is_cached(request.data.cache, checkpoint, part) or (name == 'test' and request.timing_rounds))]
    # Now: a broken image would otherwise be found after minutes of work.
    read_all([partial(getattr, part, 'frames') for part in needed], sum(part.size for part in needed))
    collected = {name: cached_outputs(request.data.cache, checkpoint, part, classifier.runtime.device,
                                      request.data.workers, f'{name} data')
                 for name, part in parts.items() if part.size}
    test, temperatures = collected['test'], classifier.temperatures
    steps = np.linspace(request.tau_start, request.tau_end, request.n_steps)
    choices = [('sweep', (round(float(t), 6),) * (test.num_exits - 1)) for t in steps]
    if 'validation' in collected:
        choices += [(f'{100 * d:g} points', lowest_tau(collected['validation'], d, temperatures))
                    for d in DROPS]
    choices += [(f'bound {d.max_accuracy_drop:g}', d.tau) for d in checkpoint.calibration.drops]
    rows = [evaluate(name, tau, test, temperatures) for name, tau in choices]
    timing = None
    if request.timing_rounds:
        sample = spread_sample(test.scores(temperatures)[0], request.timing_images)
        inputs = inputs_of(parts['test'].frames, checkpoint.preprocessing, sample.tolist())
        taus = list(dict.fromkeys(row.tau for row in rows))
        timing = measure_times(classifier, inputs, taus, request.timing_rounds, 'timing')
        rows = [Row(**(asdict(row) | {'time_ms': 1e3 * timing.early[taus.index(row.tau)],
                                      'speed_up_percent': 100 * timing.speed_up(taus.index(row.tau))}))
                for row in rows]
    _print(console, rows, test, timing, f'{path.name} on {parts["test"].description}', classifier)
    if 'validation' in collected and (least := samples_needed(DROPS[0], 1 - CONFIDENCE)) > len(
            collected['validation']):
        console.print(f'note: to show a drop of {100 * DROPS[0]:g} points takes at least {least} validation images, '
                      f'and there are {len(collected["validation"])}: the thresholds chosen on them may lose more',
                      soft_wrap=True)
    _write_csv(request.output / 'sweep.csv', rows, test.exits)
    figures = _draw(request.output, rows, test, temperatures, checkpoint.calibration.tau, timing)
    console.print(f'wrote sweep.csv, {", ".join(figures)} to {request.output}', soft_wrap=True)
    print(json.dumps({
        'checkpoint': str(path), 'data': {name: part.description for name, part in parts.items()},
        'temperatures': list(temperatures), 'accuracy_per_exit': test.right.mean(axis=1).tolist(),
        'ece_per_exit': [r.ece for r in _reliability(test, temperatures)],
        'timing': asdict(timing) if timing else None, 'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'device': str(classifier.runtime.device), 'threads': classifier.threads,
        'rows': [{k: None if v != v else v for k, v in asdict(row).items()} for row in rows]}))
    return 0


def _reliability(outputs: ExitOutputs, temperatures: Sequence[float]) -> list[Any]:
    confidences = outputs.probabilities(temperatures).max(axis=2)
    return [reliability(c, r) for c, r in zip(confidences, outputs.right, strict=True)]


def _print(console: Console, rows: Sequence[Row], test: ExitOutputs, timing: Timing | None, title: str,
           classifier: TactileClassifier) -> None:
    console.print(title, soft_wrap=True)
    alone = zip(test.exits, test.right.mean(axis=1), _reliability(test, classifier.temperatures), strict=True)
    console.print('each exit alone: ' + ', '.join(
        f'block {b} accuracy {a:.4f}, ECE {r.ece:.4f}' for b, a, r in alone), soft_wrap=True)
    if timing:
        blocks = ', '.join(f'{1e3 * t:.2f} ms to block {b}' for b, t in zip(test.exits, timing.exits, strict=True))
        console.print(f'one image on {classifier.runtime.device}, {classifier.threads} threads: {blocks}'
                      f' (median); full depth {1e3 * timing.full:.2f} ms (mean of {timing.images} images, each the '
                      f'median of {timing.rounds} runs, all thresholds interleaved)', soft_wrap=True)
    for heading, group in (('sweep; drop in points', [r for r in rows if r.choice == 'sweep']),
                           ('thresholds chosen on validation (bound: by calibrate), reported on test; drop in points',
                            [r for r in rows if r.choice != 'sweep'])):
        if not group:
            continue
        table = Table(title=heading, title_justify='left', box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        has_reasons = len({r.choice for r in group}) > 1
        for column in (('chosen for',) if has_reasons else ()):
            table.add_column(column, no_wrap=True)
        for column in ('tau', 'accuracy', 'drop', *(f'block {b}' for b in test.exits), 'compute', 'ms', 'speed-up'):
            table.add_column(column, justify='right', no_wrap=True)
        for row in group:
            table.add_row(*([row.choice] if has_reasons else []), tau_shown(row.tau),
                          f'{row.accuracy:.2%}', f'{100 * row.drop:+.2f}', *(f'{r:.1%}' for r in row.exit_rates),
                          f'{row.compute_share:.1%}', f'{row.time_ms:.2f}' if timing else '-',
                          f'{row.speed_up_percent:+.1f}%' if timing else '-')
        console.print(table)


def _write_csv(path: Path, rows: Sequence[Row], blocks: Sequence[int]) -> None:
    with written_whole(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['choice', *(f'tau_block_{b}' for b in blocks[:-1]), 'accuracy', 'balanced_accuracy', 'drop',
                         *(f'rate_block_{b}' for b in blocks), 'compute_share', 'time_ms', 'speed_up_percent'])
        for row in rows:
            writer.writerow([row.choice, *row.tau, row.accuracy, row.balanced_accuracy, row.drop, *row.exit_rates,
                             row.compute_share, row.time_ms, row.speed_up_percent])


def _draw(folder: Path, rows: Sequence[Row], test: ExitOutputs, temperatures: Sequence[float], tau: float,
          timing: Timing | None) -> list[str]:
    """Write the figures; their names."""
    full = float(test.right[-1].mean())
    classes = len(test.class_names)
    _, predicted, _ = test.decide(tau, temperatures)
    columns = [test.logits[i].argmax(axis=1) for i in range(test.num_exits)] + [predicted]
    per_class = np.stack([per_class_accuracy(test.labels, c, classes) for c in columns], axis=1)
    figures = {
        'confusion.png': confusion_figure(
            confusion(test.labels, predicted, classes), test.class_names,
            f'early exit at tau {tau:g}: accuracy {np.mean(predicted == test.labels):.1%} of {len(test)} images'),
        'reliability.png': reliability_figure(_reliability(test, temperatures), test.exits,
                                              test.right.mean(axis=1).tolist(),
                                              f'confidence against accuracy, {len(test)} images'),
        'per_class.png': per_class_figure(per_class, [*(f'block {b}' for b in test.exits), f'tau {tau:g}'],
                                          test.class_names, 'accuracy of each class, %'),
    }
    if timing:
        figures['trade_off.png'] = trade_off_figure(
            [TradeOff(max(r.tau, default=1.0), r.accuracy, r.speed_up_percent / 100, r.exit_rates)
             for r in rows if r.choice == 'sweep'], full, test.exits,
            f'{len(test)} images; time measured on {timing.images} of them')
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    return list(figures)


if __name__ == '__main__':
    sys.exit(main())
