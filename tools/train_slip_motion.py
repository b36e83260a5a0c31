"""Train models/slip_motion.safetensors, the networks of vit_tactile_ros/inference/slip_network.py, and judge them.

    python tools/train_slip_motion.py --grasps gelsight_slip/grasps.csv --cache runs/slip_motion --output FILE

Each step is kept in the cache, from which an interrupted run resumes: maps of the recorded grasps and of simulated
streams, the network trained on the simulated ones, and the folds of each seed. The name of a file has its arguments and
a digest of the grasps and of the code of the figures, references and training; after a change of the simulator, use an
empty cache. The folds keep objects apart: a network is judged on grasps of objects that it was not trained on. The
weights of the output are trained on all grasps, and no figure is measured with them on a grasp. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from vit_tactile_ros.evaluation.touchbench import untouched
from vit_tactile_ros.evaluation.touchbench.slip import (
    FOLDS,
    LENGTH,
    RATE,
    Grasps,
    alarms_of,
    folds_of,
    judge,
    read_clip,
    read_grasps,
)
from vit_tactile_ros.evaluation.touchbench.untouched import recurring_references
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference import motion_figures
from vit_tactile_ros.inference.arrays import read_arrays
from vit_tactile_ros.inference.motion_figures import FIGURES, MotionMaps, figures_of
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.slip_network import FORMAT, LARGEST, LEAST_BINS
from vit_tactile_ros.inference.touch_events import SLIP, STATES, slip_scores
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import HandlingSequence, Markers, SensorUnit
from vit_tactile_ros.simulator.drift import Change
from vit_tactile_ros.simulator.example import any_sensor, randomise
from vit_tactile_ros.training import slip_motion
from vit_tactile_ros.training.slip_motion import (
    NO_LABEL,
    Floats,
    SlipModel,
    Stream,
    Trained,
    adapt_slip,
    train_lost,
    train_slip,
)

IMAGES = PreprocessingConfig(image_size=(96, 128))
BIN = 5  # images, 0.2 s
NETWORKS = 3  # of `lost`
MOVING = [n for n, name in enumerate(FIGURES) if name.startswith(('fast', 'slow'))]
CREDIT = 'grasps: Incipient-Slip-Detection (Amit Parag), BSD-2-Clause'


def grasp_figures(grasps: Grasps, file: Path) -> list[Floats]:
    """Of each clip, (N, F)."""
    if not file.exists():
        maps = []
        for clip, reference in zip(grasps.files, recurring_references(grasps, IMAGES), strict=True):
            own = MotionMaps()
            maps.append(np.stack([own.update(image, 10**9 + number * 10**9 // RATE, reference)
                                  for number, image in enumerate(read_clip(clip, IMAGES))]).astype(np.float16))
        with written_whole(file) as temporary, temporary.open('wb') as opened:
            np.savez(opened, maps=np.concatenate(maps), length=[len(one) for one in maps])
    kept = read_arrays(file)
    return [figures_of(maps) for maps in _parts(kept['maps'], kept['length'])]


def simulated(file: Path, seed: int, seconds: float, slides_slowly: bool = False) -> Stream:
    """Figures and states of one stream of a randomised gel, at 25 or 30 Hz; most gels have dots.

    slides_slowly: of objects that slide slowly. Slow slides are slips, too; NO_LABEL where one has just begun.
    """
    if not file.exists():
        rng = np.random.default_rng(seed)
        config, markers = randomise(any_sensor(None, rng), rng), None
        if rng.random() < 0.9:
            pitch = rng.uniform(1.6, 2.9)
            markers = Markers(pitch, pitch * rng.uniform(0.11, 0.18), rng.uniform(0.4, 0.8), rng.uniform(2.0, 7.0))
        config = dataclasses.replace(config, markers=markers)
        unit = SensorUnit(config, rng, rng.uniform(0.5, 2.0))
        sequence = HandlingSequence(config, rng, slides_slowly=slides_slowly)
        change = Change.draw(unit, 0.3, rng)
        rate = float(rng.choice([25.0, 30.0]))
        reference = np.mean([fit(change.reference(unit), IMAGES) for _ in range(3)], axis=0, dtype=np.float32)
        own, maps, states, slides = MotionMaps(), [], [], []
        for number in range(int(seconds * rate)):
            contact, state = sequence.at(number / rate)
            flicker = (1 + 0.002 * rng.standard_normal((3, 1, 1))).astype(np.float32)
            recovering = sequence.creep_mm(number / rate)
            moment = dataclasses.replace(change, lighting=change.lighting * flicker, creep_mm=(
                change.creep_mm[0] + recovering[0], change.creep_mm[1] + recovering[1]))
            image = fit(moment.frame(unit, contact, rng, None), IMAGES)
            maps.append(own.update(image, 10**9 + round(number * 1e9 / rate), reference))
            states.append(STATES.index(state))
            slides.append(sequence.slide(number / rate))
        with written_whole(file) as temporary, temporary.open('wb') as opened:
            np.savez(opened, maps=np.stack(maps).astype(np.float16), states=np.array(states), slides=np.array(slides))
    kept = read_arrays(file)
    return figures_of(kept['maps']), labels_of(kept['states'], kept['slides'])


def labels_of(states: NDArray[np.integer], slides: NDArray[np.integer]) -> NDArray[np.int64]:
    """Indices of STATES, or NO_LABEL, from the states and `HandlingSequence.slide` of each image."""
    labels = states.astype(np.int64)
    held = (labels == STATES.index('stable')) | (labels == STATES.index('moving'))
    labels[held & (slides == 1)] = STATES.index(SLIP)
    labels[held & (slides == -1)] = NO_LABEL
    return labels


def binned(figures: Floats) -> Floats:
    """Mean and largest value of each figure in every 0.2 s, (T, 2 F)."""
    bins = figures[:len(figures) // BIN * BIN].reshape(-1, BIN, figures.shape[1])
    return np.concatenate([bins.mean(axis=1), bins.max(axis=1)], axis=1)

# Folds


def fold(number: int, seed: int, grasps: Grasps, clips: Sequence[Floats], base: Trained, streams: Sequence[Stream],
         steps: int) -> dict[str, list[Floats]]:
    """Of each clip of the fold: `states` (N, 4), `lost` (T,), and `still`, as `lost` but trained without motion."""
    grasp_of = {clip: grasp for grasp, own in enumerate(grasps.clips) for clip in own}
    folds = folds_of(grasps.objects, seed)
    used = [clip for clip in range(len(clips)) if folds[grasp_of[clip]] != number]
    rest = [clip for clip in range(len(clips)) if folds[grasp_of[clip]] == number]
    slipped = grasps.slipped[[grasp_of[clip] for clip in used]]
    first = 100 * seed + 10 * number
    slip = adapt_slip(base, streams, [clips[clip] for clip in used], slipped, steps, first)
    found = {'clip': [np.array(clip) for clip in rest],
             'states': [_softmax(slip.outputs(clips[clip])) for clip in rest]}
    for name in ('lost', 'still'):
        series = [binned(_still(clip) if name == 'still' else clip) for clip in clips]
        networks = [train_lost([series[clip] for clip in used], slipped, steps, first + n) for n in range(NETWORKS)]
        found[name] = [np.mean([one.outputs(series[clip]) for one in networks], axis=0) for clip in rest]
    return found


def scores(found: dict[int, dict[str, Floats]], grasps: Grasps) -> dict[str, Floats]:
    """Of each grasp, by rule, from the outputs of each clip; mean of the fingers."""
    def most(odds: Floats) -> float:
        return float(odds[min(LEAST_BINS - 1, len(odds) - 1):].max())

    def of_tracker(states: Floats) -> float:
        stamps = [10**9 + n * 10**9 // RATE for n in range(len(states))]
        highest = np.clip(slip_scores(stamps, states, STATES).max(), 1e-6, 1 - 1e-6)
        return float(np.log(highest / (1 - highest)))

    clips = range(len(grasps.files))
    return {'lost': grasps.mean([most(found[c]['lost']) for c in clips]),
            'lost, still': grasps.mean([most(found[c]['still']) for c in clips]),
            'slip': grasps.mean([of_tracker(found[c]['states']) for c in clips]),
            LENGTH: grasps.mean([-float(len(found[c]['states'])) for c in clips])}


def curve(found: dict[int, dict[str, Floats]], grasps: Grasps) -> list[dict[str, float]]:
    """Thresholds of `lost`, averaged over the fingers image by image: false alarms, found, and when."""
    series = []
    for own in grasps.clips:
        length = min(len(found[c]['lost']) for c in own)
        series.append(np.mean([found[c]['lost'][:length] for c in own], axis=0))
    rows = []
    for threshold in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        at = [next((n for n in range(LEAST_BINS - 1, len(s)) if s[n] >= threshold), None) for s in series]
        alarm = np.array([one is not None for one in at])
        times = [(one + 1) * BIN / RATE for one, slips in zip(at, grasps.slipped, strict=True)
                 if slips and one is not None]
        rows.append({'threshold': threshold, 'false': float(alarm[~grasps.slipped].mean()),
                     'found': float(alarm[grasps.slipped].mean()),
                     'quartiles_s': np.quantile(times, (0.25, 0.5, 0.75)).round(2).tolist() if times else []})
    return rows


def uncertainty(one: Floats, grasps: Grasps, seed: int) -> float:
    """Standard error of the balanced accuracy, from 1,000 draws of the objects with replacement."""
    rng = np.random.default_rng(0)
    alarms, names = alarms_of(one, grasps.slipped, grasps.objects, seed), sorted(set(grasps.objects))
    drawn = []
    for _ in range(1000):
        rows = np.concatenate([np.flatnonzero(grasps.objects == name) for name in rng.choice(names, len(names))])
        truth = grasps.slipped[rows]
        if truth.any() and not truth.all():
            drawn.append((alarms[rows][truth].mean() + 1 - alarms[rows][~truth].mean()) / 2)
    return float(np.std(drawn))


def _still(figures: Floats) -> Floats:
    still = figures.copy()
    still[:, MOVING] = 0
    return still


def _softmax(logits: Floats) -> Floats:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--grasps', type=Path, required=True, help='CSV of the clips')
    parser.add_argument('--cache', type=Path, required=True, help='folder of what is done already')
    parser.add_argument('--output', type=Path, help='file of the weights; default: only the folds')
    parser.add_argument('--streams', type=int, default=120, help='simulated streams (default: 120)')
    parser.add_argument('--creeping', type=int, default=20, help='the same, of objects that slide slowly (default: 20)')
    parser.add_argument('--seconds', type=float, default=40.0, help='of each of them (default: 40)')
    parser.add_argument('--steps', type=int, default=6000, help='on simulated streams (default: 6000)')
    parser.add_argument('--creeping_steps', type=int, default=500, help='on both, half each, afterwards (default: 500)')
    parser.add_argument('--grasp_steps', type=int, default=250, help='on grasps (default: 250)')
    parser.add_argument('--seeds', type=int, default=3, help='divisions into folds (default: 3)')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cache: Path = arguments.cache
    grasps = read_grasps(arguments.grasps)
    of_maps = _digest(motion_figures.__file__)
    of_grasps = _digest(motion_figures.__file__, untouched.__file__, arguments.grasps, *grasps.files)
    clips = grasp_figures(grasps, cache / f'grasps_{of_grasps}.npz')
    streams = [simulated(cache / f'stream_{n}_{arguments.seconds:g}s_{of_maps}.npz', 500_000 + n, arguments.seconds)
               for n in range(arguments.streams)]
    creeping = [simulated(cache / f'creeping_{n}_{arguments.seconds:g}s_{of_maps}.npz', 600_000 + n, arguments.seconds,
                          slides_slowly=True) for n in range(arguments.creeping)]
    of_training = _digest(motion_figures.__file__, slip_motion.__file__)
    run = f'{arguments.streams}x{arguments.seconds:g}s_{arguments.steps}_{of_training}'
    base = _kept_network(cache / f'slip_simulated_{run}.safetensors', lambda: train_slip(streams, arguments.steps))
    if creeping:
        run = f'{arguments.creeping}_{arguments.creeping_steps}_{run}'
        ordinary, streams = base, streams + creeping * max(arguments.streams // arguments.creeping, 1)
        base = _kept_network(cache / f'slip_creeping_{run}.safetensors',
                             lambda: train_slip(streams, arguments.creeping_steps, ordinary))
    folds = f'fold_{run}_{arguments.grasp_steps}_{of_grasps}_{_digest(__file__)}'
    results: dict[str, object] = {}
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        found: dict[int, dict[str, Floats]] = {}
        for number in range(FOLDS):
            done = _kept_series(cache / f'{folds}_{seed}_{number}.npz', lambda seed=seed, number=number: fold(
                number, seed, grasps, clips, base, streams, arguments.grasp_steps))
            for place, clip in enumerate(done['clip']):
                found[int(clip[0])] = {name: done[name][place] for name in ('states', 'lost', 'still')}
        for name, one in scores(found, grasps).items():
            own = judge(one, grasps.slipped, grasps.objects) | {'standard_error': uncertainty(one, grasps, seed)}
            rows.setdefault(name, []).append(own)
            print(f'seed {seed} {name:14}', *(f'{key} {value:.3f}' for key, value in own.items()))
        results[f'curve_{seed}'] = curve(found, grasps)
        for row in results[f'curve_{seed}']:
            print(row)
    results |= {name: {key: float(np.mean([row[key] for row in own])) for key in own[0]} for name, own in rows.items()}
    if arguments.output:
        slip = adapt_slip(base, streams, clips, grasps.slipped[_grasp_of(grasps)], arguments.grasp_steps, 1)
        series = [binned(clip) for clip in clips]
        lost = [train_lost(series, grasps.slipped[_grasp_of(grasps)], arguments.grasp_steps, n)
                for n in range(NETWORKS)]
        write(arguments.output, slip, lost, results)
    print(json.dumps(results))


def write(path: Path, slip: Trained, lost: Sequence[Trained], results: dict[str, object]) -> None:
    """The weights of both networks, with what they were trained on and the figures of the folds."""
    tensors = slip.tensors('slip')
    for number, one in enumerate(lost):
        tensors |= one.tensors(f'lost{number}')
    facts = {'format': FORMAT, 'figures': json.dumps(FIGURES), 'data': f'simulated handling; {CREDIT}',
             'command': 'python tools/train_slip_motion.py', 'folds': json.dumps(
                 {key: value for key, value in results.items() if not key.startswith('curve')})}
    with written_whole(path) as temporary:
        save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, temporary, facts)


def _grasp_of(grasps: Grasps) -> NDArray[np.int64]:
    found = np.zeros(len(grasps.files), np.int64)
    for grasp, own in enumerate(grasps.clips):
        found[list(own)] = grasp
    return found


def _digest(*files: str | Path) -> str:
    """Of their contents."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()[:8]


def _kept_network(file: Path, make: Callable[[], Trained]) -> Trained:
    """The network of slip that `make` returns, from the file if it is there."""
    if not file.exists():
        tensors = make().tensors('slip')
        with written_whole(file) as temporary:
            save_file(tensors, temporary)
    own = {name.removeprefix('slip.'): value for name, value in load_file(file).items()}
    mean, std = own.pop('mean'), own.pop('std')
    model = SlipModel()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in own.items()})
    return Trained(model.eval(), mean, std, LARGEST)


def _kept_series(file: Path, make: Callable[[], dict[str, list[Floats]]]) -> dict[str, list[Floats]]:
    """The arrays that `make` returns for each name, from the file if it is there."""
    if not file.exists():
        arrays = {}
        for name, series in make().items():
            arrays[name] = np.concatenate([np.atleast_1d(one) for one in series])
            arrays[f'{name}_length'] = np.array([np.atleast_1d(one).shape[0] for one in series])
        with written_whole(file) as temporary, temporary.open('wb') as opened:
            np.savez(opened, **arrays)
    kept = read_arrays(file)
    return {name: _parts(values, kept[f'{name}_length']) for name, values in kept.items()
            if f'{name}_length' in kept}


def _parts(values: Floats, lengths: NDArray[np.int64]) -> list[Floats]:
    return np.split(values, np.cumsum(lengths)[:-1])


if __name__ == '__main__':
    main()
