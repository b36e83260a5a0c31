"""Search for good training settings with Optuna.

What was tried is kept in --storage, so that a search can be stopped, started again, and shared: the same command in
several terminals (or, with a database server as storage, on several machines) works on the same study.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import torch

from vit_tactile_ros.data.arguments import empty_part, read_table
from vit_tactile_ros.data.augment import AUGMENTATIONS
from vit_tactile_ros.foundation.command import command, redacted
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.errors import MissingPackageError, RunError, UserError
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.inference.runtime import select_device
from vit_tactile_ros.model import ModelConfig, ViTTactile, load_checkpoint
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.datasets import (
    TrainingData,
    add_data_arguments,
    check_data_arguments,
    choose_augmentation,
    choose_preprocessing,
    class_names_of,
    prepare_data,
)
from vit_tactile_ros.training.initialise import add_architecture_arguments, asked_architecture, init_path, start_from
from vit_tactile_ros.training.loop import TrainingError, fit
from vit_tactile_ros.training.settings import INPUTS

OBJECTIVES = ('mean', 'last')

EXAMPLES = (
    '--trials 20',
    '--data touches --init shipped --trials 20 --epochs 5 --study bolts',
    '--data touches --storage postgresql://me@server/studies --study bolts',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('tune', __doc__, EXAMPLES)
    parser.add_argument('--trials', type=int, default=20, help='in the study, whoever runs them and when')
    parser.add_argument('--storage', default='sqlite:///runs/tune.db', metavar='URL', help='database of the study')
    parser.add_argument('--study', default='vit_tactile', help='name of the study in the storage')
    parser.add_argument('--objective', choices=OBJECTIVES, default='mean',
                        help='validation accuracy to maximise: mean of the exits, or the last one')
    parser.add_argument('--search_attention', action='store_true',
                        help='also search the attention kernel and its number of random features')
    parser.add_argument('--epochs', type=int, default=10, help='of a trial; those that fall behind end earlier')
    parser.add_argument('--batch_size', type=int, default=64, help='examples')
    parser.add_argument('--augment', choices=('auto', *AUGMENTATIONS), default='auto',
                        help='what varies (auto is gel for images, simulated for simulated touches); its strength is '
                             'searched')
    parser.add_argument('--balance', action='store_true', help='draw all classes equally often')
    parser.add_argument('--init', type=init_path, default=None, metavar='CHECKPOINT',
                        help="'shipped', or a file: start each trial from it")
    add_architecture_arguments(parser, kernel=False)
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N'")
    parser.add_argument('--workers', type=int, default=1, help='processes that read or simulate')
    parser.add_argument('--seed', type=int, default=0, help='of every trial: weights, order, augmentation')
    add_data_arguments(parser)
    arguments = parser.parse_args(argv)
    check_data_arguments(parser, arguments)
    for name, least in (('trials', 1), ('epochs', 1), ('batch_size', 1), ('workers', 0), ('seed', 0)):
        if getattr(arguments, name) < least:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be at least {least}')
    return arguments


@command('tune')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    logging.getLogger('vit_tactile_ros.training.datasets').setLevel(logging.INFO)  # tells which input it chose
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError(f"{error}: pip install optuna, or the extra: pip install 'vit_tactile_ros[tune]'"
                                  ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return _search(arguments)
    except optuna.exceptions.StorageInternalError as error:
        raise RunError(_without_password(f'--storage {arguments.storage}: {error}', arguments.storage)) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt('stopped; the finished trials are kept: run the same command to go on') from None


def _search(arguments: argparse.Namespace) -> int:
    import optuna

    device = select_device(arguments.device)
    storage = _open_storage(arguments.storage)
    table = read_table(arguments)
    checkpoint = load_checkpoint(arguments.init) if arguments.init else None
    class_names = class_names_of(table)
    architecture = asked_architecture(arguments, checkpoint, len(class_names))
    preprocessing = choose_preprocessing(table, architecture.image_size, arguments.input, checkpoint,
                                         arguments.control)
    data = prepare_data(table, arguments, preprocessing)
    if data.validation is None:
        assert table is not None  # there are always simulated ones
        raise empty_part(arguments, table, 'validation')
    study = _open_study(storage, arguments, architecture, data, INPUTS[preprocessing.reference])

    def run(trial: optuna.Trial) -> float:
        config, model_settings, strength = suggest(trial, arguments, len(architecture.exits))
        torch.manual_seed(config.seed)
        model = ViTTactile(dataclasses.replace(architecture, **model_settings))
        if checkpoint:
            start_from(model, checkpoint, class_names)
        scores: list[float] = []

        def report(epoch: int, metrics: dict[str, float]) -> None:
            exits = [metrics[f'accuracy_block_{block}'] for block in architecture.exits]
            scores.append(exits[-1] if arguments.objective == 'last' else sum(exits) / len(exits))
            trial.report(scores[-1], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        augment = choose_augmentation(arguments.augment, arguments.data, strength)
        fit(model, data.train, data.validation, preprocessing, config, augment, device, order=data.order,
            workers=arguments.workers, on_epoch=report)
        return scores[-1]

    while (done := _finished(study)) < arguments.trials:
        trial = study.ask()
        started = time.monotonic()
        try:
            study.tell(trial, score := run(trial))
            outcome = f'{score:.4f}'
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            outcome = 'fell behind'
        except TrainingError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            outcome = f'failed: {error}'
        except BaseException:
            # Else it would count as running for ever.
            trial.set_user_attr('interrupted', True)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        tried = ', '.join(f'{name} {_short(value)}' for name, value in trial.params.items())
        print(f'trial {trial.number + 1}, {done + 1} of {arguments.trials}: {outcome}, '
              f'{time.monotonic() - started:.0f} s, {tried}', flush=True)
    if not any(t.state == optuna.trial.TrialState.COMPLETE for t in study.trials):
        print('tune: no trial came to its end; look at what failed above', file=sys.stderr)
        return 1
    best = study.best_trial
    print(f'best is trial {best.number + 1}: validation accuracy ({arguments.objective}) {best.value:.4f}')
    print(train_command(best.params, arguments, len(architecture.exits)))
    return 0


def suggest(trial: Any, arguments: argparse.Namespace, num_exits: int) -> tuple[TrainingConfig, dict[str, Any], float]:
    """What a trial tries: the training's settings, changes of the architecture, and the strength of augmentation."""
    early = trial.suggest_float('early_weight', 0.1, 1.0, log=True) if num_exits > 1 else 1.0
    config = TrainingConfig(
        batch_size=arguments.batch_size, epochs=arguments.epochs, seed=arguments.seed, balance=arguments.balance,
        lr=trial.suggest_float('lr', 2e-5, 3e-3, log=True),
        weight_decay=trial.suggest_float('weight_decay', 1e-3, 0.3, log=True),
        distillation=trial.suggest_float('distillation', 0.0, 0.9) if num_exits > 1 else 0.0,
        loss_weights=(early,) * (num_exits - 1) + (1.0,))
    strength = 0.0
    if arguments.augment != 'none':
        strength = trial.suggest_float('augment_strength', 0.0, 2.0)
    model: dict[str, Any] = {}
    if arguments.search_attention:
        model['attention'] = trial.suggest_categorical('attention', ('favor_softmax', 'favor_relu', 'softmax'))
        if model['attention'] != 'softmax':
            model['feature_map_dim'] = trial.suggest_categorical('feature_map_dim', (32, 64, 128, 256))
    return config, model, strength


def train_command(params: dict[str, Any], arguments: argparse.Namespace, num_exits: int) -> str:
    """The command line that trains with what a trial tried, for a whole run."""
    words = ['python', '-m', 'vit_tactile_ros.train']
    defaults = vars(parse_arguments(['--data', str(arguments.data)]))
    for name in ('data', 'label', 'group', 'image', 'reference', 'split', 'splits', 'labels', 'reference_image',
                 'control', 'border', 'input', 'split_by', 'validation', 'test', 'split_seed', 'epoch_size',
                 'validation_size', 'sensors', 'batch_size', 'augment', 'init', 'exits', 'image_size', 'seed'):
        value = getattr(arguments, name)
        if name == 'data' or value != defaults[name]:
            words += [f'--{name}', *(str(v) for v in (value if isinstance(value, (list, tuple)) else [value]))]
    if arguments.balance:
        words.append('--balance')
    for name, value in params.items():
        if name == 'early_weight':
            words += ['--loss_weights', *[_short(value)] * (num_exits - 1), '1']
        else:
            words += [f'--{name}', _short(value)]
    return shlex.join(words)


def _open_storage(url: str) -> Any:
    """The database of studies, reached once; raises UserError, without the URL's password, where it can't be."""
    import optuna

    if url.startswith('sqlite:///'):
        check_writable(Path(url.removeprefix('sqlite:///').partition('?')[0]).expanduser())
    try:
        storage = optuna.storages.get_storage(url)
        storage.get_all_studies()
        return storage
    except Exception as error:
        # The database library's own errors have many types; all mean that this storage can't be had. Not `from error`:
        # its text may hold the password.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(_without_password(f'--storage {url}: {reason}; give a database like sqlite:///runs/tune.db',
                                          url)) from None


def _without_password(text: str, url: str) -> str:
    """`text` without the password of a database's URL, as it stands there or decoded."""
    before, at, _ = url.rpartition('@')
    secrets = [(before.partition('://')[2] or before).partition(':')[2]] if at else []
    secrets += parse_qs(url.partition('?')[2]).get('password', [])
    for secret in filter(None, secrets):
        for written in (secret, quote(secret), unquote(secret)):
            text = text.replace(written, '***')
    return redacted(text)


def _open_study(storage: Any, arguments: argparse.Namespace, architecture: ModelConfig, data: TrainingData,
                input_kind: str) -> Any:
    """The study of that name, new or not; raises UserError when it was started on something else."""
    import optuna

    # Not seeded: processes that share a study would all try the same.
    study = optuna.create_study(
        storage=storage, study_name=arguments.study, direction='maximize', load_if_exists=True,
        sampler=optuna.samplers.TPESampler(multivariate=False),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1 + max(1, arguments.epochs // 5)))
    asked = {name: str(getattr(arguments, name)) for name in (
        'epochs', 'batch_size', 'objective', 'search_attention', 'augment', 'balance', 'init', 'seed')}
    asked |= {name: str(value) for name, value in data.settings.items()} | {'input': input_kind}
    asked |= {name: str(getattr(architecture, name)) for name in ('exits', 'image_size', 'num_classes')}
    before = study.user_attrs.get('settings')
    if before is None:
        study.set_user_attr('settings', asked)
    elif changed := [name for name in asked if before.get(name) != asked[name]]:
        raise UserError(f'the study {arguments.study!r} was started with {changed[0]} {before.get(changed[0])}, now '
                        f'it is {asked[changed[0]]}: accuracies could not be compared; give another --study')
    return study


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() and not trial.user_attrs.get('interrupted')
               for trial in study.get_trials(deepcopy=False))


def _short(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) and math.isfinite(value) else str(value)


if __name__ == '__main__':
    sys.exit(main())
