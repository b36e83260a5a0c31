"""Find bags, and name them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vit_tactile_ros.data.table import DataError

SUFFIXES = ('.bag', '.mcap', '.db3')
WHAT_IS_A_BAG = 'a bag is a .bag, .mcap or .db3 file, or a folder with such files'


def is_recording(path: Path) -> bool:
    """Whether there is a bag, possibly a damaged one."""
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or any(file.suffix != '.bag' for file in bag_files(path))
    return _is_bag_file(path)


def find_recordings(paths: Iterable[Path]) -> list[Path]:
    """The bags at `paths`, each one or a folder (of folders) of them; DataError if there is none."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f'{path} does not exist; {WHAT_IS_A_BAG}')
        here = find_bags(path) if path.is_dir() else [path]
        if not here:
            raise DataError(f'{path} does not contain a bag; {WHAT_IS_A_BAG}')
        found += here
    return list(dict.fromkeys(found))


def find_bags(path: Path) -> list[Path]:
    """The bag at a path, or those in the folder and the folders in it; none if it is neither."""
    if is_recording(path):
        return [path]
    return [bag for child in sorted(path.iterdir(), key=natural) for bag in find_bags(child)
            ] if path.is_dir() else []


def unique_names(bags: Sequence[Path]) -> list[str]:
    """A short name for each: the stem; if two are equal, the whole name, with as many folders as needed."""
    names = [bag.stem for bag in bags]
    depth = 1
    while len(set(names)) < len(names) and depth < 20:
        twice = Counter(names)
        names = ['/'.join(bag.absolute().parts[-depth:]) if twice[name] > 1 else name
                 for name, bag in zip(names, bags, strict=True)]
        depth += 1
    return names


def bag_files(folder: Path) -> list[Path]:
    """The bag files of a folder, by their numbers."""
    return sorted((file for file in folder.iterdir() if _is_bag_file(file) and file.is_file()), key=natural)


def _is_bag_file(path: Path) -> bool:
    return path.suffix in SUFFIXES or (path.suffix == '.zstd' and Path(path.stem).suffix in SUFFIXES)


def natural(path: Path) -> list[tuple[int, str]]:
    """touch_2 before touch_10."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', path.name)]
