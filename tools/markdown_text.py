"""Plain text and tables as Markdown."""

from __future__ import annotations

import re


def prose(text: str) -> str:
    """Plain text as Markdown in one line: flags become code, special characters are escaped."""
    parts = re.split(r'(`[^`]*`)', ' '.join(text.split()))
    for i in range(0, len(parts), 2):
        escaped = re.sub(r'([\\*<>\[\]|])', r'\\\1', parts[i])
        parts[i] = re.sub(r'(?<![\w-])(--[a-z][\w-]*)', r'`\1`', escaped)
    return ''.join(part.replace('|', r'\|') if i % 2 else part for i, part in enumerate(parts))


def code(text: str) -> str:
    return '`' + text.replace('|', r'\|') + '`' if text else ''


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, tuple('---' for _ in columns), *rows]
    return ''.join(f'| {" | ".join(row)} |\n'.replace('|  |', '| |') for row in lines)


def first_sentence(docstring: str | None) -> str:
    """The first line of a docstring, or its first paragraph where the sentence is longer."""
    return ' '.join((docstring or '').split('\n\n')[0].split())


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
