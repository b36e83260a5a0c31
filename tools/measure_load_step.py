"""A latency budget under a step of load: when results are inside it again, what tau did, and what that cost.

    python tools/measure_load_step.py [--budget 0.05] [--tau 0.95]

For each variant the real node classifies a simulated gel at 30 Hz over DDS, touched about two thirds of the time. For
a while nothing else runs, then one busy loop per core, then nothing again. Variants: `without` a budget; `with` it;
and `first exit` with tau 0, so that every image exits at the first head: the lower bound for any tau; `preferred` with
the budget, and the loops at a niceness of 10 more than the node. Back inside: seconds after the step from which on the
99th percentile of all results until the end of the load is within the budget. Accuracy: share of the results with the
class that touches. Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.inference.gate import GATE_EXIT_BLOCK
from vit_tactile_ros.inference.touch_events import NO_CONTACT
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.live.node_process import NodeProcess, wait_all

sys.path.insert(0, str(Path(__file__).parent))
from measure_many_sensors import FRAMES, NAMESPACE, UNTOUCHED, processor, scene, start_publisher
from measure_transport import SETTLE, Observer, check_sent
from titled_rows import TitledRows

RATE = 30.0
QUIET, LOADED = 'before the load', 'under load'
BUSY = 'import os, sys; os.nice(int(sys.argv[1]))\nwhile True: pass'


def labels() -> list[str]:
    """The class of each frame that `measure_many_sensors.py --publish` sends."""
    return [NO_CONTACT if contact is None else contact.class_name for contact in scene()[1]]


class Results(Observer):
    """Keeps of every result: the stamp of its image, its age when it is received, tau, block and class."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, int, str]] = []
        super().__init__(1, NAMESPACE)

    def _on_result(self, result: TactileClassification) -> None:
        super()._on_result(result)
        stamp = result.header.stamp.sec + result.header.stamp.nanosec / 1e9
        self.rows.append((stamp, self.ages[-1], max(result.tau), result.exit_block, result.class_name))


def measure(parameters: dict[str, Any], seconds: float, budget: float, niceness: int = 0) -> dict[str, Any]:
    """One variant: `seconds` of quiet, twice that of load, and of quiet again; niceness: of the load."""
    given = {'diagnostics_period': 0.2, 'silence_timeout': 3600.0, 'gate': False, **parameters}
    with tempfile.TemporaryDirectory() as folder, NodeProcess('node', NAMESPACE, given, Path(folder) / 'node'):
        results = Results()
        results.spin(SETTLE)
        publisher = start_publisher(1, RATE, 4 * seconds + 2)
        loops: list[subprocess.Popen] = []
        try:
            deadline = time.monotonic() + 60
            while not results.rows and publisher.poll() is None and time.monotonic() < deadline:
                results.spin(0.05)
            if not results.rows:
                check_sent(publisher)
                raise RunError('0 results from the node within 60 s; must be at least 1')
            results.spin(1 + seconds)
            loops = [subprocess.Popen([sys.executable, '-c', BUSY, str(niceness)]) for _ in range(os.cpu_count() or 1)]
            begun = time.time()
            results.spin(2 * seconds)
            ended = time.time()
        finally:
            for loop in loops:
                loop.kill()
            wait_all(loops)
            results.watch(publisher)
            results.close()
    return summary(results.rows, begun, ended, budget)


def summary(rows: list[tuple[float, float, float, int, str]], begun: float, ended: float, budget: float,
            ) -> dict[str, Any]:
    """What each phase shows; one without results has only their number, 0. Raises RunError without any result."""
    if not rows:
        raise RunError('0 results; must be at least 1: the node classified nothing, or they were lost')
    stamp, age, tau, block = (np.array(column) for column in list(zip(*rows, strict=True))[:4])
    known = labels()
    numbers = np.rint((stamp - stamp[0]) * RATE).astype(int)
    right = np.array([row[4] == known[number % FRAMES] for row, number in zip(rows, numbers, strict=True)])

    def phase(of: NDArray[np.bool_]) -> dict[str, Any]:
        network = of & (block != GATE_EXIT_BLOCK)
        if not of.any():
            return {'results': 0}
        return {'results': int(of.sum()), 'ms': [round(float(v), 1) for v in np.percentile(1e3 * age[of], (50, 99))],
                'late': round(float((age[of] > budget).mean()), 4), 'tau': round(float(tau[of].mean()), 3),
                'first exit': (round(float((block[network] == block[network].min()).mean()), 3)
                                if network.any() else None),
                'right': round(float(right[of].mean()), 3)}

    settled = numbers >= UNTOUCHED + RATE
    loaded = np.flatnonzero((stamp >= begun) & (stamp < ended))
    inside = [i for i in loaded if np.percentile(age[i:loaded[-1] + 1], 99) <= budget]
    # A 99th percentile of fewer results than 100 says nothing.
    enough = [i for i in inside if loaded[-1] - i >= 100]
    return {QUIET: phase(settled & (stamp < begun)), LOADED: phase((stamp >= begun) & (stamp < ended)),
            'after the load': phase(stamp >= ended),
            'back inside, s': round(float(stamp[enough[0]] - begun), 2) if enough else None}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--budget', type=float, default=0.05, help='s (default: 0.05)')
    parser.add_argument('--tau', type=float, default=0.95, help="the user's tau (default: 0.95)")
    parser.add_argument('--seconds', type=float, default=10.0,
                        help='s of quiet before the load, which lasts twice as long (default: 10)')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--engine', default='openvino', help='default: openvino')
    arguments = parser.parse_args(argv)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    shared: dict[str, Any] = {'engine': arguments.engine, 'threads': 1}
    if arguments.checkpoint:
        shared['checkpoint'] = str(arguments.checkpoint.absolute())
    variants = {'without': {'tau': arguments.tau}, 'with': {'tau': arguments.tau, 'latency_budget': arguments.budget},
                'first exit': {'tau': 0.0}}
    found = TitledRows()
    print(f'{processor()}, load before {os.getloadavg()[0]:.1f}, budget {1e3 * arguments.budget:g} ms', flush=True)
    rclpy.init()
    try:
        for name, given in variants.items():
            found.report(name, measure(shared | given, arguments.seconds, arguments.budget))
        found.report('preferred', measure(shared | variants['with'], arguments.seconds, arguments.budget, 10))
    finally:
        rclpy.try_shutdown()
    print(json.dumps(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
