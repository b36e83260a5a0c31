"""What can go wrong without being a bug: mistakes that a user can correct, and runs that the machine ended."""

from __future__ import annotations

import reprlib


class UserError(ValueError):
    """A mistake in what the user gave: the message holds the wrong value, what would be right and where it came from.

    Commands print it as one line and exit with status 2. Any other exception is a bug, but for RunError and OSError.
    """


class MissingPackageError(UserError):
    """An optional package that is not installed; the message names the extra to install."""


class RunError(RuntimeError):
    """A run that could not be completed although nothing that the user gave is wrong, a loss that diverged say.

    Commands print it as one line and exit with status 1, as they do for an OSError (a full disk).
    """


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 12
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80


def shown(value: object) -> str:
    """`repr` of a value for a message: one line without control characters, and short whatever a file holds."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python refuses to print an integer of more than 4300 digits
        return 'an integer of thousands of digits'
    return text if len(text) <= 240 else f'{text[:200]}...{text[-37:]}'
