"""Errors that are not bugs: mistakes that a user can correct, and runs that failed."""

from __future__ import annotations

import reprlib

LONGEST = 2000  # characters of a message

class UserError(ValueError):
    """A mistake in the user's input: the message has the wrong value, what would be right and where it came from.

    Commands print it as one line and exit with status 2. Any other exception except RunError and OSError is a bug.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """`message` as one line of at most LONGEST characters: files and messages can hold any text, also escape sequences
    of a terminal."""
    if not message.isprintable():
        message = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in message[:2 * LONGEST])
    return message if len(message) <= LONGEST else f'{message[:LONGEST - 303]}...{message[-300:]}'


def check_least(settings: object, **least: int) -> None:
    """Raises UserError naming the first of these fields of a dataclass that is below its smallest value."""
    for name, smallest in least.items():
        if (value := getattr(settings, name)) is not None and value < smallest:
            raise UserError(f'{name} is {value}; must be at least {smallest}')


class PassingError(UserError):
    """May pass without a change of the input, as a folder that is not mounted yet: nodes are started again."""


class MissingPackageError(UserError):
    """An optional package that is not installed; the message names the extra to install."""


class RunError(RuntimeError):
    """A run that failed although the user's input is correct, for instance a diverged loss.

    Commands print it as one line and exit with status 1, like an OSError (for instance a full disk).
    """


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 12
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80


def shown(value: object) -> str:
    """`repr` of a value for a message: one short line without control characters."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python refuses to print an integer of more than 4300 digits
        return 'an integer of thousands of digits'
    return text if len(text) <= 240 else f'{text[:200]}...{text[-37:]}'
