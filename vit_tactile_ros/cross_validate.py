"""Train and test on groups of labelled touches kept apart: cross-validation.

Trains one network per fold, whole groups kept apart, and reports what it says of the groups that it never saw. With
`--control reference` or `--control border` the network sees no touch, only what tells one recording from another: a
result means something as far as it is above these. Can be stopped; started again it goes on with the fold it was in.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from vit_tactile_ros.data.arguments import (
    SIMULATOR,
    add_table_arguments,
    check_table_arguments,
    read_frames,
    read_table,
)
from vit_tactile_ros.data.augment import AUGMENTATIONS
from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.data.split import Split, folds
from vit_tactile_ros.data.touches import TouchTable
from vit_tactile_ros.data.training_part import digest, training_part
from vit_tactile_ros.evaluation.cache import DamagedOutputs, read_outputs, write_outputs
from vit_tactile_ros.evaluation.metrics import balanced_accuracy, confusion
from vit_tactile_ros.evaluation.outputs import ExitOutputs, collect_outputs
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import check_folder_writable, written_whole
from vit_tactile_ros.inference.runtime import select_device
from vit_tactile_ros.model import (
    Checkpoint,
    ModelConfig,
    PreprocessingConfig,
    Provenance,
    ViTTactile,
    load_checkpoint,
)
from vit_tactile_ros.training.batches import Order, balanced, resized
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.datasets import (
    choose_augmentation,
    choose_preprocessing,
    data_settings,
)
from vit_tactile_ros.training.initialise import (
    add_architecture_arguments,
    asked_architecture,
    check_frozen,
    init_path,
    start_from,
    start_told,
)
from vit_tactile_ros.training.loop import fit
from vit_tactile_ros.training.settings import check_settings, settings_of

logger = logging.getLogger('vit_tactile_ros.cross_validate')
TAUS = (0.7, 0.8, 0.9, 0.95, 0.99)
GROUPS = 'groups.csv'  # what the mean hides: some objects always right, some always wrong
ANSWERS = 'answers.npz'  # of a fold's network to its test images
EXAMPLES = (
    '--data touches --init shipped --output runs/folds',
    '--data labels.csv --label roughness --group object --folds 5 --init shipped --output runs/folds',
    '--data labels.csv --label roughness --group object --control reference --output runs/control',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('cross_validate', __doc__, EXAMPLES)
    parser.add_argument('--output', type=Path, required=True,
                        help="folder for each fold's checkpoint and answers, and groups.csv: accuracy on each group")
    parser.add_argument('--folds', type=int, default=5, help='each group is tested in exactly one')
    parser.add_argument('--init', type=init_path, default=None, metavar='CHECKPOINT',
                        help="'shipped', or a file: start from these weights")
    add_architecture_arguments(parser)
    parser.add_argument('--batch_size', type=int, default=32, help='images')
    parser.add_argument('--epochs', type=int, default=10, help='per fold')
    parser.add_argument('--epoch_size', type=int, default=None,
                        help='images in an epoch, all classes equally often; by default as many as are to train on')
    parser.add_argument('--input', choices=('auto', 'difference', 'frame'), default='auto',
                        help='what the network sees: difference to the reference, or the frame; '
                             'auto: the difference where every image has a reference')
    parser.add_argument('--lr', type=float, default=3e-4, help='peak learning rate of AdamW')
    parser.add_argument('--weight_decay', type=float, default=0.05, help='of AdamW')
    parser.add_argument('--label_smoothing', type=float, default=0.1, help='0 to 1')
    parser.add_argument('--freeze', type=int, default=0, metavar='BLOCKS',
                        help='the first so many blocks keep the weights of --init; all of them: only the heads learn')
    parser.add_argument('--ema', type=float, default=0.98, help='decay per step of the moving average of the weights')
    parser.add_argument('--augment', choices=tuple(AUGMENTATIONS), default='gel', help='what varies')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N'")
    parser.add_argument('--seed', type=int, default=0, help='of the folds, the weights and the order')
    add_table_arguments(parser, default=None)
    arguments = parser.parse_args(argv)
    if arguments.data == SIMULATOR:
        parser.error(f'--data {SIMULATOR}: simulated touches are endless and have no groups to keep apart; name real '
                     f'ones (a folder of that name is ./{SIMULATOR})')
    check_table_arguments(parser, arguments)
    if arguments.folds < 2:
        parser.error(f'--folds is {arguments.folds}; must be at least 2')
    if arguments.freeze > 0 and arguments.init is None:
        parser.error(f'--freeze {arguments.freeze} would keep random weights: give --init')
    if arguments.epoch_size is not None and arguments.epoch_size < 1:
        parser.error(f'--epoch_size is {arguments.epoch_size}; must be at least 1')
    try:
        arguments.config = TrainingConfig(
            batch_size=arguments.batch_size, epochs=arguments.epochs, lr=arguments.lr, ema=arguments.ema,
            weight_decay=arguments.weight_decay, label_smoothing=arguments.label_smoothing,
            freeze=arguments.freeze, seed=arguments.seed)
    except UserError as error:
        parser.error(f'--{error}')
    return arguments


@command('cross_validate')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    logging.getLogger('vit_tactile_ros.training.datasets').setLevel(logging.INFO)  # tells which input it chose
    try:
        result = cross_validate(arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f'stopped; the same command resumes with what {arguments.output} holds') from None
    print(json.dumps(result))
    return 0


@dataclasses.dataclass(frozen=True)
class Fold:
    """What one fold trains and tests, and where it is kept."""

    part: Split
    train: TouchTable
    test: TouchTable
    output: Path
    own_settings: dict[str, Any]  # those that `fit` can't know
    settings: dict[str, Any]  # all that its answers depend on
    provenance: Provenance


def cross_validate(arguments: argparse.Namespace) -> dict[str, object]:
    """Train and test every fold; returns the figures, after printing them as a table."""
    check_folder_writable(arguments.output, create=False)
    table = read_table(arguments)
    assert table is not None
    if table.has_splits:
        logger.warning('%s says which images are for training, validation and test; that is ignored, since every image '
                       'is tested in one of the folds', table.origin)
    parts = folds(table, arguments.folds, arguments.seed)
    device = select_device(arguments.device)
    checkpoint = load_checkpoint(arguments.init) if arguments.init else None
    architecture = asked_architecture(arguments, checkpoint, len(table.class_names))
    check_frozen(arguments.freeze, [checkpoint] if checkpoint else [], str(arguments.init), architecture)
    preprocessing = choose_preprocessing(table, architecture.image_size, arguments.input, checkpoint, arguments.control)
    print(f'cross_validate: {len(table)} images, {len(set(table.groups))} groups, {len(table.class_names)} classes '
          f'({", ".join(table.class_names)}), {len(parts)} folds', flush=True)
    plans = [_plan(arguments, table, part, number, architecture, preprocessing) for number, part in enumerate(parts)]
    # All before any training: answers of other settings are to be refused now, not hours later.
    finished = [_finished(fold, architecture) for fold in plans]
    if checkpoint and not all(finished):
        drawn = start_from(ViTTactile(architecture), checkpoint, table.class_names)
        print('cross_validate: every fold ' + start_told([checkpoint], str(arguments.init), architecture,
                                                         table.class_names, drawn), flush=True)
    # Once, and before any training: a broken image would else be found in the last fold, hours later.
    frames = None if all(finished) else read_frames(arguments, table, preprocessing)
    outputs = []
    for number, fold in enumerate(plans):
        result = finished[number]
        if result is None:
            assert frames is not None
            result = _train(fold, frames, arguments, architecture, preprocessing, checkpoint, device)
        answers = result.logits.argmax(axis=2)
        print(f'fold {number + 1}/{len(parts)}: {len(fold.train)} training, {len(fold.test)} test images; balanced '
              'accuracy ' + ', '.join(f'block {block} {balanced_accuracy(result.labels, answer):.3f}'
                                      for block, answer in zip(result.exits, answers, strict=True)), flush=True)
        outputs.append(result)
    _write_groups(arguments.output / GROUPS, [fold.test for fold in plans], outputs)
    return _report(outputs, arguments)


def _plan(arguments: argparse.Namespace, table: TouchTable, part: Split, number: int, architecture: ModelConfig,
          preprocessing: PreprocessingConfig) -> Fold:
    train, test = table.subset(part.train), table.subset(part.test)
    own = {'label': arguments.label, 'group': arguments.group, 'folds': arguments.folds,
           'init': str(arguments.init or ''), **data_settings(arguments, train),
           'test_images': f'{len(test)}, {digest(test)}'}
    settings = settings_of(architecture, preprocessing, arguments.config,
                           choose_augmentation(arguments.augment, arguments.data), own)
    provenance = Provenance('python -m vit_tactile_ros.cross_validate',
                            f'{table.origin}: all but fold {number + 1} of {arguments.folds}',
                            training_part=training_part(arguments, table, train))
    return Fold(part, train, test, arguments.output / f'fold_{number}', own, settings, provenance)


def _finished(fold: Fold, architecture: ModelConfig) -> ExitOutputs | None:
    """The answers of a fold that is done; raises SettingsError for those of other settings."""
    path = fold.output / ANSWERS
    if not path.exists():
        return None
    try:
        key, outputs = read_outputs(path, fold.test.class_names, architecture)
    except DamagedOutputs as error:
        logger.warning('%s; that fold is tested again', error)
        return None
    check_settings(json.loads(key), fold.settings, fold.test.class_names, fold.output)
    return outputs


def _train(fold: Fold, frames: Frames, arguments: argparse.Namespace, architecture: ModelConfig,
           preprocessing: PreprocessingConfig, checkpoint: Checkpoint | None, device: torch.device) -> ExitOutputs:
    """Train a fold, or go on with it, test it, and keep the answers."""
    torch.manual_seed(arguments.seed)
    model = ViTTactile(architecture)
    if checkpoint:
        start_from(model, checkpoint, fold.train.class_names)
    model = fit(model, Subset(frames, fold.part.train.tolist()), None, preprocessing, arguments.config,
                choose_augmentation(arguments.augment, arguments.data), device, fold.output,
                class_names=fold.train.class_names, order=_order(fold.train, arguments.epoch_size, arguments.seed),
                settings=fold.own_settings, provenance=fold.provenance)
    result = collect_outputs(model, Subset(frames, fold.part.test.tolist()), preprocessing, device,
                             class_names=fold.test.class_names)
    key = json.dumps({'settings': fold.settings, 'class_names': fold.test.class_names})
    write_outputs(fold.output / ANSWERS, key, result)
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


def _report(outputs: list[ExitOutputs], arguments: argparse.Namespace) -> dict[str, object]:
    exits, names = outputs[0].exits, outputs[0].class_names
    pooled = dataclasses.replace(outputs[0], logits=np.concatenate([o.logits for o in outputs], axis=1),
                                 labels=np.concatenate([o.labels for o in outputs]))
    per_fold = [[balanced_accuracy(o.labels, answer) for answer in o.logits.argmax(axis=2)] for o in outputs]
    mean, spread = np.mean(per_fold, axis=0), np.std(per_fold, axis=0)
    print('\nexit after block  balanced accuracy, mean of folds  standard deviation  all images pooled')
    for i, block in enumerate(exits):
        pool = balanced_accuracy(pooled.labels, pooled.logits[i].argmax(axis=1))
        print(f'{block:16d}  {mean[i]:32.3f}  {spread[i]:18.3f}  {pool:17.3f}')
    print(f'chance            {1 / len(names):32.3f}')
    if len(exits) > 1:
        print('\n  tau  balanced accuracy  share of compute  leaving at block ' + ' '.join(f'{b:5d}' for b in exits))
    rows = []
    for tau in TAUS if len(exits) > 1 else ():
        chosen, answer, _ = pooled.decide(tau)
        rates, share = pooled.spent(chosen)
        rows.append({'tau': tau, 'balanced_accuracy': balanced_accuracy(pooled.labels, answer),
                     'compute_share': share, 'exit_rates': rates.round(4).tolist()})
        print(f'{tau:5.2f}  {rows[-1]["balanced_accuracy"]:17.3f}  {share:16.3f}' + ' ' * 19
              + ' '.join(f'{rate:5.2f}' for rate in rates))
    print('\nconfusion of the last exit (row: true class)')
    counts = confusion(pooled.labels, pooled.logits[-1].argmax(axis=1), len(names))
    width = max(max(map(len, names)), 5)
    for name, row in zip(names, counts, strict=True):
        print(f'{name:>{width}}  ' + ' '.join(f'{count:{width}d}' for count in row))
    return {'label': arguments.label, 'group': arguments.group, 'folds': len(outputs), 'images': len(pooled),
            'control': arguments.control, 'exits': list(exits), 'balanced_accuracy': mean.round(4).tolist(),
            'standard_deviation': spread.round(4).tolist(), 'chance': round(1 / len(names), 4), 'taus': rows}


if __name__ == '__main__':
    sys.exit(main())
