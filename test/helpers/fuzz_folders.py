"""Valid inputs in folders of their own."""

from __future__ import annotations

from pathlib import Path


def own(folder: Path, *files: tuple[str, bytes]) -> list[Path]:
    """Each file in a folder of its own."""
    return [written(made(folder / str(number)) / name, data) for number, (name, data) in enumerate(files)]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
