"""Atomic writes: a file or folder appears complete or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


class WriteError(OSError):
    """A file that could not be written; the message names the file and the reason."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))
        self.path = path

    def __str__(self) -> str:
        return f'could not write {self.path}: {self.strerror}'


@contextlib.contextmanager
def written_whole(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yields a new, empty file beside `path` to write to; it replaces `path` when the block ends without an exception.

    The parent folder is created. If `path` is a symbolic link, its target is replaced. The mode follows the umask. The
    temporary name is random, so nobody else can prepare a file or link of that name. Raises WriteError for every
    OSError, also those raised in the block, and removes the temporary file. `sync` False is some milliseconds faster
    but not safe against a power cut: for a file that is one of many, or easy to write again.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = _target(path)
        name = temporary_beside(target)
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_NOFOLLOW', 0), 0o666))
        temporary = name
        yield temporary
        if sync:
            with temporary.open('rb+') as file:
                os.fsync(file.fileno())  # otherwise the file may be empty after a power cut
        os.replace(temporary, target)
        temporary = None
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def folder_written_whole(folder: str | Path) -> Iterator[Path]:
    """Yields a new folder beside `folder` to fill; it becomes `folder` when the block ends without an exception.

    `folder` may exist if it is empty. The temporary name is random, and what a killed process left under such a
    name is removed first: two processes must not make the same folder at a time. Raises WriteError for `folder`, also
    for a WriteError in the block; removes the temporary folder after any exception.
    """
    folder = Path(folder)
    if not folder.name:
        raise WriteError(folder, OSError(None, 'has no name; give the name of a new folder'))
    temporary = temporary_beside(folder)
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            for old in leftovers(folder):
                shutil.rmtree(old, ignore_errors=True)
            temporary.mkdir()
        except OSError as error:
            raise WriteError(folder, error) from error
        try:
            yield temporary
        except WriteError as error:
            raise WriteError(folder, error) from error
        try:
            os.replace(temporary, folder)
        except OSError as error:
            raise WriteError(folder, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def temporary_beside(path: Path) -> Path:
    """A hidden random name beside `path`, with its suffix, from which libraries choose the format."""
    return path.with_name(f'.{path.stem[:40]}.{secrets.token_hex(8)}{path.suffix}')


def leftovers(path: Path) -> list[Path]:
    """Files of `temporary_beside` that killed processes left; those of a running process look the same."""
    pattern = re.compile(rf'\.{re.escape(path.stem[:40])}\.[0-9a-f]{{16}}{re.escape(path.suffix)}')
    return [other for other in path.parent.iterdir() if pattern.fullmatch(other.name)]


def sync_folder(path: Path) -> None:
    """Flush the renames in a folder to disk; some file systems do not support or need it."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _target(path: Path) -> Path:
    """The file that writing to `path` replaces; raises OSError if it is not a regular file."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(None, _not_a_file(target.is_dir()))
    return target


def _not_a_file(is_folder: bool) -> str:
    return 'a folder' if is_folder else 'not a regular file'


def file_problem(path: str) -> str:
    """Why a user's path is not a readable file, '' if it is; expands `~`. Never raises.

    Possible failures: no permission, a name that is too long, a null byte, a loop of links, `~name` of an unknown user.
    """
    try:
        expanded = Path(path).expanduser()
        mode = expanded.stat().st_mode
        if not stat.S_ISREG(mode):
            return _not_a_file(stat.S_ISDIR(mode))
        with expanded.open('rb'):
            return ''
    except OSError as error:
        return error.strerror or str(error)
    except RuntimeError:
        return f'no user {path.partition("/")[0].removeprefix("~")!r}'
    except ValueError as error:  # a null byte
        return str(error)


def check_writable(path: str | Path, create: bool = True) -> None:
    """Raise WriteError if `path` cannot be written; for use before long work.

    Creates the parent folder (temporarily if `create` is False), but no file.
    """
    path = Path(path)
    try:
        _probe(_target(path).parent, create)
    except OSError as error:
        raise WriteError(path, error) from error


def check_folder_writable(folder: str | Path, create: bool = True) -> None:
    """As `check_writable`, for a folder; creates it, unless `create` is False."""
    folder = Path(folder)
    try:
        _probe(folder, create)
    except OSError as error:
        raise WriteError(folder, error) from error


def _probe(folder: Path, create: bool) -> None:
    made = [] if create else [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f'.{secrets.token_hex(8)}.probe'
        with probe.open('xb') as file:
            try:
                file.write(bytes(4096))  # on a full disk, creating an empty file succeeds
                file.flush()
                os.fsync(file.fileno())
            finally:
                probe.unlink()
    finally:
        for parent in made:
            with contextlib.suppress(OSError):  # another program may have written something there
                parent.rmdir()
