"""Train and test on groups of labelled touches kept apart: cross-validation.

Trains one network per fold and tests it on the groups that it was not trained on. With `--control reference` or
`--control border` the images do not show the touch, but still reveal which recording they come from: a result counts
only insofar as it beats these controls. Can be stopped; started again it resumes with the unfinished fold.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from vit_tactile_ros import flags
from vit_tactile_ros.data.augment_config import Augmentation
from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.data.source import SIMULATOR, DataSource, read_frames, read_table
from vit_tactile_ros.data.split import Split, folds
from vit_tactile_ros.data.touches import TouchTable
from vit_tactile_ros.data.training_part import digest, training_part
from vit_tactile_ros.evaluation.cache import DamagedOutputs, read_outputs, write_outputs
from vit_tactile_ros.evaluation.metrics import balanced_accuracy, confusion
from vit_tactile_ros.evaluation.outputs import ExitOutputs, collect_outputs
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import HIDDEN, REQUIRED, Flag, flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.foundation.files import check_folder_writable, written_whole
from vit_tactile_ros.inference.runtime import select_device
from vit_tactile_ros.model import Checkpoint, ModelConfig, Provenance, ViTTactile
from vit_tactile_ros.model.config import check_motion
from vit_tactile_ros.training.batches import Order, balanced, resized
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.datasets import InputKind, choose_augmentation, choose_preprocessing, data_settings
from vit_tactile_ros.training.initialise import Start, check_frozen, heads_are_new, start_from_all, start_told
from vit_tactile_ros.training.loop import fit
from vit_tactile_ros.training.request import check_start
from vit_tactile_ros.training.run import Examples, Machine, Recipe, RunOutput
from vit_tactile_ros.training.settings import check_settings

logger = logging.getLogger('vit_tactile_ros.cross_validate')
TAUS = (0.7, 0.8, 0.9, 0.95, 0.99)
GROUPS = 'groups.csv'  # the mean hides that some objects are always right, some always wrong
OUTPUTS = 'answers.npz'  # of a fold's network for its test images
EXAMPLES = (
    '--data touches --init shipped --output runs/folds',
    '--data labels.csv --label roughness --group object --folds 5 --init shipped --output runs/folds',
    '--data labels.csv --label roughness --group object --control reference --output runs/control',
)


@dataclass(frozen=True)
class CrossValidation:
    """The settings of a cross-validation; raises UserError naming the field that is wrong."""

    output: Path = flag(REQUIRED, 'folder for the checkpoint and outputs of each fold, and groups.csv: accuracy on '
                                  'each group')
    folds: int = flag(5, 'number of folds; each group is tested in exactly one of them')
    start: Start = Start()
    config: TrainingConfig = TrainingConfig(batch_size=32, epochs=10, lr=3e-4, label_smoothing=0.1, ema=0.98)
    epoch_size: int | None = flag(None, 'images in an epoch, all classes equally often; default: all training images')
    input: InputKind = flag('auto', flags.SHARED['TrainingSource']['input'])
    motion: float | None = flag(None, flags.SHARED['TrainingSource']['motion'])
    motion_views: int | None = flag(None, flags.SHARED['TrainingSource']['motion_views'])
    augmentation: Augmentation = Augmentation('gel')
    device: str = flag('auto', flags.DEVICE)
    source: DataSource = DataSource()

    def __post_init__(self) -> None:
        if self.source.is_simulated:
            raise UserError(f'data is {SIMULATOR}, which has no groups to keep apart; name labelled images (a folder '
                            f'of that name is ./{SIMULATOR})')
        check_least(self, folds=2, epoch_size=1)
        check_motion('motion', self.motion or 0.0, self.motion_views)
        check_start(self.config, self.start)


FLAGS = {
    'batch_size': Flag('images per step'),
    'epochs': Flag('epochs per fold'),
    'augment': Flag('variations of the images', choices=('none', 'gel', 'simulated', 'other_gel')),
    'seed': Flag('seed of the folds, the weights and the order of the images'),
    'data': Flag('folder of class folders, CSV, or bag', 'PATH', is_required=True),
    **dict.fromkeys(('warmup', 'loss_weights', 'distillation', 'teacher', 'exit_gradient', 'distillation_temperature',
                     'balance', 'precision', 'augment_strength'), HIDDEN),
}


def parse_arguments(argv: list[str] | None = None) -> CrossValidation:
    return flags.parse('cross_validate', __doc__, EXAMPLES, CrossValidation, argv, FLAGS)


@command('cross_validate')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    logging.getLogger('vit_tactile_ros.training.datasets').setLevel(logging.INFO)  # logs the chosen input
    try:
        result = cross_validate(request)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f'stopped; the same command resumes with the results in {request.output}') from None
    print(json.dumps(result))
    return 0


@dataclass(frozen=True)
class Fold:
    """What one fold trains and tests, and where it is stored."""

    part: Split
    train: TouchTable
    test: TouchTable
    run: RunOutput
    settings: dict[str, Any]  # everything that its outputs depend on

    @property
    def outputs(self) -> Path:
        return self.run.folder / OUTPUTS


def cross_validate(request: CrossValidation) -> dict[str, object]:
    """Train and test every fold; returns the figures, after printing them as a table."""
    check_folder_writable(request.output, create=False)
    start, source, config = request.start, request.source, request.config
    table = read_table(source)
    assert table is not None
    if table.has_splits:
        logger.warning('%s names the images for training, validation and test; this is ignored, because every image is '
                       'tested in one of the folds', table.origin)
    parts = folds(table, request.folds, config.seed)
    device = select_device(request.device)
    checkpoints = start.load()
    architecture = start.architecture(checkpoints, len(table.class_names))
    preprocessing = choose_preprocessing(table, architecture.image_size, request.input,
                                         checkpoints[0] if checkpoints else None, source.control,
                                         request.motion, motion_views=request.motion_views)
    architecture = start.for_inputs(architecture, preprocessing)
    check_frozen(config.freeze, checkpoints, start.origin, architecture)
    config = config.for_heads(heads_are_new(checkpoints, table.class_names), architecture.depth)
    recipe = Recipe(preprocessing, config, choose_augmentation(request.augmentation, source))
    print(f'cross_validate: {len(table)} images, {len(set(table.groups))} groups, {len(table.class_names)} classes '
          f'({", ".join(table.class_names)}), {len(parts)} folds', flush=True)
    plans = [_plan(request, table, part, number, architecture, recipe) for number, part in enumerate(parts)]
    # Before any training: outputs of other settings are refused now, not hours later.
    finished = [_finished(fold, architecture) for fold in plans]
    if checkpoints and not all(finished):
        drawn = start_from_all(ViTTactile(architecture), checkpoints, table.class_names)
        print('cross_validate: every fold ' + start_told(checkpoints, start.origin, architecture, table.class_names,
                                                         drawn), flush=True)
    # Once, and before any training: a broken image would otherwise be found in the last fold, hours later.
    frames = None if all(finished) else read_frames(source, table, preprocessing)
    outputs = []
    for number, fold in enumerate(plans):
        result = finished[number]
        if result is None:
            assert frames is not None
            result = _train(fold, frames, request.epoch_size, architecture, recipe, checkpoints, device)
        predictions = result.logits.argmax(axis=2)
        print(f'fold {number + 1}/{len(parts)}: {len(fold.train)} training, {len(fold.test)} test images; balanced '
              'accuracy ' + ', '.join(f'block {block} {balanced_accuracy(result.labels, predicted):.3f}'
                                      for block, predicted in zip(result.exits, predictions, strict=True)), flush=True)
        outputs.append(result)
    _write_groups(request.output / GROUPS, [fold.test for fold in plans], outputs)
    return _report(outputs, source)


def _plan(request: CrossValidation, table: TouchTable, part: Split, number: int, architecture: ModelConfig,
          recipe: Recipe) -> Fold:
    source = request.source
    train, test = table.subset(part.train), table.subset(part.test)
    own = {'label': source.label, 'group': source.group, 'folds': request.folds, 'init': request.start.origin,
           **data_settings(source, request.epoch_size, train), 'test_images': f'{len(test)}, {digest(test)}'}
    provenance = Provenance(flags.command_of('cross_validate', request, flags=FLAGS),
                            f'{table.origin}: all but fold {number + 1} of {request.folds}',
                            training_part=training_part(source, {'folds': request.folds}, table, train))
    return Fold(part, train, test, RunOutput(request.output / f'fold_{number}', table.class_names, own, provenance),
                recipe.settings(architecture, own))


def _finished(fold: Fold, architecture: ModelConfig) -> ExitOutputs | None:
    """The outputs of a finished fold; raises SettingsError for those of other settings."""
    if not fold.outputs.exists():
        return None
    try:
        key, outputs = read_outputs(fold.outputs, fold.test.class_names, architecture)
    except DamagedOutputs as error:
        logger.warning('%s; that fold is tested again', error)
        return None
    check_settings(json.loads(key), fold.settings, fold.test.class_names, fold.run.folder)
    return outputs


def _train(fold: Fold, frames: Frames, epoch_size: int | None, architecture: ModelConfig, recipe: Recipe,
           checkpoints: list[Checkpoint], device: torch.device) -> ExitOutputs:
    """Train a fold, or resume it, test it, and store the outputs."""
    seed, names = recipe.config.seed, fold.test.class_names
    torch.manual_seed(seed)
    model = ViTTactile(architecture)
    start_from_all(model, checkpoints, names)
    examples = Examples(Subset(frames, fold.part.train.tolist()), order=_order(fold.train, epoch_size, seed))
    model = fit(model, examples, recipe, Machine(device), fold.run)
    result = collect_outputs(model, Subset(frames, fold.part.test.tolist()), recipe.preprocessing, device,
                             class_names=names)
    write_outputs(fold.outputs, json.dumps({'settings': fold.settings, 'class_names': names}), result)
    return result


def _order(table: TouchTable, epoch_size: int | None, seed: int) -> Order:
    order = balanced(table.labels, seed)
    return resized(order, epoch_size) if epoch_size else order


def _write_groups(path: Path, tables: list[TouchTable], outputs: list[ExitOutputs]) -> None:
    """A row per group and class: images, and the accuracy at each exit; whole or not at all."""
    with written_whole(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['group', 'class', 'n', 'fold', *(f'accuracy_block_{block}' for block in outputs[0].exits)])
        for number, (table, result) in enumerate(zip(tables, outputs, strict=True)):
            rows: dict[tuple[str, int], list[int]] = {}
            for row, touch in enumerate(table.touches):
                rows.setdefault((touch.group, touch.label), []).append(row)
            for (group, label), own in sorted(rows.items()):
                accuracies = result.right[:, own].mean(axis=1)
                writer.writerow([group, table.class_names[label], len(own), number + 1,
                                 *(f'{accuracy:.4f}' for accuracy in accuracies)])


def _report(outputs: list[ExitOutputs], source: DataSource) -> dict[str, object]:
    exits, names = outputs[0].exits, outputs[0].class_names
    pooled = dataclasses.replace(outputs[0], logits=np.concatenate([o.logits for o in outputs], axis=1),
                                 labels=np.concatenate([o.labels for o in outputs]))
    per_fold = [[balanced_accuracy(o.labels, row) for row in o.logits.argmax(axis=2)] for o in outputs]
    mean, spread = np.mean(per_fold, axis=0), np.std(per_fold, axis=0)
    print('\nexit after block  balanced accuracy, mean of folds  standard deviation  all images pooled')
    for i, block in enumerate(exits):
        pool = balanced_accuracy(pooled.labels, pooled.logits[i].argmax(axis=1))
        print(f'{block:16d}  {mean[i]:32.3f}  {spread[i]:18.3f}  {pool:17.3f}')
    print(f'chance            {1 / len(names):32.3f}')
    if len(exits) > 1:
        print('\n  tau  balanced accuracy  share of compute  exits after block ' + ' '.join(f'{b:5d}' for b in exits))
    rows = []
    for tau in TAUS if len(exits) > 1 else ():
        chosen, predicted, _ = pooled.decide(tau)
        rates, share = pooled.spent(chosen)
        rows.append({'tau': tau, 'balanced_accuracy': balanced_accuracy(pooled.labels, predicted),
                     'compute_share': share, 'exit_rates': rates.round(4).tolist()})
        print(f'{tau:5.2f}  {rows[-1]["balanced_accuracy"]:17.3f}  {share:16.3f}' + ' ' * 19
              + ' '.join(f'{rate:5.2f}' for rate in rates))
    print('\nconfusion of the last exit (row: true class)')
    counts = confusion(pooled.labels, pooled.logits[-1].argmax(axis=1), len(names))
    width = max(max(map(len, names)), 5)
    for name, row in zip(names, counts, strict=True):
        print(f'{name:>{width}}  ' + ' '.join(f'{count:{width}d}' for count in row))
    return {'label': source.label, 'group': source.group, 'folds': len(outputs), 'images': len(pooled),
            'control': source.control, 'exits': list(exits), 'balanced_accuracy': mean.round(4).tolist(),
            'standard_deviation': spread.round(4).tolist(), 'chance': round(1 / len(names), 4), 'taus': rows}


if __name__ == '__main__':
    sys.exit(main())
