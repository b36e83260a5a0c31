"""The parser of every command: help with examples first, one-line errors, the nearest flag for an unknown one."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vit_tactile_ros import __version__
from vit_tactile_ros.foundation.interrupt import PROGRAM

WIDTH = 100  # characters, of the text above the usage


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except for flags that have none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default is None or action.default is False or action.default in ([], '')
        return action.help if none or action.default is argparse.SUPPRESS else super()._get_help_string(action)


class CommandParser(argparse.ArgumentParser):
    """The parser of the command `name`; `doc` is a summary, an empty line, and the rest.

    examples: arguments after the command's name, the simplest first; shown at the top of --help.
    """

    def __init__(self, name: str, doc: str | None, examples: Sequence[str], **others: Any) -> None:
        summary, _, rest = (doc or '').partition('\n\n')
        others.setdefault('formatter_class', HelpFormatter)
        super().__init__(prog=program(name), description=rest or None, **others)
        self.name = name
        self.summary = summary
        self.examples = tuple(examples)
        self.add_argument('--version', action='version', version=f'vit_tactile_ros {__version__}')

    def format_help(self) -> str:
        lines = [textwrap.fill(self.summary, WIDTH), '', 'examples:',
                 *(f'  {self.prog} {example}'.rstrip() for example in self.examples), '']
        return '\n'.join(lines) + '\n' + super().format_help()

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown(words)
        return super().parse_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.name}: {message}\n')

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        """Before argparse, which would report the misspelt required flag as missing instead."""
        known = [option for option in self._option_string_actions if option.startswith('--')]
        for word in words:
            if word == '--':
                return
            flag = word.partition('=')[0]
            if flag.startswith('--') and ' ' not in flag and not any(option.startswith(flag) for option in known):
                self.error(f'unknown flag {flag}{nearest(flag, known)}; {self.prog} --help lists the flags')


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the most similar known word; '' if none is similar."""
    names = {name.replace('-', '_').lower(): name for name in known}
    found = difflib.get_close_matches(word.replace('-', '_').lower(), names, 1)
    return f'; did you mean {names[found[0]]}?' if found else ''


def program(name: str = '') -> str:
    """How the command `name` was started, for its help; without a name, the program that lists all commands."""
    started = Path(sys.argv[0])
    if started.stem == PROGRAM:
        return f'{PROGRAM} {name}'.strip()
    if started.stem == '__main__' or not name:
        return f'python -m vit_tactile_ros {name}'.strip()
    return f'python -m vit_tactile_ros.{name}'
