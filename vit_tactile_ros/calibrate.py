"""Fit the confidences and exit thresholds of a checkpoint to validation data.

Fits a temperature per exit. For each bound on the accuracy lost by early exits it chooses the lowest thresholds that
keep the bound with the given confidence. Both are stored in the checkpoint; the node then accepts `max_accuracy_drop`
instead of tau. The ranges of the activations are stored too; precision int8 needs them. If a class is named `unknown`,
its bias is first lowered, once for all exits and on all samples, until few enough touches of the other classes are
reported as unknown; to raise it again, calibrate the checkpoint of the training. With --token_threshold, everything is
fitted to the predictions on fewer patches, and stored with the threshold; with --zoom_below, to those on enlarged small
contacts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vit_tactile_ros import flags
from vit_tactile_ros.evaluation.cache import cached_outputs, cached_ranges, kept_share
from vit_tactile_ros.evaluation.calibration import (
    BOUNDS,
    CONFIDENCE,
    FIT_SHARE,
    Drop,
    calibrate,
    measure_drop,
    split_samples,
    tau_shown,
)
from vit_tactile_ros.evaluation.false_unknown import (
    MOST_FALSE,
    can_be_bounded,
    known_touches,
    predicted_unknown,
    shift,
    shift_for,
    shifted,
)
from vit_tactile_ros.evaluation.figures import promise_figure, save_figure
from vit_tactile_ros.evaluation.metrics import expected_calibration_error
from vit_tactile_ros.evaluation.outputs import ExitOutputs, choose_exits
from vit_tactile_ros.evaluation.parts import EvaluationData, load_parts
from vit_tactile_ros.evaluation.resampling import PromiseCheck, check_promise
from vit_tactile_ros.evaluation.risk import samples_needed
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.inference.runtime import select_device
from vit_tactile_ros.inference.touch_events import UNKNOWN
from vit_tactile_ros.model import (
    Calibration,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    shipped_checkpoint,
    thresholds,
    token_threshold,
)

EXAMPLES = (
    '--checkpoint runs/mine/checkpoint.safetensors --data touches',
    '--output calibrated.safetensors --size 2000',
    '--checkpoint runs/mine/checkpoint.safetensors --data touches --check 100',
)


@dataclass(frozen=True)
class CalibrationRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    output: Path | None = flag(
        None, '.safetensors file to write; default: overwrite --checkpoint (atomically)')
    max_accuracy_drop: tuple[float, ...] = flag(
        BOUNDS, 'bounds on the accuracy drop to store, each above 0 and below 1 (0.005: half a percentage '
                'point)', 'BOUND')
    confidence: float = flag(CONFIDENCE, 'confidence with which each bound holds, above 0 and below 1')
    recommend: float = flag(0.001, 'sets the default tau from the largest verified bound up to this one, otherwise '
                                   'from the strictest verified bound; at least 0.5', 'BOUND')
    max_false_unknown: float = flag(
        MOST_FALSE, 'bound on the share of touches of other classes that are reported as the class unknown, above 0; '
                    'holds with --confidence; 1: its bias is not changed', 'SHARE')
    token_threshold: float | None = flag(None, f"{flags.TOKEN_THRESHOLD}; default: the checkpoint's")
    zoom_below: float | None = flag(None, f"{flags.ZOOM_BELOW}; default: the checkpoint's")
    check: int = flag(0, 'calibrate N times on resampled data and report how often each bound holds; writes no '
                         'checkpoint', 'N')
    plot: Path = flag(Path('calibration_check.png'), 'PNG that --check writes')
    device: str = flag('auto', flags.DEVICE)
    data: EvaluationData = EvaluationData(size=6000)

    def __post_init__(self) -> None:
        if not 0 < self.max_false_unknown <= 1:
            raise UserError(f'max_false_unknown is {self.max_false_unknown}; must be above 0, and at most 1 (off)')
        for name in ('max_accuracy_drop', 'confidence', 'recommend'):
            value = getattr(self, name)
            for share in value if isinstance(value, tuple) else (value,):
                if not 0 < share < 1:
                    raise UserError(f'{name} is {share}; must be above 0 and below 1')
        if not (self.checkpoint or self.output or self.check):
            raise UserError('output must name a file if --checkpoint does not: the shipped checkpoint is not changed')
        check_least(self, check=0)


def parse_arguments(argv: list[str] | None = None) -> CalibrationRequest:
    return flags.parse('calibrate', __doc__, EXAMPLES, CalibrationRequest, argv)


@command('calibrate', stopped='stopped; nothing was written', failed='the checkpoint is as it was')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    torch.set_num_threads(1)
    path = request.checkpoint or shipped_checkpoint()
    checkpoint = load_checkpoint(path)
    if request.token_threshold is not None:
        threshold = token_threshold(request.token_threshold, checkpoint.preprocessing)
        checkpoint = replace(checkpoint, model=checkpoint.model.changed(token_threshold=threshold))
    if request.zoom_below is not None:
        checkpoint = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, zoom_below=request.zoom_below))
    output = (request.output or path).resolve()  # a link to a checkpoint stays a link
    check_writable(request.plot if request.check else output)
    part = load_parts(request.data, checkpoint, 'validation')['validation']
    outputs = cached_outputs(request.data.cache, checkpoint, part, select_device(request.device), request.data.workers,
                             'validation data')
    console.print(f'{path.name} on {part.description}')
    if part.groups:
        groups = f'{part.groups} groups' if part.groups > 1 else 'a single group'
        console.print(f'These images come from {groups} (objects, recordings, presses). The bounds assume independent '
                      'samples: with few groups they hold for touches like these, not for new objects.',
                      soft_wrap=True)
    kept = kept_share(checkpoint, part)
    if grey_levels := _token_threshold(checkpoint):
        console.print(f'token_threshold {grey_levels:g}: the network computes the patches that differ from the '
                      f'reference by more than {grey_levels:g} grey levels and a grid of the others, on these images '
                      f'{kept:.0%} of all patches. "compute" below counts all patches.', soft_wrap=True)
    flags_of_unknown = None
    if request.max_false_unknown < 1 and can_be_bounded(outputs):
        outputs, flags_of_unknown = _bound_unknown(console, outputs, checkpoint, request)
    bounds = sorted(set(request.max_accuracy_drop))
    if request.check:
        return _check(console, outputs, bounds, request)
    calibration = calibrate(outputs, bounds, request.confidence, request.data.seed, request.recommend)
    calibration = replace(calibration, activation_ranges=cached_ranges(request.data.cache, checkpoint, part))
    results = _report(console, outputs, calibration, request.data.seed)
    save_checkpoint(output, replace(checkpoint, calibration=calibration))
    console.print(f'wrote {output}; the node now accepts max_accuracy_drop and precision int8, and the default tau is '
                  f'{calibration.tau:g}', soft_wrap=True)
    if len(checkpoint.model.config.exits) > 1 and calibration.tau >= 1:
        which = 'one tau for all exits' if any(kept.is_shown for kept in calibration.drops) else 'any threshold'
        console.print(f'None of the bounds could be verified with {which} on these samples, so every image runs at '
                      'full depth until you give the node a tau, for instance 0.9; sweep reports the accuracy of each.',
                      soft_wrap=True)
    print(json.dumps(_short({
        'checkpoint': str(output), 'data': part.description, 'calibration': asdict(calibration), 'bounds': results,
        'token_threshold': grey_levels, 'kept_share': kept,
        **({'unknown': flags_of_unknown} if flags_of_unknown else {})})))
    return 0


def _token_threshold(checkpoint: Checkpoint) -> float:
    """In grey levels, as --token_threshold gives it; 0: all patches."""
    return round(checkpoint.model.config.token_threshold * 255 * max(checkpoint.preprocessing.std), 4)


def _short(value: Any) -> Any:
    """With 4 digits of each number: the line is for people and scripts, and the checkpoint has them in full."""
    if isinstance(value, float):
        return float(f'{value:.4g}')
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, (list, tuple)) else value


def _bound_unknown(console: Console, outputs: ExitOutputs, checkpoint: Checkpoint, request: CalibrationRequest,
                   ) -> tuple[ExitOutputs, dict[str, Any]]:
    """Lower the bias of the class unknown where needed, in place; the outputs after it, and the figures."""
    known, is_unknown = known_touches(outputs), outputs.labels == checkpoint.class_names.index(UNKNOWN)
    found = shift_for(outputs, request.max_false_unknown, request.confidence)
    if found is None:
        console.print(f'unknown: {known.sum()} touches of other classes are too few to bound how many are reported as '
                      'unknown; its bias was not changed', soft_wrap=True)
    else:
        shift(checkpoint.model, checkpoint.class_names, found)
        outputs = shifted(outputs, found)
        bound = (f'at most {request.max_false_unknown:.1%} of the touches of other classes are reported as unknown at '
                 f'any exit, with {request.confidence:.0%} confidence')
        told = f'lowering its bias by {-found:.2f}' if found else 'its bias as it is'
        console.print(f'unknown: with {told}, {bound}', soft_wrap=True)
    reported = predicted_unknown(outputs)
    table = Table('exit after block', 'touches of other classes', 'touches of unknown objects',
                  title=f'reported as unknown, of {known.sum()} and {is_unknown.sum()}')
    rows = []
    for name, flagged in [*zip(map(str, outputs.exits), reported, strict=True), ('any', reported.any(axis=0))]:
        row = {'exit': name, 'false': float(flagged[known].mean()),
               'found': float(flagged[is_unknown].mean()) if is_unknown.any() else None}
        table.add_row(name, f'{row["false"]:.1%}', '' if row['found'] is None else f'{row["found"]:.1%}')
        rows.append(row)
    console.print(table)
    return outputs, {'bound': request.max_false_unknown, 'holds': found is not None, 'shift': found or 0.0,
                     'known': int(known.sum()), 'unknown': int(is_unknown.sum()), 'exits': rows}


def _report(console: Console, outputs: ExitOutputs, calibration: Calibration, seed: int) -> list[dict[str, Any]]:
    """Print the tables of a calibration; returns the figures of each bound, for the JSON line."""
    _, indices = split_samples(len(outputs), seed)
    held = outputs.subset(indices)
    right, before = held.right, held.probabilities().max(axis=2)
    scores = held.scores(calibration.temperatures)
    table = Table('exit after block', 'accuracy', 'temperature', 'ECE before', 'ECE after',
                  title=f'{FIT_SHARE:.0%} of {len(outputs)} samples fit the temperatures, the other {len(held)} '
                        'are measured')
    for i, block in enumerate(outputs.exits):
        table.add_row(str(block), f'{right[i].mean():.4f}', f'{calibration.temperatures[i]:.3f}',
                      f'{expected_calibration_error(before[i], right[i]):.4f}', f'{calibration.ece[i]:.4f}')
    console.print(table)
    table = Table('max_accuracy_drop', 'tau', 'drop here', 'predictions worse / better', 'compute', 'remark',
                  title='lowest thresholds whose accuracy drop is below the bound with '
                        f'{calibration.drops[0].confidence:.0%} confidence')
    shares, rows = np.asarray(outputs.compute_shares), []

    def add(name: str, tau: tuple[float, ...], remark: str) -> tuple[Drop, float]:
        drop = measure_drop(scores, right, tau)
        compute = float(shares[choose_exits(scores, tau)].mean())
        table.add_row(name, tau_shown(tau), f'{drop.mean:+.4f}', f'{drop.worse} / {drop.better}', f'{compute:.1%}',
                      remark)
        return drop, compute

    for kept in calibration.drops:
        needed = samples_needed(kept.max_accuracy_drop, 1 - kept.confidence)
        if kept.is_shown:
            remark = ''
        elif needed > len(held):
            remark = (f'not verified with {len(held)} samples, so early exit is off: needs {needed} for the test, '
                      f'{int(np.ceil(needed / (1 - FIT_SHARE)))} in all')
        else:
            remark = 'not verified: too many predictions differ even at the highest tau, so early exit is off'
        drop, compute = add(f'{kept.max_accuracy_drop:g}', kept.tau, remark)
        rows.append({'max_accuracy_drop': kept.max_accuracy_drop, 'tau': list(kept.tau), 'shown': kept.is_shown,
                     'drop': drop.mean, 'worse': drop.worse, 'better': drop.better, 'samples': drop.num_samples,
                     'compute_share': compute, 'samples_needed': needed})
    if len(outputs.exits) > 1:
        add('without it', thresholds(calibration.tau, len(outputs.exits)), 'default tau, one for all exits')
    console.print(table)
    return rows


def _check(console: Console, outputs: ExitOutputs, bounds: list[float], request: CalibrationRequest) -> int:
    checks = check_promise(outputs, bounds, request.confidence, request.check, request.data.seed, 'resampling')
    n = request.check
    table = Table('max_accuracy_drop', 'kept', 'kept on other half', 'mean drop', 'largest drop', 'compute', 'verified',
                  title=f'{n} calibrations, each on {len(outputs)} samples drawn from {len(outputs)} with replacement')
    for check in checks:
        table.add_row(f'{check.bound:g}', f'{check.kept}/{n}', f'{check.kept_on_rest}/{n}',
                      f'{np.mean(check.drops):+.4f}', f'{max(check.drops):+.4f}',
                      f'{check.compute_share:.1%}', f'{check.shown}/{n}')
    console.print(table)
    console.print('kept: the drop on all samples is within the bound; expected in at least '
                  f'{request.confidence:.0%}. kept on other half: calibrated on a random half, measured on the '
                  'other, with the noise of that measurement. verified: there were enough samples for early exits.',
                  soft_wrap=True)
    request.plot.parent.mkdir(parents=True, exist_ok=True)
    save_figure(promise_figure(checks, request.confidence), request.plot)
    console.print(f'wrote {request.plot}', soft_wrap=True)
    print(json.dumps({'check': [_summary(check) for check in checks], 'confidence': request.confidence,
                      'plot': str(request.plot)}))
    return 0


def _summary(check: PromiseCheck) -> dict[str, Any]:
    return {'max_accuracy_drop': check.bound, 'rounds': check.rounds, 'kept': check.kept,
            'kept_on_rest': check.kept_on_rest, 'shown': check.shown, 'mean_drop': float(np.mean(check.drops)),
            'largest_drop': max(check.drops), 'compute_share': check.compute_share}


if __name__ == '__main__':
    sys.exit(main())
