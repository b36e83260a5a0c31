"""Faults on a real node, row by row, then mixed for hours: python tools/soak.py

Starts the node as a user does and speaks to it over DDS. Exit status 1 if the node did something wrong; in a soak also
if its memory grows by more than 1 % after the warm-up, or its handles or threads grow.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'test' / 'helpers'), str(ROOT / 'tools')]  # PYTHONSAFEPATH excludes the script's folder

from faults import mixed, page, rows, suite  # noqa: E402
from faults.bench import Bench  # noqa: E402
from faults.scene import Scene  # noqa: E402
from live_nodes import spinning_client  # noqa: E402
from ros_domain import claimed_domain  # noqa: E402

from vit_tactile_ros.model import shipped_checkpoint  # noqa: E402
from vit_tactile_ros.ros.transport import publisher_profile  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', type=Path, default=shipped_checkpoint(), help='default: the shipped one')
    parser.add_argument('--rows', nargs='*', default=None, help='only rows whose name contains one of these words')
    parser.add_argument('--from', dest='first', default='', help='only this row and those after it')
    parser.add_argument('--page', type=Path, help='write the rows that passed into the table of this file')
    parser.add_argument('--minutes', type=float, default=0.0, help='instead of the rows: random faults for so long')
    parser.add_argument('--soak_page', type=Path, help='write the result of --minutes, with a figure, to this file')
    parser.add_argument('--seed', type=int, default=0, help='of the random faults')
    arguments = parser.parse_args(argv)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    if 'ROS_DOMAIN_ID' not in os.environ:
        os.environ['ROS_DOMAIN_ID'] = claimed_domain()

    with tempfile.TemporaryDirectory() as folder, spinning_client(publisher_profile()) as client:
        bench = Bench(client, Path(folder), arguments.checkpoint, Scene())
        try:
            problems = soak(bench, arguments) if arguments.minutes else run_rows(bench, arguments)
        finally:
            bench.stop()
    return 1 if problems else 0


def run_rows(bench: Bench, arguments: argparse.Namespace) -> int:
    """The number of rows that failed."""
    found = []
    for fault in rows.chosen(arguments.rows, arguments.first):
        begun = time.monotonic()
        measured = suite.run(bench, fault)
        found.append(measured)
        print(f'{"FAIL" if measured.problems else "ok  "} {fault.name} ({time.monotonic() - begun:.1f} s): '
              f'{measured.did} | {measured.log} | {measured.diagnostics} | {measured.seconds:.2f} s, '
              f'{measured.frames} images', flush=True)
        for problem in measured.problems:
            print(f'       {problem}', flush=True)
        if measured.problems:
            if bench.node is not None:
                print(bench.node.output[-2000:], flush=True)
            bench.stop()
        if arguments.page is not None:  # also of a run that is ended early
            before = arguments.page.read_text(encoding='utf-8') if arguments.page.exists() else ''
            names = [row.name for row in rows.chosen()]
            arguments.page.write_text(page.written(found, names, before), encoding='utf-8')
    failed = sum(bool(measured.problems) for measured in found)
    print(f'{len(found)} rows, {failed} failed')
    return failed


def soak(bench: Bench, arguments: argparse.Namespace) -> list[str]:
    """What went wrong."""
    seconds = 60 * arguments.minutes
    target = arguments.soak_page or ROOT / 'build' / 'soak' / 'soak.md'
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = ROOT / 'build' / 'soak' / 'soak.jsonl'
    lines.parent.mkdir(parents=True, exist_ok=True)
    lines.unlink(missing_ok=True)
    record = mixed.Soak(bench, lines, arguments.seed).run(seconds)
    if record.samples and record.minutes:
        mixed.figure(record, target.with_suffix('.svg'))
        target.write_text(mixed.page(record, seconds, target.with_suffix('.svg').name), encoding='utf-8')
    for problem in record.problems:
        print(f'FAIL {problem}')
    print(f'{arguments.minutes:g} minutes, {record.faults} faults, {record.requests} requests, '
          f'{len(record.problems)} problems; {lines}')
    return record.problems


if __name__ == '__main__':
    sys.exit(main())
