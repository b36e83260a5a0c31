"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
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
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yields a new, empty file beside `path` to write to; it replaces `path` when the block ends without an exception.

    The parent folder is created. A symbolic link stays one: its target is replaced. The mode follows the umask, and the
    temporary name cannot be guessed, so that nobody else can prepare a file or link of that name. Raises WriteError for
    every OSError, also those raised in the block, and removes the temporary file.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            raise OSError(None, 'a folder' if target.is_dir() else 'not a regular file')
        # The suffix stays: libraries choose the format of a file by it.
        name = target.with_name(f'.{target.stem[:100]}.{secrets.token_hex(8)}{target.suffix}')
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_NOFOLLOW', 0), 0o666))
        temporary = name
        yield temporary
        with temporary.open('rb+') as file:
            os.fsync(file.fileno())  # otherwise a power cut may leave the new name with nothing in it
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


def file_problem(path: str) -> str:
    """Why a user's path is not a file that can be read, empty if it is; expands `~`. Never raises.

    Looking at a path fails in many ways: no permission, a name too long, a null byte, a loop of links, a `~name` of an
    unknown user.
    """
    try:
        expanded = Path(path).expanduser()
        mode = expanded.stat().st_mode
        if not stat.S_ISREG(mode):
            return 'a folder' if stat.S_ISDIR(mode) else 'not a regular file'
        with expanded.open('rb'):
            return ''
    except OSError as error:
        return error.strerror or str(error)
    except RuntimeError:
        return f'no user {path.partition("/")[0].removeprefix("~")!r}'
    except ValueError as error:  # a null byte
        return str(error)


def check_writable(path: str | Path) -> None:
    """Raise WriteError now if `path` could not be written later: call it before long work.

    Creates the parent folder; leaves no file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            raise OSError(None, 'a folder' if target.is_dir() else 'not a regular file')
        probe = target.with_name(f'.{secrets.token_hex(8)}.probe')
        with probe.open('xb') as file:
            try:
                file.write(bytes(4096))  # a full disk takes the name and refuses the bytes
                file.flush()
                os.fsync(file.fileno())
            finally:
                probe.unlink()
    except OSError as error:
        raise WriteError(path, error) from error


def check_folder_writable(folder: str | Path) -> None:
    """As `check_writable`, for a folder that will hold several files; creates it."""
    check_writable(Path(folder) / 'probe')
