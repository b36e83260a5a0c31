"""What may not change between the start of a run and its going on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_tactile_ros.data.augment import AUGMENTATIONS, AugmentConfig
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import ModelConfig, PreprocessingConfig
from vit_tactile_ros.training.config import TrainingConfig

# What --input calls the values of `PreprocessingConfig.reference`.
INPUTS = {'difference': 'difference', 'none': 'frame'}
# What runs did that were started before there was a setting for it.
BEFORE = {'freeze': 0, 'references': ''}


class SettingsError(UserError):
    """A run that was started with other settings than it is to go on with."""


def settings_of(model: ModelConfig, preprocessing: PreprocessingConfig, config: TrainingConfig, augment: AugmentConfig,
                others: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run by the names of their flags, as plain JSON values."""
    kind = next((name for name, make in AUGMENTATIONS.items() if make() == augment), dataclasses.asdict(augment))
    settings = {**dataclasses.asdict(model), **dataclasses.asdict(config),
                'loss_weights': config.weights(len(model.exits)), **others,
                'preprocessing': dataclasses.asdict(preprocessing), 'augment': kind}
    return dict(json.loads(json.dumps(settings)))


def check_settings(state: Mapping[str, Any], settings: Mapping[str, Any], class_names: Sequence[str],
                   output: Path | None) -> None:
    """Raises SettingsError naming the first setting, or the classes, that differ from those of the state.

    More or fewer epochs than planned are fine, but for fewer than are done. A state without 'epoch' is of a finished
    run: its number is as fixed as the rest.
    """
    if list(state['class_names']) != list(class_names):
        raise SettingsError(f'{output} was started with the classes {", ".join(state["class_names"])}; now they are '
                            f'{", ".join(class_names)}: give the same --data and --label to go on, or another --output '
                            '(with --init to start from these weights)')
    before = state['settings']
    for name, value in settings.items():
        then = before.get(name, BEFORE.get(name))
        if name == 'epochs' and 'epoch' in state:
            if value < state['epoch'] + (state['step'] > 0):
                done = f'{state["epoch"]} epochs' + (' and a part of another' if state['step'] else '')
                raise SettingsError(f'{output} has done {done} already; --epochs {value} is less')
        elif then != value:
            if name == 'preprocessing' and then and then['reference'] != value['reference']:
                name, then, value = 'input', INPUTS[then['reference']], INPUTS[value['reference']]
            raise SettingsError(f'{output} was started with --{name} {_flag(then)}, now it is '
                                f'{_flag(value)}: give the same settings to go on, or another --output')


def _flag(value: Any) -> str:
    if isinstance(value, list):
        return ' '.join(str(v) for v in value)
    return '(not given)' if value in ('', None) else str(value)
