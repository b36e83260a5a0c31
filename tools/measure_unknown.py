"""Touches by objects that are none of the indenters: how many are reported as unknown, and how many others are.

    python tools/measure_unknown.py --touches FOLDER --shapes FILE [--checkpoint FILE]

FOLDER holds labels.csv (image, reference, object, press); FILE is a CSV of object,press,shape by eye, where an empty
press means all of the object. Simulated touches of `--size` examples give the false flags: a threshold on the margin of
the logit of `unknown` over the others, at which 5 % of simulated touches of the indenters are flagged, is applied to
the real images. Beside it: the flags as the checkpoint predicts, and the same with the largest softmax probability of
the other classes, which needs no training. Control: `border`, only the outer 15 % of the image is shown. The grey level
of an image is the highest mean over 5x5 px (of the network's input) of the difference to its reference. An interval is
of the mean over objects, from 2,000 resamplings of the objects. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from vit_tactile_ros.data.controls import BorderOnly
from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.simulated import TASKS, SimulatedTouches
from vit_tactile_ros.data.table import TouchTable
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.evaluation.false_unknown import margins
from vit_tactile_ros.evaluation.outputs import ExitOutputs, collect_outputs
from vit_tactile_ros.evaluation.touchbench.contact import peak
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.touch_events import NO_CONTACT, UNKNOWN
from vit_tactile_ros.model import Checkpoint, load_checkpoint, shipped_checkpoint

LEAST_LEVELS = 12  # grey levels; below, a person often cannot recognise a shape either
FALSE_FLAGS = 0.05
SEED = 77_000_000  # of simulated touches that no command trains, validates or tests on


def shapes_of(path: Path) -> dict[tuple[str, str], str]:
    with path.open(newline='', encoding='utf-8') as file:
        return {(row['object'], row['press']): row['shape'] for row in csv.DictReader(file)}


def judged(folder: Path, shapes: dict[tuple[str, str], str]) -> tuple[TouchTable, list[str]]:
    """The touches whose shape is known by eye, labelled by their object, and that shape."""
    table = load_touches(folder / 'labels.csv', label='object', group='object', split='')
    with (folder / 'labels.csv').open(newline='', encoding='utf-8') as file:
        press = {str(folder / row['image']): row['press'] for row in csv.DictReader(file)}
    keys = [(table.class_names[touch.label], press[str(touch.image)]) for touch in table.touches]
    found = [shapes.get(key, shapes.get((key[0], ''), '')) for key in keys]
    kept = np.flatnonzero([bool(shape) for shape in found])
    return table.subset(kept), [found[i] for i in kept]


def softmax_doubt(outputs: ExitOutputs) -> NDArray[np.float32]:
    """(E, N): the higher, the less probable the most probable shape is, among the shapes."""
    touch = [i for i, name in enumerate(outputs.class_names) if name not in (NO_CONTACT, UNKNOWN)]
    logits = outputs.logits[:, :, touch] - outputs.logits[:, :, touch].max(axis=2, keepdims=True)
    total: NDArray[np.float32] = np.log(np.exp(logits).sum(axis=2))  # minus the log of the largest probability
    return total


def interval(values: NDArray[np.bool_], objects: NDArray[np.int64]) -> list[float]:
    """Mean over objects of the share, and its 95 % interval over them."""
    means = np.array([values[objects == one].mean() for one in np.unique(objects)])
    drawn = means[np.random.default_rng(0).integers(len(means), size=(2000, len(means)))].mean(axis=1)
    return [round(float(v), 3) for v in (means.mean(), *np.quantile(drawn, (0.025, 0.975)))]


def measure(checkpoint: Checkpoint, folder: Path, shapes: Path, size: int) -> dict[str, Any]:
    def outputs_of(frames: Any, title: str, names: Sequence[str]) -> ExitOutputs:
        found = collect_outputs(checkpoint.model, frames, checkpoint.preprocessing, progress=title, class_names=names)
        return replace(found, class_names=checkpoint.class_names)

    table, eye = judged(folder, shapes_of(shapes))
    frames = TouchFrames(table, checkpoint.preprocessing)
    levels = np.array([peak(np.asarray(frame), np.asarray(reference, np.float32)) for frame, reference, _ in frames])
    is_other, clear = np.array([shape == UNKNOWN for shape in eye]), levels >= LEAST_LEVELS
    real = outputs_of(frames, 'real', table.class_names)
    border = outputs_of(BorderOnly(frames, 0.15), 'border', table.class_names)
    names = TASKS['shapes']
    simulated = outputs_of(SimulatedTouches(size, checkpoint.preprocessing, SEED), 'simulated', names)
    indenter = (simulated.labels > 0) & (simulated.labels < len(names) - 1)
    other = simulated.labels == len(names) - 1

    found: dict[str, Any] = {
        'images': {'unknown': int((is_other & clear).sum()), 'known': int((~is_other & clear).sum())},
        'objects': {name: len(set(table.labels[rows & clear])) for name, rows in
                    (('unknown', is_other), ('known', ~is_other))},
        'simulated': {'indenters': int(indenter.sum()), 'unknown': int(other.sum())}}
    kinds = {UNKNOWN: margins} if UNKNOWN in checkpoint.class_names else {}
    for kind, doubt in (kinds | {'softmax': softmax_doubt}).items():
        here, at_border, there = doubt(real), doubt(border), doubt(simulated)
        for exit_index, block in enumerate(real.exits):
            limit = float(np.quantile(there[exit_index, indenter], 1 - FALSE_FLAGS))
            flagged, score = here[exit_index] > limit, here[exit_index]
            row: dict[str, Any] = {
                'simulated unknown flagged': round(float((there[exit_index, other] > limit).mean()), 3),
                'real unknown flagged': round(float(flagged[is_other & clear].mean()), 3),
                'mean over objects, 95 %': interval(flagged[is_other & clear], table.labels[is_other & clear]),
                'real known flagged': round(float(flagged[~is_other & clear].mean()), 3),
                'AUC': round(float(roc_auc_score(is_other[clear], score[clear])), 3),
                'AUC, border only': round(float(roc_auc_score(is_other[clear], at_border[exit_index][clear])), 3)}
            if kind == UNKNOWN:
                predicted = real.logits[exit_index].argmax(axis=1) == checkpoint.class_names.index(UNKNOWN)
                inside = simulated.logits[exit_index].argmax(axis=1) == checkpoint.class_names.index(UNKNOWN)
                row |= {'as predicted: simulated indenters': round(float(inside[indenter].mean()), 3),
                        'simulated unknown': round(float(inside[other].mean()), 3),
                        'real unknown': round(float(predicted[is_other & clear].mean()), 3),
                        'real known': round(float(predicted[~is_other & clear].mean()), 3),
                        'untouched': round(float(inside[simulated.labels == 0].mean()), 4)}
            found[f'{kind}, block {block}'] = row
            if exit_index == len(real.exits) - 1:
                found[f'{kind}, block {block}, by object'] = {
                    table.class_names[one]: [str(np.array(eye)[rows][0]), round(float(flagged[rows].mean()), 2),
                                             int(rows.sum())]
                    for one in np.unique(table.labels[clear]) if (rows := clear & (table.labels == one)).any()}
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--touches', type=Path, required=True, help='folder with labels.csv')
    parser.add_argument('--shapes', type=Path, required=True, help='CSV of object,press,shape')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--size', type=int, default=4000, help='simulated examples (default: 4000)')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        found = measure(load_checkpoint(arguments.checkpoint or shipped_checkpoint()), arguments.touches,
                        arguments.shapes, arguments.size)
    except UserError as error:
        print(f'measure_unknown: {error}', file=sys.stderr)
        return 2
    for title, row in found.items():
        print(title)
        for name, value in row.items():
            print(f'  {name:34} {value}')
    print(json.dumps(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
