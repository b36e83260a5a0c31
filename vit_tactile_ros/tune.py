"""Search for good training settings with Optuna.

Trials are stored in --storage, so a search can be stopped, resumed and shared: the same command in several terminals
(or, with a database server as storage, on several machines) works on the same study.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote

import torch

from vit_tactile_ros import flags
from vit_tactile_ros.data.augment_config import Augmentation
from vit_tactile_ros.data.source import empty_part, read_table
from vit_tactile_ros.foundation.command import command, redacted
from vit_tactile_ros.foundation.command_flags import HIDDEN, Flag, flag
from vit_tactile_ros.foundation.errors import MissingPackageError, RunError, UserError, check_least
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.inference.runtime import select_device
from vit_tactile_ros.model import ModelConfig, PreprocessingConfig, ViTTactile
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.datasets import (
    TrainingData,
    TrainingSource,
    choose_augmentation,
    choose_preprocessing,
    class_names_of,
    prepare_data,
)
from vit_tactile_ros.training.initialise import Start, heads_are_new, start_from_all
from vit_tactile_ros.training.loop import TrainingError, fit
from vit_tactile_ros.training.request import TrainingRequest
from vit_tactile_ros.training.run import Examples, Machine, Recipe
from vit_tactile_ros.training.settings import INPUTS

EXAMPLES = (
    '--trials 20',
    '--data touches --init shipped --trials 20 --epochs 5 --study bolts',
    '--data touches --storage postgresql://me@server/studies --study bolts',
)


@dataclass(frozen=True)
class Search:
    """The settings of a search; raises UserError naming the field that is wrong."""

    trials: int = flag(20, 'number of trials in the study, over all processes and earlier runs')
    storage: str = flag('sqlite:///runs/tune.db', 'database of the study', 'URL')
    study: str = flag('vit_tactile', 'name of the study in the storage')
    objective: Literal['mean', 'last'] = flag(
        'mean', 'validation accuracy to maximise: mean of the exits, or the last one')
    search_attention: bool = flag(False, 'also search the attention kernel and its number of random features')
    config: TrainingConfig = TrainingConfig(epochs=10)
    augmentation: Augmentation = Augmentation()
    start: Start = Start()
    device: str = flag('auto', flags.DEVICE)
    workers: int = flag(1, flags.WORKERS)
    data: TrainingSource = TrainingSource()

    def __post_init__(self) -> None:
        check_least(self, trials=1, workers=0)


FLAGS = {
    'batch_size': Flag('examples per step'),
    'epochs': Flag('epochs per trial; poor trials end earlier'),
    'seed': Flag('seed of every trial: weights, order, augmentation'),
    'augment': Flag('variations of the images; auto: gel for images, simulated for simulated touches; their strength '
                    'is searched'),
    # Searched, or as train has them.
    **dict.fromkeys(('lr', 'head_lr_factor', 'warmup', 'weight_decay', 'loss_weights', 'distillation', 'teacher',
                     'exit_gradient', 'distillation_temperature', 'label_smoothing', 'freeze', 'ema', 'precision',
                     'augment_strength', 'attention', 'stem', 'feature_map_dim', 'queries',
                     'added_exits'), HIDDEN),
}


def parse_arguments(argv: list[str] | None = None) -> Search:
    return flags.parse('tune', __doc__, EXAMPLES, Search, argv, FLAGS)


@command('tune')
def main(argv: list[str] | None = None) -> int:
    search = parse_arguments(argv)
    logging.getLogger('vit_tactile_ros.training.datasets').setLevel(logging.INFO)  # logs the chosen input
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError(f"{error}: pip install optuna, or the extra: pip install 'vit_tactile_ros[tune]'"
                                  ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return _search(search)
    except optuna.exceptions.StorageInternalError as error:
        raise RunError(_without_password(f'--storage {search.storage}: {error}', search.storage)) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt('stopped; the finished trials are stored: run the same command to resume') from None


def _search(search: Search) -> int:
    import optuna

    device, start, source = select_device(search.device), search.start, search.data.source
    storage = _open_storage(search.storage)
    table = read_table(source)
    checkpoints = start.load()
    class_names = class_names_of(table, search.data.task)
    architecture = start.architecture(checkpoints, len(class_names))
    preprocessing = choose_preprocessing(table, architecture.image_size, search.data.input,
                                         checkpoints[0] if checkpoints else None, source.control,
                                         search.data.motion, search.data.default_motion,
                                         search.data.motion_views, search.data.zoom_below)
    architecture = start.for_inputs(architecture, preprocessing)
    search = dataclasses.replace(search, config=search.config.for_heads(heads_are_new(checkpoints, class_names),
                                                                        architecture.depth))
    data = prepare_data(table, search.data, preprocessing, search.config, search.workers)
    if data.validation is None:
        assert table is not None  # simulated data always has a validation part
        raise empty_part(search.data.split, table, 'validation')
    study = _open_study(storage, search, architecture, data, preprocessing)

    def run(trial: optuna.Trial) -> float:
        config, model_settings, augmentation = settings_of(suggest(trial, search, len(architecture.exits)), search,
                                                           len(architecture.exits))
        torch.manual_seed(config.seed)
        model = ViTTactile(dataclasses.replace(architecture, **model_settings))
        start_from_all(model, checkpoints, class_names)
        scores: list[float] = []

        def report(epoch: int, metrics: dict[str, float]) -> None:
            exits = [metrics[f'accuracy_block_{block}'] for block in architecture.exits]
            scores.append(exits[-1] if search.objective == 'last' else sum(exits) / len(exits))
            trial.report(scores[-1], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        recipe = Recipe(preprocessing, config, choose_augmentation(augmentation, source))
        fit(model, Examples(data.train, data.validation, data.order), recipe, Machine(device, search.workers),
            on_epoch=report)
        return scores[-1]

    while (done := _finished(study)) < search.trials:
        trial = study.ask()
        started = time.monotonic()
        try:
            study.tell(trial, score := run(trial))
            outcome = f'{score:.4f}'
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            outcome = 'pruned'
        except TrainingError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            outcome = f'failed: {error}'
        except BaseException:
            # Otherwise it would count as running for ever.
            trial.set_user_attr('interrupted', True)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        tried = ', '.join(f'{name} {_short(value)}' for name, value in trial.params.items())
        print(f'trial {trial.number + 1}, {done + 1} of {search.trials}: {outcome}, '
              f'{time.monotonic() - started:.0f} s, {tried}', flush=True)
    if not any(t.state == optuna.trial.TrialState.COMPLETE for t in study.trials):
        print('tune: no trial was completed; see the failures above', file=sys.stderr)
        return 1
    best = study.best_trial
    print(f'best is trial {best.number + 1}: validation accuracy ({search.objective}) {best.value:.4f}')
    print(train_command(best.params, search, len(architecture.exits)))
    return 0


def suggest(trial: Any, search: Search, num_exits: int) -> dict[str, Any]:
    """The parameters that a trial tries."""
    if num_exits > 1:
        trial.suggest_float('early_weight', 0.1, 1.0, log=True)
    trial.suggest_float('lr', 2e-5, 3e-3, log=True)
    trial.suggest_float('weight_decay', 1e-3, 0.3, log=True)
    if num_exits > 1:
        trial.suggest_float('distillation', 0.0, 0.9)
    if search.augmentation.augment != 'none':
        trial.suggest_float('augment_strength', 0.0, 2.0)
    if search.search_attention:
        if trial.suggest_categorical('attention', ('favor_softmax', 'favor_relu', 'softmax')) != 'softmax':
            trial.suggest_categorical('feature_map_dim', (32, 64, 128, 256))
    return dict(trial.params)


def settings_of(params: dict[str, Any], search: Search, num_exits: int,
                ) -> tuple[TrainingConfig, dict[str, Any], Augmentation]:
    """The parameters of a trial as training settings, changes of the architecture, and augmentation."""
    config = dataclasses.replace(
        search.config, lr=params['lr'], weight_decay=params['weight_decay'],
        distillation=params.get('distillation', 0.0),
        loss_weights=(params.get('early_weight', 1.0),) * (num_exits - 1) + (1.0,))
    model: dict[str, Any] = {name: params[name] for name in ('attention', 'feature_map_dim') if name in params}
    return config, model, dataclasses.replace(search.augmentation,
                                              augment_strength=params.get('augment_strength', 0.0))


def train_command(params: dict[str, Any], search: Search, num_exits: int) -> str:
    """The command line of a whole training with the parameters of a trial."""
    rounded = {name: float(_short(value)) if isinstance(value, float) else value for name, value in params.items()}
    config, model, augmentation = settings_of(rounded, search, num_exits)
    return flags.command_of('train', TrainingRequest(
        config=dataclasses.replace(config, epochs=TrainingConfig().epochs), augmentation=augmentation,
        start=dataclasses.replace(search.start, **model), data=search.data))


def _open_storage(url: str) -> Any:
    """The database of studies, after a first access; raises UserError, without the password of the URL, if it fails."""
    import optuna

    if url.startswith('sqlite:///'):
        check_writable(Path(url.removeprefix('sqlite:///').partition('?')[0]).expanduser())
    try:
        storage = optuna.storages.get_storage(url)
        storage.get_all_studies()
        return storage
    except Exception as error:
        # The errors of the database library have many types; all mean that this storage is not usable. Not `from
        # error`: its text may contain the password.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(_without_password(f'--storage {url}: {reason}; give a database like sqlite:///runs/tune.db',
                                          url)) from None


def _without_password(text: str, url: str) -> str:
    """`text` without the password of a database's URL, encoded or decoded."""
    before, at, _ = url.rpartition('@')
    secrets = [(before.partition('://')[2] or before).partition(':')[2]] if at else []
    secrets += parse_qs(url.partition('?')[2]).get('password', [])
    for secret in filter(None, secrets):
        for written in (secret, quote(secret), unquote(secret)):
            text = text.replace(written, '***')
    return redacted(text)


def _open_study(storage: Any, search: Search, architecture: ModelConfig, data: TrainingData,
                preprocessing: PreprocessingConfig) -> Any:
    """The study of that name, new or not; raises UserError when it was started with other settings."""
    import optuna

    # Not seeded: processes that share a study would all try the same parameters.
    study = optuna.create_study(
        storage=storage, study_name=search.study, direction='maximize', load_if_exists=True,
        sampler=optuna.samplers.TPESampler(multivariate=False),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1 + max(1, search.config.epochs // 5)))
    asked = {name: str(getattr(search.config, name))
             for name in ('epochs', 'batch_size', 'balance', 'seed', 'head_lr_factor')}
    asked |= {'objective': search.objective, 'search_attention': str(search.search_attention),
              'augment': search.augmentation.augment, 'init': search.start.origin or 'None'}
    asked |= {name: str(value) for name, value in data.settings.items()}
    # The values in effect: a flag that was left out stands for those of the checkpoint, which may change.
    asked |= {'input': INPUTS[preprocessing.reference], 'motion': str(float(preprocessing.motion_interval)),
              'motion_views': str(preprocessing.motion_views), 'zoom_below': str(float(preprocessing.zoom_below))}
    asked |= {name: str(getattr(architecture, name)) for name in ('exits', 'image_size', 'num_classes')}
    before = study.user_attrs.get('settings')
    if before is None:
        study.set_user_attr('settings', asked)
        return study
    before = {'zoom_below': '0.0', 'head_lr_factor': '1.0'} | before  # older studies have no entry
    # Older studies have an entry for motion only if the flag was given: left out both times, it is the default, but
    # that of a checkpoint may have changed since.
    unknown = {name for name in ('motion', 'motion_views')
               if not search.start.origin and name not in before and getattr(search.data, name) is None}
    if changed := [name for name in asked if name not in unknown and before.get(name) != asked[name]]:
        raise UserError(f'the study {search.study!r} was started with {changed[0]} {before.get(changed[0])}, now '
                        f'it is {asked[changed[0]]}: accuracies would not be comparable; give another --study')
    return study


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() and not trial.user_attrs.get('interrupted')
               for trial in study.get_trials(deepcopy=False))


def _short(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) and math.isfinite(value) else str(value)


if __name__ == '__main__':
    sys.exit(main())
