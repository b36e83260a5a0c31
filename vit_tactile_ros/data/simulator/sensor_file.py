"""Sensor files: the figures of a sensor model as JSON, with where they come from."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import types
import typing
from pathlib import Path
from typing import Any

from vit_tactile_ros.foundation.errors import UserError

from .sensor import SensorConfig

_FOLDER = Path(__file__).parent / 'sensors'


class SensorFileError(UserError):
    """A sensor file that can't be used; the message names the file, the field and what would be right."""


def sensor_names() -> list[str]:
    """Names of the sensors that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob('*.json'))


def load_sensor(sensor: str | Path) -> SensorConfig:
    """The sensor of that name (see `sensor_names`), or of a file ending in .json.

    Raises SensorFileError for an unknown name and for a file with a missing, unknown or wrong value.
    """
    path = Path(sensor) if str(sensor).endswith('.json') else _FOLDER / f'{sensor}.json'
    if not path.is_file():
        raise SensorFileError(f'{sensor}: no such sensor; give a .json file or one of {", ".join(sensor_names())}')
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise SensorFileError(f'{path}: not JSON: {error}') from error
    try:
        config = _build(SensorConfig, values, '')
    except ValueError as error:
        raise SensorFileError(f'{path}: {error}') from error
    assert isinstance(config, SensorConfig)
    return config


def save_sensor(path: Path, config: SensorConfig) -> None:
    """Write `config` as a sensor file that `load_sensor` reads, whole or not at all. Raises OSError."""
    path = path.resolve()  # a link stays one
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with open(handle, 'w', encoding='utf-8') as file:
            file.write(json.dumps(dataclasses.asdict(config), indent=2) + '\n')
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp keeps the file to its owner
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` from JSON as the annotated type; fields with a default may be left out."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f'{where} is {value!r}; must be a list')
        if where.endswith('rgb') and len(value) != 3:
            raise ValueError(f'{where} is {value!r}; must be three numbers: red, green, blue')
        return tuple(_build(arguments[0], item, f'{where}[{i}]') for i, item in enumerate(value))
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f'{where or "the file"} is {value!r}; must be an object')
        fields = {field.name: field for field in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        if unknown := sorted(set(value) - set(fields)):
            raise ValueError(f'{where}.{unknown[0]} is unknown; known are {", ".join(fields)}'.lstrip('.'))
        missing = [name for name, field in fields.items() if name not in value
                   and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]
        if missing:
            raise ValueError(f'{where}.{missing[0]} is missing'.lstrip('.'))
        assert isinstance(kind, type)
        return kind(**{name: _build(hints[name], item, f'{where}.{name}'.lstrip('.'))
                       for name, item in value.items()})
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise ValueError(f'{where} is {value!r}; must be of type {kind.__name__}')
    if kind is float and not abs(value) <= sys.float_info.max:  # NaN too; an int may be too large for a float
        raise ValueError(f'{where} is {value!r}; must be a finite number')
    return kind(value)
