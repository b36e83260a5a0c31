"""Ball presses on real sensors: the share that a checkpoint of shapes predicts as sphere; nothing is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vit_tactile_ros.data.controls import BorderOnly
from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.table import NamedTouch, Source, build_table
from vit_tactile_ros.evaluation.outputs import collect_outputs
from vit_tactile_ros.evaluation.touchbench.features import BORDER, BORDER_SHARE
from vit_tactile_ros.evaluation.touchbench.scores import Result, TaskResult, exact
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Checkpoint

SPHERE = 'sphere'
PRESSES = 'presses.csv'


def shape_task(folder: Path, checkpoint: Checkpoint) -> TaskResult:
    """Per press, over all sensors: the subfolders with presses.csv and reference.png."""
    names = checkpoint.class_names
    if SPHERE not in names:
        raise UserError(f'the classes of the checkpoint are {", ".join(names)}; the task shape needs {SPHERE}: choose '
                        'another checkpoint, or leave the task out')
    files = sorted(folder.glob(f'*/{PRESSES}'))
    found = [NamedTouch(Source(file.parent / row['image']), Source(file.parent / 'reference.png'), SPHERE,
                        file.parent.name) for file in files for _, row in read_rows(file)[1]]
    table = build_table(found, str(folder), names)
    frames = TouchFrames(table, checkpoint.preprocessing)
    touch, border = (collect_outputs(checkpoint.model, shown, checkpoint.preprocessing, progress=f'shape, {title}',
                                     class_names=names).right
                     for title, shown in (('touch', frames), (BORDER, BorderOnly(frames, BORDER_SHARE))))
    sensors = np.array(table.groups)
    results = [Result(f'checkpoint, block {block}', exact(touch[i]), {BORDER: float(border[i].mean())}, by_group={
        sensor: float(touch[i][sensors == sensor].mean()) for sensor in sorted(set(table.groups))})
        for i, block in enumerate(checkpoint.model.config.exits)]
    return TaskResult('shape', len(table), len(files), 1 / len(names), results)
