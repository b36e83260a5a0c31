"""Accuracy and time of one network at several image sizes, with all patches and with those that a touch changes.

    python tools/measure_input_size.py --touches FOLDER --shapes FILE --balls FOLDER [FOLDER ...] [--token_threshold 3]

Each size has the weights of the checkpoint, with its position embedding resized. Accuracy: simulated touches of the
task shapes, whose classes the checkpoint must have; real touches of household objects (FOLDER holds labels.csv, FILE
the shapes by eye, as for measure_unknown.py), right if the prediction is the shape by eye; presses of a ball
(reference.png and presses.csv), right if it is sphere. Exits are those at the checkpoint's tau and temperatures, which
were fitted at its own size. Time is that of one image, mean over simulated touches, all variants in random order in
each round; one thread. Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vit_tactile_ros.data.controls import BorderOnly
from vit_tactile_ros.data.frames import Frames, TouchFrames
from vit_tactile_ros.data.simulated import TASKS, SimulatedTouches
from vit_tactile_ros.evaluation.benchmark.contest import interleave
from vit_tactile_ros.evaluation.benchmark.workloads import early, full_depth
from vit_tactile_ros.evaluation.outputs import Inputs, outputs_of
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import Checkpoint, load_checkpoint, shipped_checkpoint, token_threshold

sys.path.insert(0, str(Path(__file__).parent))
from measure_adapt import presses_of
from measure_tokens import at_size
from measure_unknown import judged, shapes_of
from titled_rows import report

SIZES = ((96, 128), (144, 192), (192, 256))  # px
SEED = 88_000_000  # of simulated touches that no command trains, validates or tests on


def sets_of(checkpoint: Checkpoint, touches: Path, shapes: Path, balls: Sequence[Path], size: int) -> dict[str, Any]:
    """Frames, and the class of each (None: that of the frames), by the name of the set."""
    preprocessing, names = checkpoint.preprocessing, checkpoint.class_names
    table, eye = judged(touches, shapes_of(shapes))
    kept = np.flatnonzero([shape in names for shape in eye])
    frames = TouchFrames(table.subset(kept), preprocessing)
    right = np.array([names.index(eye[i]) for i in kept])
    found: dict[str, Any] = {'simulated': (SimulatedTouches(size, preprocessing, SEED), None),
                             'household': (frames, right), 'household, border only': (BorderOnly(frames, 0.15), right)}
    for folder in balls:
        reference, images = presses_of(folder)
        still = torch.from_numpy(fit(reference, preprocessing))
        presses: Frames = [(torch.from_numpy(fit(image, preprocessing)), still, 0)  # type: ignore[assignment]
                           for image in images]
        found[folder.name] = (presses, np.full(len(presses), names.index('sphere')))
    return found


def accuracy(runtime: Runtime, checkpoint: Checkpoint, frames: Frames, right: Any, tau: tuple[float, ...],
             temperatures: Sequence[float]) -> list[float]:
    """At the last exit, and with exits; and the share that exits at the first one."""
    outputs, = outputs_of([runtime.stages], Inputs(frames, checkpoint.preprocessing), checkpoint.model.config, 16,
                          class_names=[str(number) for number in range(1000)])  # of objects, for household ones
    labels = outputs.labels if right is None else right
    exits, classes, _ = outputs.decide(tau, temperatures)
    return [float((outputs.logits[-1].argmax(axis=1) == labels).mean()), float((classes == labels).mean()),
            float((exits == 0).mean())]


def measure(checkpoint: Checkpoint, sizes: Sequence[tuple[int, int]], threshold: float, touches: Path, shapes: Path,
            balls: Sequence[Path], size: int, rounds: int, engine: str, precision: Any) -> dict[str, Any]:
    calibration, found = checkpoint.calibration, {}
    temperatures = calibration.temperatures or (1.0,) * len(checkpoint.model.config.exits)
    tau = (calibration.tau,) * (len(checkpoint.model.config.exits) - 1)
    work = {}
    for height, width in sizes:
        there = at_size(checkpoint, (height, width))
        sets = {name: ([frames[i] for i in range(len(frames))], right)  # read once
                for name, (frames, right) in sets_of(there, touches, shapes, balls, size).items()}
        inputs: list[Tensor] = [Inputs(sets['simulated'][0], there.preprocessing)[i][0][None]  # type: ignore[arg-type]
                                for i in range(min(rounds, size))]
        for kept in (0.0, token_threshold(threshold, checkpoint.preprocessing)):
            title = f'{height}x{width}, {"some" if kept else "all"} patches'
            there = at_size(checkpoint, (height, width), token_threshold=kept)
            runtime = make_runtime(there.model, 'cpu', engine, precision, 1, calibration.activation_ranges)
            found[title] = {name: [round(value, 4) for value in accuracy(runtime, there, frames, right, tau,
                                                                         temperatures)] + [len(frames)]
                            for name, (frames, right) in sets.items()}
            work[f'{title}, full depth'] = full_depth(runtime, inputs)
            work[f'{title}, exits'] = early(runtime, inputs, tau, temperatures)
    times = interleave(work, math.inf, rounds)
    base = times[f'{sizes[0][0]}x{sizes[0][1]}, all patches, full depth'].mean
    for title, row in found.items():
        for name in ('full depth', 'exits'):
            row[f'time, {name}'] = [round(times[f'{title}, {name}'].mean / base, 3),
                                    round(1e3 * times[f'{title}, {name}'].mean, 2), rounds]
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--touches', type=Path, required=True, help='folder with labels.csv')
    parser.add_argument('--shapes', type=Path, required=True, help='CSV of object,press,shape')
    parser.add_argument('--balls', type=Path, nargs='*', default=[], help='folders with presses of a ball')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--image_size', type=int, nargs=2, action='append', metavar=('HEIGHT', 'WIDTH'),
                        help='px, multiples of 16; again for each size (default: 96 128, 144 192, 192 256)')
    parser.add_argument('--token_threshold', type=float, default=3.0, help='grey levels (default: 3)')
    parser.add_argument('--size', type=int, default=2000, help='simulated examples (default: 2000)')
    parser.add_argument('--rounds', type=int, default=200, help='images that are timed (default: 200)')
    parser.add_argument('--engine', default='openvino', help='default: openvino')
    parser.add_argument('--precision', default='float32', help='default: float32')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(arguments.checkpoint or shipped_checkpoint())
    if checkpoint.class_names != TASKS['shapes']:
        parser.error(f'the classes of {arguments.checkpoint} are {", ".join(checkpoint.class_names)}; must be those of '
                     f'the simulated touches: {", ".join(TASKS["shapes"])}')
    found = measure(checkpoint, arguments.image_size or SIZES, arguments.token_threshold, arguments.touches,
                    arguments.shapes, arguments.balls, arguments.size, arguments.rounds, arguments.engine,
                    arguments.precision)
    print('sets: accuracy at the last exit, with exits, share at the first exit, n; times: over the first, ms, n')
    report(found)


if __name__ == '__main__':
    main()
