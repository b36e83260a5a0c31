"""The tables and the CSV of the benchmark."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from vit_tactile_ros.evaluation.benchmark.baselines import Baseline
from vit_tactile_ros.evaluation.benchmark.contest import Times
from vit_tactile_ros.evaluation.benchmark.stream import ALL
from vit_tactile_ros.foundation.files import written_whole


def table_of(title: str, *columns: str) -> Table:
    """Its first column names the line; the others hold numbers."""
    table = Table('', title=title, title_justify='left', box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify='right', no_wrap=True)
    return table


def print_batch(console: Console, times: Mapping[str, Times], shares: Mapping[int, float], exits: tuple[int, ...],
                title: str, baselines: Sequence[Baseline], tau: str, batch_size: int, engine: str) -> None:
    """One line for each workload; `shares` are matrix rates by the block of each exit."""
    names = {f'exit {i}': f'up to block {b}' for i, b in enumerate(exits)} | {
        'full': 'full depth', 'early': f'early exits, tau {tau}', 'softmax': 'softmax attention, full depth',
        'mixed': 'mixed exits', 'matrix': 'matrix products of one block'}
    for baseline in baselines:
        names |= {baseline.key: f'{baseline.name}, plain torch',
                  f'{baseline.key} compiled': f'{baseline.name}, torch.compile',
                  f'{baseline.key} engine': f'{baseline.name}, {engine}'}
    table = table_of(title, 'ms median', 'p99', 'n', 'over full', 'CPU s/1000', 'matrix rate')
    for key, t in times.items():
        if key.startswith('part '):
            continue
        share = f'{shares[exits[int(key[5:])]]:.0%}' if key.startswith('exit ') else ''
        table.add_row(names.get(key, key), f'{1e3 * t.p50:.2f}', f'{1e3 * t.p99:.2f}', str(t.n),
                      f'{t.p50 / times["full"].p50:.2f}', f'{t.cpu_of(1000, batch_size):.1f}', share)
    console.print(table)


def print_stream(console: Console, found: Mapping[str, Any], title: str) -> None:
    """`found` is that of `stream.summary`."""
    table = table_of(title, 'ms mean', 'median', 'p99', 'touched', 'untouched', 'CPU s/1000', 'all together')
    last = found['lines'][ALL]
    for name, line in found['lines'].items():
        columns = [line[key] for key in ('mean_ms', 'p50_ms', 'p99_ms', 'touched_ms', 'untouched_ms', 'cpu_s_per_1000')]
        table.add_row(name, *('-' if value is None else f'{value:.2f}' for value in columns),
                      f'{line["mean_ms"] / last["mean_ms"]:.2f} times')
    console.print(table)
    exits = ', '.join(f'{rate:.0%}' for rate in found['exit_rates'])
    console.print(f'{found["frames"]} frames of {found["clips"]} clips, {found["untouched_share"]:.0%} untouched '
                  f'({found["repeated_frames"]} frames played again for that); the gate takes '
                  f'{found["gate_share"]:.0%}, '
                  f'of the others {exits} exit at each exit, with {found["patches_kept"] or 0:.0%} of their patches'
                  + (f'; {found["unchanged_share"]:.0%} of all frames show the touch of the one before unchanged'
                     if found['unchanged_share'] is not None else '')
                  + '; each exits where the checkpoint does at its own image size' * found['exits_from_own_size'],
                  soft_wrap=True)
    for reason in found['skipped']:
        console.print(f'left out: {reason}', soft_wrap=True)
    for name, line in (found['predictions'] or {}).items():
        if line['same_class_touched'] is None:
            continue
        contact = ''
        if 'contact_right' in line:
            missed, false = (f'no {kind} frames' if value is None else f'{value:.4f} of the {kind} ones {told}'
                             for value, kind, told in ((line['missed'], 'touched', 'are missed'),
                                                       (line['false'], 'untouched', 'are false touches')))
            contact = (f'; contact or not is right for {line["contact_right"]:.4f} of the {line["frames"]} frames, '
                       f'each counted once: {missed}, {false}')
        console.print(f'{name}: {line["same_class_touched"]:.4f} of the touched frames get the class of the full depth'
                      + contact, soft_wrap=True)


def print_accuracy(console: Console, accuracy: Mapping[str, Any], title: str, tau: str) -> None:
    """`accuracy` is that of `compare_accuracy`."""
    table = table_of(title, 'accuracy', 'plain torch', 'points')
    lines = {f'exit after block {block}': line for block, line in accuracy['exits'].items()}
    for name, line in (lines | {f'early exits, tau {tau}': accuracy['early']}).items():
        table.add_row(name, f'{line["accuracy"]:.4f}', f'{line["plain"]:.4f}', f'{line["points"]:+.2f}')
    console.print(table)


def write_csv(path: Path, times: Mapping[str, Times], batches: Mapping[int, Times], own: Mapping[int, Times],
              softmax: Mapping[int, Times]) -> None:
    rows = [('batch', name, t) for name, t in times.items()]
    for kind, group in (('batch size', batches), ('tokens', own), ('tokens, softmax', softmax)):
        rows += [(kind, str(name), t) for name, t in group.items()]
    with written_whole(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['contest', 'name', 'p50_ms', 'p99_ms', 'mean_ms', 'n'])
        writer.writerows([kind, name, 1e3 * t.p50, 1e3 * t.p99, 1e3 * t.mean, t.n] for kind, name, t in rows)
