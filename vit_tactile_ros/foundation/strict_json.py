"""JSON from files that may be damaged or hostile: parsing, and conversion to dataclasses by their annotations."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import types
import typing
from typing import Any, Literal, TypeVar

from vit_tactile_ros.foundation.errors import shown

T = TypeVar('T')
MAX_ITEMS = 10_000  # of one list or object; far more than any file of this package has


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises only ValueError, for any text that is not valid JSON.

    Duplicate names in an object are refused. (Python's parser uses the last one, and raises RecursionError for deep
    nesting.)
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError('nested too deeply') from error


def build(kind: type[T], value: Any, where: str = '', *, use_defaults: bool = False) -> T:
    """The dataclass `kind` from parsed JSON; its fields are converted by their annotations, anything else is refused.

    `where` names the value in messages ('metadata model'); fields are appended to it ('metadata model.exits[2]').
    All fields are required; with `use_defaults`, only those without a default. Fields may be int, float (also from an
    integer), bool, str, Literal, tuple, dict with str keys, another dataclass, or one of these or None. Raises
    ValueError with the field, its value and what would be right; messages of `__post_init__` must begin with the name
    of the field.
    """
    if not isinstance(value, dict):
        raise ValueError(f'{where or "the value"} is {shown(value)}; must be an object')
    fields = _fields(typing.cast(Any, kind))
    if unknown := sorted(set(value) - set(fields)):
        raise ValueError(f'{joined(where, unknown[0])} is unknown; known are {", ".join(fields)}')
    if missing := [name for name, (_, has_default) in fields.items()
                   if name not in value and not (use_defaults and has_default)]:
        raise ValueError(f'{joined(where, missing[0])} is missing')
    values = {name: _convert(fields[name][0], item, joined(where, name), use_defaults) for name, item in value.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f'{where}.{error}' if where else str(error)) from error


def joined(where: str, name: str, dot: str = '.') -> str:
    """`where` extended by `name`, which comes from a file and may be any text."""
    if not (name.isidentifier() and len(name) <= 80):
        name = shown(name)
    return f'{where}{dot}{name}' if where else name


def _convert(hint: Any, value: Any, where: str, use_defaults: bool) -> Any:
    """`value` as the annotated type; refuses what Python would accept (True as 1, '4' as 4)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(arguments[0], value, where, use_defaults)
    if origin is Literal:
        _require(isinstance(value, str) and value in arguments, where, value, f'one of {", ".join(arguments)}')
        return value
    if origin is tuple:
        _require(isinstance(value, (list, tuple)), where, value, 'a list')
        if arguments[-1] is not Ellipsis:
            _require(len(value) == len(arguments), where, value, f'a list of {len(arguments)}')
            return tuple(_convert(part, item, where, use_defaults) for part, item in zip(arguments, value, strict=True))
        _require(len(value) <= MAX_ITEMS, where, value, f'a list of at most {MAX_ITEMS}')
        return tuple(_convert(arguments[0], item, f'{where}[{i}]', use_defaults) for i, item in enumerate(value))
    if origin is dict:
        _require(isinstance(value, dict), where, value, 'an object')
        _require(len(value) <= MAX_ITEMS, where, value, f'an object of at most {MAX_ITEMS}')
        return {name: _convert(arguments[1], item, joined(where, name), use_defaults) for name, item in value.items()}
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return build(hint, value, where, use_defaults=use_defaults)
    accepted = (int, float) if hint is float else hint
    _require(isinstance(value, accepted) and (hint is bool or not isinstance(value, bool)), where, value,
             f'of type {hint.__name__}')
    if hint is float:  # NaN too; an integer may be too large for a float
        _require(abs(value) <= sys.float_info.max, where, value, 'a finite number')
    if hint is int:
        _require(-2**63 <= value < 2**63, where, value, 'an integer of 64 bits')
    return hint(value)


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Type of each field, and whether it has a default."""
    hints = typing.get_type_hints(kind)
    return {field.name: (hints[field.name], field.default is not dataclasses.MISSING
                         or field.default_factory is not dataclasses.MISSING) for field in dataclasses.fields(kind)}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f'an object holds {shown(twice)} twice')
    return values


def _require(condition: bool, where: str, value: Any, right: str) -> None:
    if not condition:
        raise ValueError(f'{where} is {shown(value)}; must be {right}')
