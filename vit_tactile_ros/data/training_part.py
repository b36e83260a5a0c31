"""Which images of the user's trained a network, so that no later command judges it on them."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path

from vit_tactile_ros.data.table import DataError, TouchTable

# What a table and its parts depend on besides the files; a command has those that it uses.
FLAGS = ('label', 'group', 'image', 'split', 'splits', 'labels', 'split_by', 'validation', 'test', 'split_seed',
         'folds')


def digest(table: TouchTable) -> str:
    """A name of the images and their labels and groups that changes with them, but not with the folder they lie in."""
    lines = [f'{touch.image.path.name} {touch.image.topic} {touch.image.stamp} {touch.label} {touch.group}'
             for touch in table.touches]
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12]


def training_part(arguments: argparse.Namespace, table: TouchTable, train: TouchTable) -> dict[str, str]:
    """What tells the training images `train` of `table` from others, as text for a checkpoint's provenance."""
    # Hashed, since a checkpoint is given away and a path may name its owner.
    place = hashlib.sha256(str(Path(arguments.data).expanduser().resolve()).encode()).hexdigest()[:12]
    flags = {name: getattr(arguments, name) for name in FLAGS if hasattr(arguments, name)}
    return {'place': place, 'all': f'{len(table)} images, {digest(table)}',
            'train': f'{len(train)} images, {digest(train)}',
            **{name: ' '.join(value) if isinstance(value, list) else str('' if value is None else value)
               for name, value in flags.items()}}


def check_training_part(before: Mapping[str, str], now: Mapping[str, str], origin: str) -> None:
    """Raises DataError where data that trained a network is now parted in another way, naming the flag or the change.

    `before` is the `training_part` that the network was trained on ({}: unknown, or simulated), `now` that of the data
    it is to be judged on, of which `origin` is the name for people. Other data is fine.
    """
    same_data = before and (before['place'] == now['place'] or before['all'] == now['all'])
    if not same_data or before['train'] == now['train']:
        return
    why = 'so that the parts are others, and the network would be judged on images that it was trained on'
    for name in FLAGS:
        if name in before and before[name] != now.get(name, ''):
            raise DataError(f'{origin}: this checkpoint was trained with --{name} {before[name] or "(not given)"}, now '
                            f'it is {now.get(name) or "(not given)"}, {why}; give the same --{name}, or other data')
    raise DataError(f'{origin}: the data has changed since this checkpoint was trained on {before["train"]} of '
                    f'{before["all"]}; now it would be {now["train"]} of {now["all"]}, {why}; train again, bring back '
                    'the data, or put the images to judge on in a place of their own')
