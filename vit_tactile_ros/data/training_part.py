"""Which of the user's images a network was trained on, so that no later command evaluates it on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_tactile_ros.data.source import DataSource
from vit_tactile_ros.data.table import DataError, TouchTable

# What a table depends on besides its files, and what its parts depend on.
_TABLE = ('label', 'group', 'image', 'split', 'splits', 'labels')
_PARTS = ('split_by', 'validation', 'test', 'split_seed', 'folds')


def digest(table: TouchTable) -> str:
    """A name of the images and their labels and groups that changes with them, but not with their folder."""
    lines = [f'{touch.image.path.name} {touch.image.topic} {touch.image.stamp} {touch.label} {touch.group}'
             for touch in table.touches]
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12]


def training_part(source: DataSource, parted: Mapping[str, Any], table: TouchTable, train: TouchTable,
                  ) -> dict[str, str]:
    """What identifies the training images `train` of `table`, as text for a checkpoint's provenance.

    parted: the settings that the parts depend on, by the names of their flags.
    """
    # Checkpoints are published: they store paths as the user typed them, in the command, but not the absolute path,
    # which may contain its owner's name.
    place = hashlib.sha256(str(Path(source.data).expanduser().resolve()).encode()).hexdigest()[:12]
    settings = {name: getattr(source, name) for name in _TABLE} | dict(parted)
    return {'place': place, 'all': f'{len(table)} images, {digest(table)}',
            'train': f'{len(train)} images, {digest(train)}',
            **{name: ' '.join(value) if isinstance(value, tuple) else str('' if value is None else value)
               for name, value in settings.items()}}


def check_training_part(before: Mapping[str, str], now: Mapping[str, str], origin: str) -> None:
    """Raises DataError where data that trained a network is now split differently, naming the setting or the change.

    `before` is the `training_part` that the network was trained on ({}: unknown, or simulated), `now` that of the data
    it is to be evaluated on, which messages call `origin`. Other data is accepted.
    """
    same_data = before and (before['place'] == now['place'] or before['all'] == now['all'])
    if not same_data or before['train'] == now['train']:
        return
    why = 'so the splits differ and the network would be evaluated on images that it was trained on'
    for name in (*_TABLE, *_PARTS):
        if name in before and before[name] != now.get(name, ''):
            raise DataError(f'{origin}: this checkpoint was trained with --{name} {before[name] or "(not given)"}, now '
                            f'it is {now.get(name) or "(not given)"}, {why}; give the same --{name}, or other data')
    raise DataError(f'{origin}: the data has changed since this checkpoint was trained on {before["train"]} of '
                    f'{before["all"]}; now it would be {now["train"]} of {now["all"]}, {why}; train again, restore '
                    'the data, or put the images for the evaluation in another place')
