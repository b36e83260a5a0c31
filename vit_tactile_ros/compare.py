"""Compare two replays of the same bags.

A and B are output folders of replay with two checkpoints or two settings; the network does not run again. Differences
are B minus A, with intervals from a bootstrap over touches, because the frames of one touch are nearly identical. To
compare two values of tau, one replay is enough, because it stores the outputs of all exits:
`compare runs/a runs/a --tau_b 0.9`.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from vit_tactile_ros import flags
from vit_tactile_ros.evaluation.figures import comparison_figure, save_figure
from vit_tactile_ros.evaluation.recordings.alignment import align, answers_of
from vit_tactile_ros.evaluation.recordings.comparison import FEW_TOUCHES, Comparison, Estimate, compare
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.foundation.files import check_folder_writable

FRAMES = 'frames.csv'
FIGURE = 'comparison.png'
EXAMPLES = (
    'runs/replay_shipped runs/replay_mine --output runs/comparison',
    'runs/replay runs/replay --tau_b 0.9',
)


@dataclass(frozen=True)
class CompareRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    a: Path = flag(REQUIRED, f'output folder of a replay, or its {FRAMES}', 'A', is_positional=True)
    b: Path = flag(REQUIRED, f'output folder of a replay, or its {FRAMES}', 'B', is_positional=True)
    tau_a: tuple[float, ...] = flag((), 'threshold for A instead of that of the replay; times are omitted', 'TAU')
    tau_b: tuple[float, ...] = flag((), 'threshold for B instead of that of the replay; times are omitted', 'TAU')
    resamples: int = flag(2000, 'number of draws of the bootstrap')
    confidence: float = flag(0.95, 'confidence of the intervals, above 0 and below 1')
    seed: int = flag(0, 'seed of the draws')
    output: Path | None = flag(None, f'folder for {FIGURE}; default: no figure')

    def __post_init__(self) -> None:
        check_least(self, resamples=100, seed=0)
        if not 0 < self.confidence < 1:
            raise UserError(f'confidence is {self.confidence}; must be above 0 and below 1')


def parse_arguments(argv: list[str] | None = None) -> CompareRequest:
    return flags.parse('compare', __doc__, EXAMPLES, CompareRequest, argv)


def read_frames(path: Path, tau: tuple[float, ...] = ()) -> FrameTable:
    """The table of a replay; raises UserError for another file, and for a wrong tau."""
    file = path / FRAMES if path.is_dir() else path
    if not file.is_file():
        raise UserError(f'{file} does not exist; must be the output folder of a replay, or its {FRAMES}')
    table = FrameTable.read_csv(file)
    return table.decided(tau if len(tau) > 1 else tau[0]) if tau else table


@command('compare')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    if request.output:
        check_folder_writable(request.output)
    a, b = align(read_frames(request.a, request.tau_a), read_frames(request.b, request.tau_b))
    found = compare(answers_of(a), answers_of(b), a.label, a.touch, len(a.class_names),
                    resamples=request.resamples, confidence=request.confidence, seed=request.seed)
    _print(Console(width=None if sys.stdout.isatty() else 120), request, a, b, found)
    if request.output and found.touches:
        save_figure(comparison_figure(found, a.class_names, _name(request.a, a), _name(request.b, b)),
                    request.output / FIGURE)
        print(f'wrote {FIGURE} to {request.output}')
    recalls = {a.class_names[c]: asdict(estimate) for c, estimate in found.recalls.items()}
    print(json.dumps(_without_nan({
        'a': str(request.a), 'b': str(request.b), 'tau_a': a.tau, 'tau_b': b.tau, 'all_frames': len(a),
        **asdict(found), 'recalls': recalls, 'few_touches': found.touches < FEW_TOUCHES, 'seed': request.seed})))
    return 0


def _print(console: Console, request: CompareRequest, a: FrameTable, b: FrameTable, found: Comparison) -> None:
    console.print(f'A: {_name(request.a, a)}\nB: {_name(request.b, b)}', soft_wrap=True, highlight=False)
    names = {'agreement': 'equal predictions', 'accuracy_a': 'accuracy A', 'accuracy_b': 'accuracy B',
             'accuracy': 'accuracy, B - A', 'balanced_accuracy': 'balanced accuracy, B - A',
             'compute_a': 'compute A, of its full depth', 'compute_b': 'compute B, of its full depth',
             'compute': 'compute, B - A', 'latency_a': 'network time A', 'latency_b': 'network time B',
             'latency': 'network time, B - A', 'latency_ratio': 'network time, B / A'}
    percent = f'{100 * found.confidence:g} %'
    table = Table(title=f'{found.frames} {"labelled " if found.touches else ""}frames' +
                  (f' of {found.touches} touches' if found.touches else ''), title_justify='left', box=box.SIMPLE_HEAD)
    for column in ('', 'value', *((f'{percent} interval',) if found.touches else ())):
        table.add_column(column, justify='left' if not column else 'right', no_wrap=True)
    for key, name in names.items():
        if (estimate := found.estimates.get(key)) and not math.isnan(estimate.value):
            table.add_row(name, *_shown(key, estimate)[:1 + bool(found.touches)])
    for c, estimate in found.recalls.items():
        table.add_row(f'recall of {a.class_names[c]}, B - A', *_shown('recall', estimate))
    console.print(table)
    if not found.touches:
        console.print('no frame has a label: only agreement, compute and time are reported, without intervals')
        return
    frames, touches = found.frame_counts, found.touch_counts
    console.print(f'frames: {frames["both_right"]} both right, {frames["only_a"]} only A, {frames["only_b"]} only B, '
                  f'{frames["both_wrong"]} both wrong')
    console.print(f'touches: A is better in {touches["better_a"]}, B in {touches["better_b"]}, equal in '
                  f'{touches["equal"]}; sign test p = {found.sign_p_value:.3g}')
    if len(a) > found.frames:
        console.print(f'{len(a) - found.frames} frames without a label are ignored')
    if found.touches < FEW_TOUCHES:
        print(f'compare: warning: {found.touches} touches are few: the intervals are too narrow below about '
              f'{FEW_TOUCHES}; label more', file=sys.stderr)


def _shown(key: str, estimate: Estimate) -> tuple[str, str]:
    def show(value: float) -> str:
        if key == 'latency_ratio':
            return f'{value:.3f}'
        if key.startswith('latency'):
            return f'{1e3 * value:{"+" if key == "latency" else ""}.3f} ms'
        if key in ('compute', 'accuracy', 'balanced_accuracy', 'recall'):
            return f'{100 * value:+.2f} points'
        return f'{100 * value:.2f} %'
    return show(estimate.value), estimate.interval(show)


def _name(path: Path, table: FrameTable) -> str:
    return f'{path}, tau {", ".join(f"{t:g}" for t in dict.fromkeys(table.tau)) or "1"}'


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == '__main__':
    sys.exit(main())
