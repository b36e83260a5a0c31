"""Flags of a command from a frozen dataclass, the settings from the parsed flags, and a command line from settings.

A field of the dataclass gives the name, the type and the default of a flag, a `Flag` gives the rest. Fields that are
dataclasses themselves contribute their fields.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.errors import UserError

Settings = TypeVar('Settings')
REQUIRED = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class Flag:
    """What --help shows of a field, and what its type does not determine."""

    help: str = ''
    metavar: str | tuple[str, ...] | None = None
    choices: tuple[str, ...] | None = None  # default: those of a Literal
    name: str = ''  # default: that of the field
    const: str | None = None  # the value of a flag that is given without one
    is_positional: bool = False
    is_required: bool = False


HIDDEN = Flag()  # of a field that the command sets itself


def flag(default: Any, help: str | Flag, metavar: str | tuple[str, ...] | None = None, **others: Any) -> Any:
    """A field with its flag, for a dataclass that only one command uses; `REQUIRED` means no default."""
    found = help if isinstance(help, Flag) else Flag(help, metavar, **others)
    return dataclasses.field(default=default, metadata={'flag': found})


@dataclasses.dataclass(frozen=True)
class Field:
    owner: Any  # the dataclass
    name: str
    type: Any
    default: Any
    flag: Flag | None


FlagOf = Callable[[Field], Flag]


def fields_of(settings: type, default: Any = None) -> Iterator[Field]:
    """Every field that is not a dataclass, depth first; `default` is an instance that replaces the class's defaults."""
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        value = _default(field, default)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from fields_of(hints[field.name], None if value is REQUIRED else value)
        else:
            yield Field(settings, field.name, hints[field.name], value, field.metadata.get('flag'))


def build(settings: type[Settings], values: Mapping[str, Any], default: Any = None) -> Settings:
    """`settings` with these values by field name and defaults elsewhere; raises what the dataclasses raise."""
    hints = typing.get_type_hints(settings)
    arguments = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        value = _default(field, default)
        if dataclasses.is_dataclass(hints[field.name]):
            arguments[field.name] = build(hints[field.name], values, None if value is REQUIRED else value)
        else:
            arguments[field.name] = values.get(field.name, value)
    return settings(**arguments)


def flatten(settings: Any) -> dict[str, Any]:
    """The values of all fields by name, as `fields_of` lists them."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        values |= flatten(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return values


def command_words(settings: Any, flag_of: FlagOf) -> list[str]:
    """The flags that are not at their default: parsed again they give equal settings."""
    values = flatten(settings)
    positional, options = [], []
    for field in fields_of(type(settings)):
        flag, value = flag_of(field), values[field.name]
        if flag is HIDDEN or (value == field.default and not flag.is_required):
            continue
        texts = [] if value is True else [str(v) for v in (value if isinstance(value, tuple) else (value,))]
        if flag.is_positional:
            positional += texts
        elif len(texts) == 1 and texts[0].startswith('-'):
            options.append(f'{_option(flag, field.name)}={texts[0]}')
        else:
            options += [_option(flag, field.name), *texts]
    return positional + options


def module_command(name: str, words: Sequence[str]) -> str:
    return shlex.join(['python', '-m', f'vit_tactile_ros.{name}', *words])


def parse_settings(parser: CommandParser, settings: type[Settings], flag_of: FlagOf, titles: Mapping[str, str],
                   argv: Sequence[str] | None) -> Settings:
    """The settings from the flags of a command, which are the fields of the dataclass `settings`.

    Ends the process with status 2 where a flag or a combination of flags is wrong.
    titles: of the groups that --help shows, by the name of the dataclass.
    """
    options: dict[str, str] = {}  # flags by the name of their field
    groups: dict[Any, Any] = {}
    fields = [(field, flag) for field in fields_of(settings) if (flag := flag_of(field)) is not HIDDEN]
    for field, flag in fields:
        title = titles.get(field.owner.__name__)
        if title and title not in groups:
            groups[title] = parser.add_argument_group(title)
        words: dict[str, Any] = {}
        if not flag.is_positional:
            options[field.name] = _option(flag, field.name)
            words = {'dest': field.name, 'required': flag.is_required or field.default is REQUIRED}
        groups.get(title, parser).add_argument(options.get(field.name, field.name), **words, **_argument(field, flag))
    parsed = vars(parser.parse_args(argv))
    values = {}
    for field, _ in fields:
        value = parsed[field.name]
        if isinstance(value, list):
            value = tuple(value) or field.default
        values[field.name] = field.default if value is None else value
    try:
        return build(settings, values)
    except UserError as error:
        # The message starts with the name of a field.
        parser.error(re.sub(r'^\w+', lambda found: options.get(found[0], found[0]), str(error)))


def _option(flag: Flag, name: str) -> str:
    return f'--{flag.name or name}'


def _default(field: dataclasses.Field[Any], instance: Any) -> Any:
    if instance is not None:
        return getattr(instance, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _required_type(hint: Any) -> Any:
    """X of X | None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _argument(field: Field, flag: Flag) -> dict[str, Any]:
    """The keywords of `add_argument` for a field."""
    if field.type is bool:
        return {'action': 'store_true', 'help': flag.help}
    kind, nargs = _required_type(field.type), None
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        kind = kinds[0]
        nargs = '+' if kinds[-1] is Ellipsis else len(kinds)
    choices = flag.choices
    if typing.get_origin(kind) is typing.Literal:
        choices, kind = choices or typing.get_args(kind), str
    if kind not in (str, int, float, Path):
        raise TypeError(f'{field.owner}.{field.name}: no flag can be made of {field.type}')
    default = field.default
    if default is REQUIRED or default == () or flag.is_required:
        default = None
    if flag.const is not None:
        nargs = '?'
    found = {'type': kind, 'nargs': nargs, 'const': flag.const, 'choices': choices, 'metavar': flag.metavar,
             'default': list(default) if isinstance(default, tuple) and nargs else default, 'help': flag.help}
    return {name: value for name, value in found.items() if value is not None}
