"""Something to report about the images of a sensor."""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    """Something to report about a sensor's images."""

    cause: str  # the same for notes that repeat one another
    text: str
    is_warning: bool = True
    is_lasting: bool = False  # holds for every image that follows: report it once
