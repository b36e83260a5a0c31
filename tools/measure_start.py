"""Time to prepare the network at a start: the choice of the engine measured, kept from an earlier start, and by name.

    python tools/measure_start.py --starts 9 [--precision auto] [--checkpoint FILE]

Each start is a new process with one thread; the ways take turns. Timed is `TactileClassifier`, without Python's imports
and the reading of the checkpoint. For the starts that measure: which engine they chose, the times that they measured
(median over the starts), and what the choices cost: the mean of the chosen engine's time over that of the fastest, with
these medians. Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vit_tactile_ros.inference.engines.choice import FOLDER
from vit_tactile_ros.inference.runtime import AUTO_OR_PRECISION

START = """
import sys, time
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.engines import select
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint

measured, fastest = [], select._fastest
select._fastest = lambda *given: measured.append(1) or fastest(*given)
engine, precision, checkpoint = sys.argv[1:]
loaded = load_checkpoint(checkpoint or shipped_checkpoint())
begun = time.perf_counter()
runtime = TactileClassifier(loaded, 'cpu', precision, 1, engine).runtime
print(time.perf_counter() - begun, runtime.name, runtime.precision, len(measured))
"""


def start(cache: Path, engine: str, precision: str, checkpoint: str) -> tuple[float, str, str, int]:
    """Seconds, the engine and precision that run, and how often it measured them."""
    done = subprocess.run([sys.executable, '-c', START, engine, precision, checkpoint], capture_output=True, text=True,
                          check=True, env=os.environ | {FOLDER: str(cache), 'OMP_NUM_THREADS': '1'})
    seconds, name, precision, measured = done.stdout.split()
    return float(seconds), name, precision, int(measured)


def measure(starts: int, precision: str, checkpoint: str) -> dict[str, Any]:
    seconds = collections.defaultdict(list)
    measured: collections.Counter[str] = collections.Counter()
    choices: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(starts):
            cache = Path(folder) / str(number)
            engine, wanted = 'auto', precision
            for way in ('measured', 'kept', 'by name'):
                taken, *chosen, times = start(cache, engine, wanted, checkpoint)
                seconds[way].append(taken)
                measured[way] += times
                if way == 'measured':
                    choices += [json.loads(file.read_text()) for file in cache.glob('*')]
                if way == 'kept':
                    engine, wanted = chosen
    found: dict[str, Any] = {'seconds': {way: {'median': statistics.median(taken), 'worst': max(taken)}
                                         for way, taken in seconds.items()},
                             'starts': starts, 'starts that measured': dict(measured), 'kept': len(choices)}
    if choices:
        medians = {title: statistics.median(choice['milliseconds'][title] for choice in choices)
                   for title in choices[0]['milliseconds']}
        titles = [f'{choice["engine"]} {choice["precision"]}' for choice in choices]
        found |= {'milliseconds': medians, 'chosen': dict(collections.Counter(titles)),
                  'rounds': statistics.median(choice['rounds'] for choice in choices),
                  'cost': statistics.mean(medians[title] for title in titles) / min(medians.values())}
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--starts', type=int, default=9, help='of each way; default: 9')
    parser.add_argument('--precision', choices=AUTO_OR_PRECISION, default='auto', help='default: auto')
    parser.add_argument('--checkpoint', default='', help='default: the shipped one')
    arguments = parser.parse_args(argv)
    found = measure(arguments.starts, arguments.precision, arguments.checkpoint)
    for way, taken in found['seconds'].items():
        print(f'{way:9} {taken["median"]:.2f} s, worst {taken["worst"]:.2f}, n = {arguments.starts}')
    for title, time in found.get('milliseconds', {}).items():
        print(f'{title:18} {time:.2f} ms, chosen by {found["chosen"].get(title, 0)} of {found["kept"]}')
    print(json.dumps(found))


if __name__ == '__main__':
    main()
