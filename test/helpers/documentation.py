"""For tests of the README and docs/: the pages, their commands and their links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / 'README.md'
PAGES = [README, *sorted((ROOT / 'docs').rglob('*.md'))]


class Command(NamedTuple):
    """One command of a shell block; `line` is its first line in the page."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'


def without_code(text: str) -> str:
    """The page with its fenced blocks and inline code blanked out, line by line."""
    text = re.sub(r'^ *```.*?^ *```', lambda m: '\n' * m[0].count('\n'), text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r'`[^`\n]*`', '', text)


def commands(page: Path) -> list[Command]:
    """The commands of the page's shell blocks, continued lines joined, without comments."""
    found: list[Command] = []
    joined, started, is_shell = '', 0, False
    for number, line in enumerate(page.read_text(encoding='utf-8').splitlines(), 1):
        if line.lstrip().startswith('```'):  # also those of a list, which are indented
            is_shell = line.strip() == '```sh'
        elif is_shell and line.strip():
            started = started if joined else number
            joined += line.split(' #')[0].strip()
            if joined.endswith('\\'):
                joined = joined[:-1]
                continue
            found.append(Command(page, started, joined))
            joined = ''
    return found


def of_package(text: str) -> tuple[str, list[str]] | None:
    """(command, arguments) if the text starts a command of this package, otherwise None."""
    words = shlex.split(text)
    while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
        words = words[1:]
    if words[:2] == ['python', '-m'] and words[2].startswith('vit_tactile_ros.'):
        return words[2].removeprefix('vit_tactile_ros.'), words[3:]
    if words[:1] == ['vit-tactile'] and len(words) > 1:
        return words[1], words[2:]
    return None


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r'^#+ (.*)$', text, re.MULTILINE):
        plain = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).replace('`', '')
        anchor = re.sub(r'[^\w\- ]', '', plain.lower()).strip().replace(' ', '-')
        number = 1
        while anchor in found:
            anchor = f'{anchor.removesuffix(f"-{number - 1}")}-{number}'
            number += 1
        found.add(anchor)
    return found


def broken_links(page: Path) -> list[str]:
    """The links and images of a page without a file or heading, each with its line."""
    broken = []
    for number, line in enumerate(without_code(page.read_text(encoding='utf-8')).splitlines(), 1):
        for target in re.findall(r'\]\(([^)\s]+)[^)]*\)', line):
            if re.match(r'[a-z]+:', target):
                continue
            path, _, anchor = target.partition('#')
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or anchor and (file.suffix != '.md' or anchor not in anchors(file)):
                broken.append(f'{page.name}:{number}: {target}')
    return broken
