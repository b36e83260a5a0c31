"""Shapes and slip side by side, as reflex.launch.py starts them: processor time, threads and memory of each node.

    python tools/measure_two_nodes.py [--seconds 30]

The nodes of the shapes alone, of slip alone, and both together get the same images at 30 Hz over DDS: a simulated gel
that is touched about two thirds of the time. Processor time is that of all threads of a node's process, per 1,000
images that it classified, so other work on the machine hardly changes it. Memory is what is resident at the end.
Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.live.node_process import START_TIMEOUT, NodeProcess
from vit_tactile_ros.ros.run import fastest_executor

sys.path.insert(0, str(Path(__file__).parent))
from measure_many_sensors import NAMESPACE, processor, start_publisher
from measure_transport import SETTLE, spin, watch

MODELS = Path(__file__).resolve().parents[1] / 'models'
RATE = 30.0
SHAPES, SLIP = 'shapes', 'slip'
TOPICS = {SHAPES: 'tactile', SLIP: 'slip/tactile'}
REMAPPED = ('-r', '__node:=slip_detector', '-r', 'tactile:=slip/tactile', '-r', 'touch_event:=slip/touch_event')
TICKS = os.sysconf('SC_CLK_TCK')


@contextlib.contextmanager
def started(checkpoints: dict[str, Path], folder: Path) -> Iterator[dict[str, NodeProcess]]:
    """Active nodes by kind, as reflex.launch.py starts them: at the same time."""
    nodes = {kind: NodeProcess(kind, NAMESPACE, {'checkpoint': str(checkpoint), 'silence_timeout': 3600.0},
                               folder / kind, arguments=REMAPPED if kind == SLIP else ())
             for kind, checkpoint in checkpoints.items()}
    with contextlib.ExitStack() as running:
        with ThreadPoolExecutor() as pool:
            entered = [pool.submit(running.enter_context, node) for node in nodes.values()]
        for one in entered:
            one.result()
        yield nodes


def wait_matched(observer: Node, topics: Iterable[str]) -> None:
    """Until the observer sees a publisher of each topic."""
    end = time.monotonic() + START_TIMEOUT
    while missing := [topic for topic in topics if not observer.count_publishers(topic)]:
        if time.monotonic() > end:
            raise RunError(f'no node publishes {", ".join(missing)} within {START_TIMEOUT:g} s')
        time.sleep(0.05)
    time.sleep(SETTLE)  # a topic is visible before its endpoints are connected


def spent(process: NodeProcess) -> float:
    """s of processor time, of all threads."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def state(process: NodeProcess) -> dict[str, int]:
    lines = dict(line.split(':', 1) for line in Path(f'/proc/{process.pid}/status').read_text().splitlines())
    return {'threads': int(lines['Threads']), 'MB': round(int(lines['VmRSS'].split()[0]) / 1024)}


def measure(checkpoints: dict[str, Path], seconds: float) -> dict[str, Any]:
    """By kind of node, all of which run at the same time."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, started(checkpoints, Path(folder)) as nodes:
        observer = rclpy.create_node('observer', namespace=NAMESPACE)
        executor = fastest_executor()
        executor.add_node(observer)
        for kind in nodes:
            observer.create_subscription(TactileClassification, TOPICS[kind],
                                         lambda _result, kind=kind: counts.update([kind]), 100)
        wait_matched(observer, [TOPICS[kind] for kind in nodes])
        publisher = start_publisher(1, RATE, seconds)
        before = {kind: spent(process) for kind, process in nodes.items()}
        watch(publisher, executor)
        spin(executor, SETTLE)
        if silent := [kind for kind in nodes if not counts[kind]]:
            raise RunError(f'{" and ".join(silent)}: 0 results of {round(RATE * seconds)} images; must be at least 1')
        found = {kind: {'results': counts[kind],
                        'CPU s per 1,000': round(1000 * (spent(process) - before[kind]) / counts[kind], 2),
                        **state(process)} for kind, process in nodes.items()}
        executor.shutdown()
        observer.destroy_node()
    return {'sent': round(RATE * seconds), **found}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=30.0, help='s of each measurement, 1 or more (default: 30)')
    parser.add_argument('--shapes', type=Path, default=MODELS / 'tactile_shapes.safetensors', help='checkpoint')
    parser.add_argument('--slip', type=Path, default=MODELS / 'tactile_slip.safetensors', help='checkpoint of states')
    parser.add_argument('--skip_alone', action='store_true', help='measure both together only')
    arguments = parser.parse_args(argv)
    if arguments.seconds < 1:
        parser.error(f'--seconds is {arguments.seconds:g}; must be at least 1')
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
