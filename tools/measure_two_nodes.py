"""Shapes and slip side by side, as reflex.launch.py starts them: processor time, threads and memory of each node.

    python tools/measure_two_nodes.py [--seconds 30]

The nodes of the shapes alone, of slip alone, and both together get the same images at 30 Hz over DDS: a simulated gel
that is touched about 80 % of the time. Processor time is that of all threads of a node's process, per 1,000 images that
it classified, so other work on the machine hardly changes it. Memory is what is resident at the end. Prints a table;
the last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rclpy

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.live.node_process import START_TIMEOUT, launched, wait_all
from vit_tactile_ros.ros.run import fastest_executor

sys.path.insert(0, str(Path(__file__).parent))
from measure_many_sensors import NAMESPACE, processor
from measure_transport import SETTLE

MODELS = Path(__file__).resolve().parents[1] / 'models'
RATE = 30.0
SHAPES, SLIP = 'shapes', 'slip'
TICKS = os.sysconf('SC_CLK_TCK')


@contextlib.contextmanager
def node(kind: str, checkpoint: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """As of reflex.launch.py: the outputs of slip are below slip/."""
    others = ['-r', '__node:=slip_detector', *(part for topic in ('tactile', 'touch_event') for part in (
        '-r', f'{topic}:=slip/{topic}'))] if kind == SLIP else []
    log = folder / f'{kind}.log'
    process = launched('classifier_node', ['--ros-args', '-r', f'__ns:={NAMESPACE}', *others, '-p',
                                           f'checkpoint:={checkpoint}', '-p', 'silence_timeout:=3600.0'], log)
    try:
        end = time.monotonic() + START_TIMEOUT
        while 'active, waiting for images' not in (text := log.read_text(errors='replace')):
            if process.poll() is not None or time.monotonic() > end:
                raise RunError(f'{kind}: the node is not active: {text[-500:]}')
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        wait_all([process])


def spent(process: subprocess.Popen[bytes]) -> float:
    """s of processor time, of all threads."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def state(process: subprocess.Popen[bytes]) -> dict[str, int]:
    lines = dict(line.split(':', 1) for line in Path(f'/proc/{process.pid}/status').read_text().splitlines())
    return {'threads': int(lines['Threads']), 'MB': round(int(lines['VmRSS'].split()[0]) / 1024)}


def measure(checkpoints: dict[str, Path], seconds: float) -> dict[str, Any]:
    """By kind of node, all of which run at the same time."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        nodes = {kind: stack.enter_context(node(kind, path, Path(folder))) for kind, path in checkpoints.items()}
        observer = rclpy.create_node('observer', namespace=NAMESPACE)
        executor = fastest_executor()
        executor.add_node(observer)
        for kind in nodes:
            observer.create_subscription(TactileClassification, 'tactile' if kind == SHAPES else 'slip/tactile',
                                         lambda _result, kind=kind: counts.update([kind]), 100)
        publisher = subprocess.Popen([sys.executable, str(Path(__file__).parent / 'measure_many_sensors.py'),
                                      '--publish', '1', str(RATE), str(seconds)])
        before = {kind: spent(process) for kind, process in nodes.items()}
        try:
            while publisher.poll() is None:
                executor.spin_once(timeout_sec=0.2)
        finally:
            publisher.terminate()
            wait_all([publisher])
        end = time.monotonic() + SETTLE
        while (left := end - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left)
        found = {kind: {'results': counts[kind],
                        'CPU s per 1,000': round(1000 * (spent(process) - before[kind]) / max(counts[kind], 1), 2),
                        **state(process)} for kind, process in nodes.items()}
        executor.shutdown()
        observer.destroy_node()
    return {'sent': round(RATE * seconds), **found}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=30.0, help='s of each measurement (default: 30)')
    parser.add_argument('--shapes', type=Path, default=MODELS / 'tactile_shapes.safetensors', help='checkpoint')
    parser.add_argument('--slip', type=Path, default=MODELS / 'tactile_slip.safetensors', help='checkpoint of states')
    parser.add_argument('--skip_alone', action='store_true', help='measure both together only')
    arguments = parser.parse_args(argv)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    both = {SHAPES: arguments.shapes.absolute(), SLIP: arguments.slip.absolute()}
    rclpy.init()
    try:
        found = {' and '.join(kinds): measure({kind: both[kind] for kind in kinds}, arguments.seconds)
                 for kinds in ((SHAPES,), (SLIP,), (SHAPES, SLIP))[2 if arguments.skip_alone else 0:]}
    finally:
        rclpy.try_shutdown()
    print(processor())
    for name, row in found.items():
        print(name, row)
    print(json.dumps(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
