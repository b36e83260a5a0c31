"""Settings that must match for a run to resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_tactile_ros.foundation.errors import UserError

# What --input calls the values of `PreprocessingConfig.reference`.
INPUTS = {'difference': 'difference', 'none': 'frame'}
# The values of settings that did not exist when a run was started.
BEFORE = {'freeze': 0, 'references': '', 'token_threshold': 0.0, 'teacher': 'last', 'exit_gradient': 1.0,
          'head_lr_factor': 1.0, 'queries': 0, 'added_exits': False}
BEFORE_IN_PREPROCESSING = {'motion_interval': 0.0, 'motion_views': 1, 'motion_std': 0.04, 'zoom_below': 0.0,
                           'zoom_to': 0.16}


class SettingsError(UserError):
    """A run that was started with other settings than those it should resume with."""


def check_settings(state: Mapping[str, Any], settings: Mapping[str, Any], class_names: Sequence[str],
                   output: Path | None) -> None:
    """Raises SettingsError naming the first setting, or the classes, that differ from those of the state.

    The number of epochs may change, but not below those that are done. A state without 'epoch' belongs to a finished
    run, whose number of epochs must match as well.
    """
    if list(state['class_names']) != list(class_names):
        raise SettingsError(f'{output} was started with the classes {", ".join(state["class_names"])}; now they are '
                            f'{", ".join(class_names)}: give the same --data, --label and --task to resume, or '
                            'another --output (with --init to start from these weights)')
    before = state['settings']
    for name, value in settings.items():
        then = before.get(name, BEFORE.get(name))
        if name == 'preprocessing' and then:
            then = BEFORE_IN_PREPROCESSING | then
        if name == 'channels':  # follow from the motion
            continue
        if name == 'epochs' and 'epoch' in state:
            if value < state['epoch'] + (state['step'] > 0):
                done = f'{state["epoch"]} epochs' + (' and a part of another' if state['step'] else '')
                raise SettingsError(f'{output} has finished {done} already; --epochs {value} is less')
        elif then != value:
            if name == 'preprocessing' and then and then['reference'] != value['reference']:
                name, then, value = 'input', INPUTS[then['reference']], INPUTS[value['reference']]
            elif name == 'preprocessing' and then and then['motion_interval'] != value['motion_interval']:
                name, then, value = 'motion', then['motion_interval'], value['motion_interval']
            elif name == 'preprocessing' and then and then['motion_views'] != value['motion_views']:
                name, then, value = 'motion_views', then['motion_views'], value['motion_views']
            elif name == 'preprocessing' and then and then['zoom_below'] != value['zoom_below']:
                name, then, value = 'zoom_below', then['zoom_below'], value['zoom_below']
            elif name == 'token_threshold':  # the flag is in grey levels
                then, value = (round(v * 255 * max(settings['preprocessing']['std']), 3) for v in (then, value))
            raise SettingsError(f'{output} was started with --{name} {_flag(then)}, now it is '
                                f'{_flag(value)}: give the same settings to resume, or another --output')


def _flag(value: Any) -> str:
    if isinstance(value, list):
        return ' '.join(str(v) for v in value)
    return '(not given)' if value in ('', None) else str(value)
