"""The page of all commands and their options, read from the parsers that the commands build."""

from __future__ import annotations

import argparse
import importlib
import re
import textwrap
from collections import Counter
from typing import NoReturn
from unittest import mock

from markdown_text import anchor, code, prose, table

from vit_tactile_ros.__main__ import COMMANDS
from vit_tactile_ros.foundation.command_line import CommandParser


class Captured(BaseException):
    """Carries the parser out of a command; a BaseException, so that no command catches it."""

    def __init__(self, parser: CommandParser) -> None:
        self.parser = parser


def commands() -> list[str]:
    return sorted(name for group in COMMANDS.values() for name in group)


def parser_of(command: str) -> CommandParser:
    def stop(parser: CommandParser, *_: object, **__: object) -> NoReturn:
        raise Captured(parser)

    module = importlib.import_module(f'vit_tactile_ros.{command}')
    with mock.patch.object(argparse.ArgumentParser, 'parse_args', stop), \
            mock.patch.object(argparse.ArgumentParser, 'parse_known_args', stop):
        try:
            module.parse_arguments([])
        except Captured as captured:
            return captured.parser
    raise RuntimeError(f'{module.__name__}.parse_arguments parses nothing')


def commands_page(note: str) -> str:
    names = commands()
    parsers = {name: parser_of(name) for name in names}
    groups = {name: option_groups(parsers[name]) for name in names}
    uses = Counter(body for name in names for _, body in groups[name])
    shared = {body: title for name in names for title, body in groups[name] if uses[body] > 1}
    text = (f'# Commands\n\n{note}\n`vit-tactile COMMAND ...` is the same as `python -m vit_tactile_ros.COMMAND ...`; '
            'without a command it lists the commands.\n\n')
    text += 'Exit status of all commands: 0 success, 1 failure, 2 wrong usage or input, 130 stopped with Ctrl-C.\n\n'
    rows = [(title, f'[`{name}`](#{name})', prose(parsers[name].summary)) for title, group in COMMANDS.items()
            for name in group]
    text += table(('to', 'command', ''), rows) + '\n'
    for name in names:
        text += f'## {name}\n\n{description(parsers[name])}'
        for title, body in groups[name]:
            if body in shared:
                text += f'Options for {title}: see [{title}](#{anchor(shared_title(title))}).\n\n'
            elif title in ('options', 'positional arguments'):
                text += body + '\n'
            else:
                text += f'Options for {title}:\n\n{body}\n'
    for body, title in shared.items():
        text += f'## {shared_title(title)}\n\nThe same in several commands.\n\n{body}\n'
    return text.rstrip('\n') + '\n'


def shared_title(title: str) -> str:
    return f'Shared options: {title}'


def option_groups(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """(title, Markdown table) of each group of arguments that is not empty."""
    found = []
    for group in parser._action_groups:
        rows = [(code(invocation(action)), default_of(action), prose(help_of(parser, action)))
                for action in group._group_actions if action.help != argparse.SUPPRESS and action.dest != 'help']
        if rows:
            is_positional = all(not action.option_strings for action in group._group_actions)
            if is_positional:
                found.append((group.title or '', table(('argument', 'meaning'), [(r[0], r[2]) for r in rows])))
            else:
                found.append((group.title or '', table(('option', 'default', 'meaning'), rows)))
    return found


def invocation(action: argparse.Action) -> str:
    """`--flag VALUE` as in the help, in the same form on every version of Python."""
    if action.choices is not None and action.metavar is None:
        value = '{' + ','.join(map(str, action.choices)) + '}'
    else:
        value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    words = value if isinstance(value, tuple) else (value,)
    first = ' '.join(words)
    if action.nargs in ('?', '*', '+'):
        shown = {'?': f'[{first}]', '*': f'[{first} ...]', '+': f'{first} [{first} ...]'}[str(action.nargs)]
    elif isinstance(action.nargs, int):
        shown = ' '.join(words if len(words) > 1 else words * action.nargs)
    else:
        shown = first
    return ' '.join([*action.option_strings[-1:], shown]).strip()


def help_of(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help without the default, which has its own column."""
    values = {**vars(action), 'prog': parser.prog}
    return re.sub(r' *\(default: %\(default\)s\)', '', action.help or '') % values


def default_of(action: argparse.Action) -> str:
    if action.required:
        return 'required'
    value = action.default
    if value is None or value is False or value == [] or value == argparse.SUPPRESS:
        return ''
    return code(' '.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))


def description(parser: CommandParser) -> str:
    """Summary, description and epilog as Markdown; indented lines become code blocks."""
    text = ''
    parts = (parser.summary, parser.description, parser.epilog)
    for block in re.split(r'\n\s*\n', '\n\n'.join(textwrap.dedent(part) for part in parts if part)):
        run: list[str] = []
        is_code = False
        for line in [*block.splitlines(), None]:
            changes = line is None or (line.startswith('  ') != is_code)
            if changes and run:
                text += (f'```text\n{textwrap.dedent(chr(10).join(run))}\n```\n\n' if is_code else
                         '\n'.join(textwrap.wrap(prose(' '.join(run)), 118, break_on_hyphens=False,
                                                 break_long_words=False)) + '\n\n')
                run = []
            if line is not None:
                is_code = line.startswith('  ')
                run.append(line.rstrip())
    return text
