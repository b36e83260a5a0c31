"""Fit the confidences and exit thresholds of a checkpoint to validation data.

Fits a temperature per exit, and for each bound on the accuracy lost by leaving early chooses the lowest tau that
keeps it with the given confidence. Both are stored in the checkpoint; the node is then given `max_accuracy_drop` in
place of tau. The ranges of the activations are stored too, which precision int8 needs.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vit_tactile_ros.data.arguments import check_split_arguments
from vit_tactile_ros.evaluation.cache import cached_outputs, cached_ranges
from vit_tactile_ros.evaluation.calibration import (
    BOUNDS,
    CONFIDENCE,
    FIT_SHARE,
    Drop,
    calibrate,
    measure_drop,
    split_samples,
)
from vit_tactile_ros.evaluation.figures import promise_figure, save_figure
from vit_tactile_ros.evaluation.metrics import expected_calibration_error
from vit_tactile_ros.evaluation.outputs import ExitOutputs, choose_exits
from vit_tactile_ros.evaluation.parts import add_data_arguments, load_parts
from vit_tactile_ros.evaluation.resampling import PromiseCheck, check_promise
from vit_tactile_ros.evaluation.risk import samples_needed
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.inference.runtime import select_device
from vit_tactile_ros.model import Calibration, load_checkpoint, save_checkpoint, shipped_checkpoint

EXAMPLES = (
    '--checkpoint runs/mine/checkpoint.safetensors --data touches',
    '--output calibrated.safetensors --size 2000',
    '--checkpoint runs/mine/checkpoint.safetensors --data touches --check 100',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('calibrate', __doc__, EXAMPLES)
    parser.add_argument('--checkpoint', type=Path, help='.safetensors file; none: the shipped one')
    parser.add_argument('--output', type=Path,
                        help='.safetensors file to write; none: the file of --checkpoint, replaced whole')
    parser.add_argument('--max_accuracy_drop', type=float, nargs='+', default=list(BOUNDS), metavar='BOUND',
                        help='bounds to store, shares of all images between 0 and 1 (0.005 is half a point)')
    parser.add_argument('--confidence', type=float, default=CONFIDENCE, help='of each promise, between 0 and 1')
    parser.add_argument('--recommend', type=float, default=0.001, metavar='BOUND',
                        help="the checkpoint's default tau becomes this bound's, or the next one's that could be shown")
    parser.add_argument('--check', type=int, default=0, metavar='N',
                        help='calibrate N times on resampled data and show how often the promise is kept; writes no '
                             'checkpoint')
    parser.add_argument('--plot', type=Path, default=Path('calibration_check.png'), help='PNG that --check draws')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N'")
    add_data_arguments(parser, 6000)
    arguments = parser.parse_args(argv)
    check_split_arguments(parser, arguments)
    for name in ('max_accuracy_drop', 'confidence', 'recommend'):
        value = getattr(arguments, name)
        if not all(0 < v < 1 for v in (value if isinstance(value, list) else [value])):
            parser.error(f'--{name} is {value}; must be above 0 and below 1')
    if not (arguments.checkpoint or arguments.output or arguments.check):
        parser.error('--output must name a file where --checkpoint names none: the shipped checkpoint stays as it is')
    if arguments.check < 0:
        parser.error(f'--check is {arguments.check}; must be at least 0')
    return arguments


@command('calibrate', stopped='stopped; nothing was written', failed='the checkpoint is as it was')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    torch.set_num_threads(1)
    path = arguments.checkpoint or shipped_checkpoint()
    checkpoint = load_checkpoint(path)
    output = (arguments.output or path).resolve()  # a link to a checkpoint stays one
    check_writable(arguments.plot if arguments.check else output)
    part = load_parts(arguments, checkpoint, 'validation')['validation']
    outputs = cached_outputs(arguments.cache, checkpoint, part, select_device(arguments.device), arguments.workers,
                             'validation data')
    console.print(f'{path.name} on {part.description}')
    if part.groups:
        groups = f'{part.groups} groups' if part.groups > 1 else 'a single group'
        console.print(f'These touches come from {groups} (objects, recordings, presses). The promise '
                      'takes them for independent samples of what is to come: with few groups it holds for touches '
                      'like these, not for new objects.', soft_wrap=True)
    bounds = sorted(set(arguments.max_accuracy_drop))
    if arguments.check:
        return _check(console, outputs, bounds, arguments)
    calibration = calibrate(outputs, bounds, arguments.confidence, arguments.seed, arguments.recommend)
    calibration = replace(calibration, activation_ranges=cached_ranges(arguments.cache, checkpoint, part))
    results = _report(console, outputs, calibration, arguments.seed)
    save_checkpoint(output, replace(checkpoint, calibration=calibration))
    console.print(f'wrote {output}; the node now takes max_accuracy_drop and precision int8, and tau is '
                  f'{calibration.tau:g} by default',
                  soft_wrap=True)
    if len(checkpoint.model.config.exits) > 1 and not any(kept.is_shown for kept in calibration.drops):
        console.print('None of the bounds could be shown with these samples, so every image goes the full depth until '
                      'you choose: give the node a tau (0.9, say; sweep shows what each costs).', soft_wrap=True)
    print(json.dumps({'checkpoint': str(output), 'data': part.description, 'calibration': asdict(calibration),
                      'bounds': results}))
    return 0


def _report(console: Console, outputs: ExitOutputs, calibration: Calibration, seed: int) -> list[dict[str, Any]]:
    """The tables of a calibration; the figures of each bound, for the JSON line."""
    _, indices = split_samples(len(outputs), seed)
    held = outputs.subset(indices)
    right, before = held.right, held.probabilities().max(axis=2)
    confidences = held.probabilities(calibration.temperatures).max(axis=2)
    table = Table('exit after block', 'accuracy', 'temperature', 'ECE before', 'ECE after',
                  title=f'{FIT_SHARE:.0%} of {len(outputs)} samples fit the temperatures, the other {len(held)} '
                        'are measured')
    for i, block in enumerate(outputs.exits):
        table.add_row(str(block), f'{right[i].mean():.4f}', f'{calibration.temperatures[i]:.3f}',
                      f'{expected_calibration_error(before[i], right[i]):.4f}', f'{calibration.ece[i]:.4f}')
    console.print(table)
    table = Table('max_accuracy_drop', 'tau', 'drop here', 'answers worse / better', 'compute', 'remark',
                  title=f'lowest tau whose accuracy drop is below the bound with {calibration.drops[0].confidence:.0%} '
                        'confidence')
    shares, rows = np.asarray(outputs.compute_shares), []
    for kept in calibration.drops:
        drop: Drop = measure_drop(confidences, right, kept.tau)
        chosen = choose_exits(confidences, kept.tau)
        needed = samples_needed(kept.max_accuracy_drop, 1 - kept.confidence)
        if kept.is_shown:
            remark = ''
        elif needed > len(held):
            remark = (f'not shown with {len(held)} samples, so nobody leaves early: it takes {needed} to test on, '
                      f'{int(np.ceil(needed / (1 - FIT_SHARE)))} in all')
        else:
            remark = 'not shown: even at the highest tau too many answers differ, so nobody leaves early'
        table.add_row(f'{kept.max_accuracy_drop:g}', f'{max(kept.tau, default=1.0):g}', f'{drop.mean:+.4f}',
                      f'{drop.worse} / {drop.better}', f'{shares[chosen].mean():.1%}', remark)
        rows.append({'max_accuracy_drop': kept.max_accuracy_drop, 'tau': list(kept.tau), 'shown': kept.is_shown,
                     'drop': drop.mean, 'worse': drop.worse, 'better': drop.better, 'samples': drop.num_samples,
                     'compute_share': float(shares[chosen].mean()), 'samples_needed': needed})
    console.print(table)
    return rows


def _check(console: Console, outputs: ExitOutputs, bounds: list[float], arguments: argparse.Namespace) -> int:
    checks = check_promise(outputs, bounds, arguments.confidence, arguments.check, arguments.seed, 'resampling')
    n = arguments.check
    table = Table('max_accuracy_drop', 'kept', 'kept on other half', 'mean drop', 'largest drop', 'compute', 'shown',
                  title=f'{n} calibrations, each on {len(outputs)} samples drawn from {len(outputs)} with replacement')
    for check in checks:
        table.add_row(f'{check.bound:g}', f'{check.kept}/{n}', f'{check.kept_on_rest}/{n}',
                      f'{np.mean(check.drops):+.4f}', f'{max(check.drops):+.4f}',
                      f'{check.compute_share:.1%}', f'{check.shown}/{n}')
    console.print(table)
    console.print('kept: the drop on the whole pool is within the bound; promised in at least '
                  f'{arguments.confidence:.0%}. kept on other half: calibrated on a random half, measured on the '
                  'other, with the noise of that measurement. shown: the samples sufficed to let anything leave early.',
                  soft_wrap=True)
    arguments.plot.parent.mkdir(parents=True, exist_ok=True)
    save_figure(promise_figure(checks, arguments.confidence), arguments.plot)
    console.print(f'wrote {arguments.plot}', soft_wrap=True)
    print(json.dumps({'check': [_summary(check) for check in checks], 'confidence': arguments.confidence,
                      'plot': str(arguments.plot)}))
    return 0


def _summary(check: PromiseCheck) -> dict[str, Any]:
    return {'max_accuracy_drop': check.bound, 'rounds': check.rounds, 'kept': check.kept,
            'kept_on_rest': check.kept_on_rest, 'shown': check.shown, 'mean_drop': float(np.mean(check.drops)),
            'largest_drop': max(check.drops), 'compute_share': check.compute_share}


if __name__ == '__main__':
    sys.exit(main())
