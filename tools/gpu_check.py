"""Everything that needs a GPU: tests of the CUDA path, equality with the CPU, times, the node, a short training.

    tools/gpu_check.sh [--output FOLDER] [--parts tests parity ...]
    python tools/gpu_check.py --dry_run --parts environment parity        tests this script itself, on a CPU

Writes gpu_check.json after every part, so that a check that is stopped keeps what it has. The last line is PASSED, or
FAILED with the parts that did. Times are absolute and of this GPU, in ms.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from vit_tactile_ros.evaluation.benchmark.contest import Run, interleave
from vit_tactile_ros.evaluation.benchmark.workloads import early
from vit_tactile_ros.inference.decide import decide
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.inference.preprocess import fit, normalise
from vit_tactile_ros.inference.runtime import Precision, Runtime
from vit_tactile_ros.model import (
    ViTTactile,
    create_vit_tactile,
    early_exit,
    load_checkpoint,
    shipped_checkpoint,
    thresholds,
)
from vit_tactile_ros.simulator import SensorUnit, TouchSequence, load_sensor, sample_example

ROOT = Path(__file__).parents[1]
TESTS = ('test/inference', 'test/model', 'test/data/test_augment.py', 'test/training')
MAX_TURNED = 0.005  # share of touches whose class may differ from the CPU's: by rounding at a threshold, in bfloat16
Results = dict[str, Any]


class Setup(NamedTuple):
    """Where the parts run, and how much of it."""

    output: Path
    device: str = 'cuda'
    engines: tuple[tuple[str, Precision], ...] = (
        ('torch', 'float32'), ('torch', 'bfloat16'), ('cuda_graph', 'float32'), ('cuda_graph', 'bfloat16'),
        ('triton', 'bfloat16'))
    batches: tuple[int, ...] = (1, 2, 3, 58, 448)  # sizes, whose sum is the number of touches that are compared


class CheckFailedError(Exception):
    """A part ran and its result is wrong; args: what, and what was measured."""


def environment(setup: Setup) -> Results:
    found = {'device': setup.device, 'torch': torch.__version__, 'cuda': torch.version.cuda,
             'python': sys.version.split()[0], 'cpus': os.cpu_count(),
             'tf32': {'matmul': torch.backends.cuda.matmul.allow_tf32,
                      'convolution': torch.backends.cudnn.allow_tf32}}
    if setup.device == 'cpu':
        return found
    properties = torch.cuda.get_device_properties(torch.device(setup.device))
    driver = subprocess.run(['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'], text=True,
                            capture_output=True, check=False).stdout.strip()
    return {'gpu': properties.name, 'memory_gib': round(properties.total_memory / 2**30, 1), 'driver': driver, **found}


def tests(setup: Setup) -> Results:
    log = run([sys.executable, '-m', 'pytest', '-q', '-n', str(min(12, os.cpu_count() or 1)), '--dist', 'loadfile',
               *TESTS], setup.output / 'tests.log', 240, check=False)
    counts = {name: int(number) for number, name in re.findall(r'(\d+) (passed|failed|skipped|errors?)\b', log[-400:])}
    wrong = re.findall(r'^(?:FAILED|ERROR) (.*)', log, re.MULTILINE)
    if wrong or not counts.get('passed'):
        raise CheckFailedError('tests failed', {**counts, 'failures': wrong or log[-600:]})
    return counts


def touches(count: int) -> torch.Tensor:
    """Simulated touches as inputs of the shipped checkpoint, float32 (count, 3, h, w)."""
    preprocessing = load_checkpoint(shipped_checkpoint()).preprocessing
    rng = np.random.default_rng(0)
    inputs = np.empty((count, 3, *preprocessing.image_size), np.float32)
    for into in inputs:
        image, reference, _class = sample_example(rng)
        normalise(fit(image, preprocessing), fit(reference, preprocessing), preprocessing, into)
    return torch.from_numpy(inputs)


def runtimes(model: ViTTactile, setup: Setup) -> tuple[dict[str, Runtime], dict[str, str]]:
    """The engines, and the reasons of those that refuse."""
    makers: dict[str, Callable[[], Runtime]] = {
        f'{engine} {precision}': partial(make_runtime, model, setup.device, engine, precision)
        for engine, precision in setup.engines}
    if setup.device != 'cpu' and torch.cuda.get_device_capability(setup.device) >= (9, 0):
        makers['triton bfloat16, dependent launches'] = partial(_dependent, model, torch.device(setup.device))
    ready, refused = {}, {}
    for name, make in makers.items():
        try:
            ready[name] = make()
        except Exception as error:  # the other engines are checked all the same
            refused[name] = f'{type(error).__name__}: {error}'
    return ready, refused


def _dependent(model: ViTTactile, device: torch.device) -> Runtime:
    from vit_tactile_ros.inference.engines.triton_engine import TritonRuntime  # only this variant has no name

    return TritonRuntime(model, device, dependent=True)


def parity(setup: Setup) -> Results:
    """Every engine and precision against plain torch on the CPU, on simulated touches."""
    checkpoint = load_checkpoint(shipped_checkpoint())
    images, model = touches(sum(setup.batches)), checkpoint.model.eval()
    temperatures = checkpoint.calibration.temperatures
    found: Results = {}
    ready, refused = runtimes(model, setup)
    with torch.inference_mode():
        for level in (0.0, 0.95, 1.0):
            tau = thresholds(level, len(temperatures))
            expected = early_exit(TorchRuntime(model, torch.device('cpu')).stages(images), tau, temperatures)
            for name, runtime in ready.items():
                results = [decide(runtime, part, tau, temperatures) for part in images.split(setup.batches)]
                probabilities, exits = (torch.cat([getattr(r, name).float().cpu() for r in results])
                                        for name in ('probabilities', 'exit_index'))
                same = exits == expected.exit_index
                turned = probabilities.argmax(1) != expected.probabilities.argmax(1)
                found[f'{name} tau {level:g}'] = {
                    'largest difference of a probability':
                        float((probabilities - expected.probabilities)[same].abs().max()),
                    'other exit': float((~same).float().mean()), 'other class': float(turned.float().mean())}
    wrong = {name: values for name, values in found.items()
             if values['other class'] > MAX_TURNED or not values['largest difference of a probability'] < (
                 0.01 if 'float32' in name else 0.25)}
    if wrong or refused:
        raise CheckFailedError('predictions differ from the CPU, or an engine refuses',
                               {**found, 'wrong': sorted(wrong), 'refused': refused})
    return found


def timed(contenders: dict[str, Run], seconds: float) -> Results:
    times = interleave(contenders, seconds, 3000, rest=0.0, warm_up=20)
    return {name: {'p50_ms': round(1e3 * t.p50, 4), 'p99_ms': round(1e3 * t.p99, 4), 'n': t.n}
            for name, t in times.items()}


def times(setup: Setup) -> Results:
    """From images in host memory to probabilities in host memory, by network, engine, precision and batch size."""
    torch.manual_seed(0)
    checkpoint = load_checkpoint(shipped_checkpoint())
    networks: dict[str, tuple[ViTTactile, Sequence[float]]] = {
        'shipped 96x128': (checkpoint.model.eval(), checkpoint.calibration.temperatures),
        'create_vit_tactile() 224x224': (create_vit_tactile().eval(), (1.0, 1.0, 1.0))}
    found: Results = {}
    for name, (model, temperatures) in networks.items():
        contenders: dict[str, Run] = {}
        ready, refused = runtimes(model, setup)
        if refused:
            found[f'{name}: refused'] = refused
        for engine, runtime in ready.items():
            for size in (1, 16):
                batches = [torch.randn(size, 3, *model.config.image_size) for _ in range(4)]
                for case, level in (('first exit', 0.0), ('full depth', 1.0)):
                    contenders[f'{engine} batch {size}: {case}'] = early(
                        runtime, batches, thresholds(level, len(temperatures)), temperatures)
        found[name] = timed(contenders, 15.0)
    return found


def benchmark(setup: Setup) -> Results:
    """The command, at batch size 1 and 16."""
    output = setup.output
    found: Results = {}
    for size in (1, 16):
        folder = output / f'benchmark_{size}'
        text = run([sys.executable, '-m', 'vit_tactile_ros.benchmark', '--device', setup.device, '--batch_size',
                    str(size), '--quick', '--precision', 'auto', '--accuracy', '500', '--output', str(folder)],
                   output / f'benchmark_{size}.log', 120)
        found[f'batch {size}'] = text.splitlines()[-40:]
    return found


def node(setup: Setup) -> Results:
    """The live node: the demo, then time from image to result on a simulated stream, on GPU and CPU in turns."""
    output, device = setup.output, setup.device
    if importlib.util.find_spec('rclpy') is None or importlib.util.find_spec('vit_tactile_ros.msg') is None:
        raise CheckFailedError('the package is not built with ROS here', None)
    demo = run([sys.executable, '-m', 'vit_tactile_ros.demo', '--seconds', '15', '--device', device],
               output / 'demo.log', 90)
    clip = output / 'touches.avi'
    write_clip(clip, 300)
    measured = run([sys.executable, '-m', 'vit_tactile_ros.latency', str(clip), '--rate', '60', '--images', '300',
                    '--cold_starts', '2', '--variant', device, f'device={device}', '--variant',
                    f'{device}_bfloat16', f'device={device}', 'precision=bfloat16', '--variant', 'cpu', 'device=cpu'],
                   output / 'latency.log', 150)
    return {'demo': demo.splitlines()[-12:], 'latency': json.loads(measured.splitlines()[-1])}


def write_clip(path: Path, images: int) -> None:
    rng = np.random.default_rng(0)
    config = load_sensor('gelsight')
    unit, sequence = SensorUnit(config, rng), TouchSequence(config, rng)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 30, (config.width, config.height))
    for number in range(images):
        video.write(np.ascontiguousarray(unit.render(sequence.at(number / 30), rng)[:, :, ::-1]))
    video.release()


def training(setup: Setup) -> Results:
    """Two short epochs from the shipped weights, and one more that resumes."""
    output = setup.output
    command = [sys.executable, '-m', 'vit_tactile_ros.train', '--init', 'shipped', '--epoch_size', '4096',
               '--validation_size', '500', '--batch_size', '256', '--lr', '1e-5', '--workers',
               str(min(12, os.cpu_count() or 1)), '--device', setup.device, '--output', str(output / 'training')]
    found: Results = {}
    for epochs in (2, 3):
        start = time.perf_counter()
        text = run([*command, '--epochs', str(epochs)], output / f'training_{epochs}.log', 120)
        found[f'{epochs} epochs'] = {'s': round(time.perf_counter() - start, 1), 'log': text.splitlines()[-8:]}
    metrics = load_checkpoint(output / 'training' / 'checkpoint.safetensors').provenance.metrics
    found['metrics'] = metrics
    if not metrics.get('accuracy_block_12', 0.0) > 0.9:
        raise CheckFailedError('training spoiled the shipped weights', found)
    return found


PARTS: dict[str, Callable[[Setup], Results]] = {part.__name__: part for part in (
    environment, tests, parity, times, node, training, benchmark)}


def run(command: Sequence[str], log: Path, limit: float, check: bool = True) -> str:
    """The output of a command, also in `log`; raises CheckFailedError if it fails or takes longer than `limit` s."""
    with log.open('w') as file:
        try:
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT,
                                  timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
    text = log.read_text(errors='replace')
    if check and code:
        raise CheckFailedError(f'{" ".join(command[1:4])} ended with {code}' if code > 0 else
                          f'{" ".join(command[1:4])} took longer than {limit:g} s', text[-1500:])
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', type=Path, default=Path('runs/gpu_check'), help='folder (default: runs/gpu_check)')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS), metavar='PART',
                        help=f'some of {", ".join(PARTS)} (default: all)')
    parser.add_argument('--dry_run', action='store_true', help='on the CPU, with few images')
    arguments = parser.parse_args(argv)
    setup = Setup(arguments.output.absolute())
    if arguments.dry_run:
        setup = setup._replace(device='cpu', engines=(('torch', 'float32'), ('torch', 'bfloat16')), batches=(1, 2, 3))
    elif not torch.cuda.is_available():
        print(f'gpu_check: torch {torch.__version__} finds no CUDA device here', file=sys.stderr)
        return 2
    arguments.output.mkdir(parents=True, exist_ok=True)
    report: Results = {}
    failed = []
    for name in arguments.parts:
        start = time.perf_counter()
        try:
            report[name] = {'passed': True, 'result': PARTS[name](setup)}
        except CheckFailedError as error:
            report[name] = {'passed': False, 'error': error.args[0], 'result': error.args[1]}
        except Exception:
            report[name] = {'passed': False, 'error': traceback.format_exc()[-2500:]}
        report[name]['seconds'] = round(time.perf_counter() - start, 1)
        failed += [] if report[name]['passed'] else [name]
        (arguments.output / 'gpu_check.json').write_text(json.dumps(report, indent=1) + '\n')
        print(f'{"ok    " if report[name]["passed"] else "FAILED"} {name}, {report[name]["seconds"]} s', flush=True)
        if not report[name]['passed']:
            print(f'    {report[name]["error"]}', flush=True)
    print(f'FAILED: {", ".join(failed)}' if failed else 'PASSED')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
