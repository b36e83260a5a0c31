"""A number of things in a sentence."""

from __future__ import annotations


def counted(count: int, one: str, many: str = '') -> str:
    """'1 image' or '2 images'; many: the plural, by default `one` with an s."""
    return f'{count} {one if count == 1 else many or one + "s"}'
