"""The base class of mistakes that a user can correct."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the user gave: the message holds the wrong value, what would be right and where it came from.

    Commands print it as one line and exit with status 2. Any other exception is a bug.
    """
