"""Faults on a real node, row by row, then mixed for hours: python tools/soak.py

Starts the node as a user does and speaks to it over DDS. Writes docs/faults.md with --page. Exit status 1 if the node
did something wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'test' / 'helpers'), str(ROOT / 'tools')]  # PYTHONSAFEPATH excludes the script's folder

import rclpy  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402

from vit_tactile_ros.model import shipped_checkpoint  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', type=Path, default=shipped_checkpoint(), help='default: the shipped one')
    parser.add_argument('--rows', nargs='*', default=None, help='only rows whose name contains one of these words')
    parser.add_argument('--page', type=Path, help='write the table of the rows to this file')
    arguments = parser.parse_args(argv)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))

    from faults import page, rows
    from faults.bench import Bench
    from faults.scene import Scene
    from faults.suite import run
    from live_nodes import Client

    rclpy.init()
    client = Client()
    executor = SingleThreadedExecutor()
    executor.add_node(client)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass

    threading.Thread(target=spin, daemon=True).start()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(client, Path(folder), arguments.checkpoint, Scene())
        try:
            for fault in rows.chosen(arguments.rows):
                if not fault.is_own and not bench.is_alive:
                    bench.start()
                begun = time.monotonic()
                measured = run(bench, fault)
                found.append(measured)
                print(f'{"FAIL" if measured.problems else "ok  "} {fault.name} ({time.monotonic() - begun:.1f} s): '
                      f'{measured.did} | {measured.log} | {measured.diagnostics} | {measured.seconds:.2f} s, '
                      f'{measured.frames} frames', flush=True)
                for problem in measured.problems:
                    print(f'       {problem}', flush=True)
                if measured.problems:
                    bench.stop()
        finally:
            bench.stop()
    rclpy.try_shutdown()
    if arguments.page is not None:
        arguments.page.write_text(page.written(found), encoding='utf-8')
    failed = [measured for measured in found if measured.problems]
    print(f'{len(found)} rows, {len(failed)} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
