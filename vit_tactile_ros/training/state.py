"""The folder of a run: what is needed to resume, written so that a kill or a full disk cannot damage it."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.foundation.files import leftovers, sync_folder, temporary_beside, written_whole
from vit_tactile_ros.training.state_file import OtherReleaseError, pack, unpack

logger = logging.getLogger(__name__)

STATE = 'training_state.safetensors'
PREVIOUS = 'training_state.previous'
PICKLED = 'training_state.pt'  # of earlier releases; never read, because a pickle can execute code
CHECKPOINT = 'checkpoint.safetensors'


class StateError(RunError):
    """A folder that a run cannot resume from; the message says what to do."""


class RunFolder:
    """The folder of a run, locked while it is open: `with RunFolder(path) as folder`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / CHECKPOINT
        self.saved_epoch = 0  # complete epochs in what the folder holds
        self.saved_step = 0  # and steps of the next one
        self._lock: Any = None

    def __enter__(self) -> RunFolder:
        """Raises StateError when another run has the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / 'lock').open('a')
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system unlocks it when the process dies
        except BlockingIOError:
            self._lock.close()
            raise StateError(f'{self.path}: another run trains in this folder; give another --output, or wait'
                             ) from None
        # Of a run that was killed while writing; earlier releases used the first name.
        for left in (self.path / f'{PICKLED}.tmp', *(left for name in (STATE, PREVIOUS, PICKLED, CHECKPOINT)
                                                     for left in leftovers(self.path / name))):
            left.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._lock.close()

    def load(self) -> dict[str, Any] | None:
        """The last complete state, on the CPU; None in a new folder.

        If the state is damaged, a warning explains it and the previous one is used. Raises StateError when that is
        damaged too, or when another release wrote it.
        """
        current, previous = self.path / STATE, self.path / PREVIOUS
        if not current.exists() and (self.path / PICKLED).exists():
            raise _other_release(self.path / PICKLED)
        if not current.exists() and not previous.exists():
            return None
        try:
            state = _read(current)
        except _Damaged as error:
            state = self._load_previous(current, previous, str(error))
        self.saved_epoch, self.saved_step = state['epoch'], state['step']
        return state

    def _load_previous(self, current: Path, previous: Path, reason: str) -> dict[str, Any]:
        try:
            state = _read(previous)
        except _Damaged as error:
            raise StateError(f'{current}: {reason}; {previous}: {error}. The weights of the last epoch may still be '
                             f'in {self.checkpoint.name}: start in another --output, with --init {self.checkpoint}'
                             ) from None
        logger.warning('%s: %s; resuming from the previous state, %s', current, reason, previous.name)
        return state

    def told(self) -> str:
        """What is saved and how to resume, for a message."""
        resume = f'the same command with --output {self.path} resumes from there'
        if self.saved_step:
            checkpoint = (f'{self.checkpoint.name} is that of epoch {self.saved_epoch}' if self.saved_epoch else
                          f'{self.checkpoint.name} is the moving average so far')
            return (f'{self.path} holds everything up to step {self.saved_step} of epoch {self.saved_epoch + 1}: '
                    f'{resume}; {checkpoint}')
        if not self.saved_epoch:
            return f'{self.path} holds no epoch yet: the first one was not finished'
        return f'{self.path} holds the last complete epoch, {self.saved_epoch}: {resume}'

    def save(self, state: dict[str, Any]) -> None:
        """Make `state` the current one and the current one the previous; all or nothing.

        Raises OSError when it cannot be written.
        """
        current, previous = self.path / STATE, self.path / PREVIOUS
        data = pack(state)
        with written_whole(current) as temporary:
            with temporary.open('wb') as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # before the current state is touched
            if current.exists():
                _keep(current, previous)
        sync_folder(self.path)
        self.saved_epoch, self.saved_step = state['epoch'], state['step']


class _Damaged(Exception):
    pass


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise _Damaged('is missing') from None
    except OSError as error:
        raise _Damaged(f'cannot be read: {error.strerror}') from error
    try:
        return unpack(data)
    except OtherReleaseError as error:
        raise _other_release(path) from error
    except (ValueError, OverflowError) as error:
        raise _Damaged(f'is not a complete state file ({len(data)} bytes); it was truncated or overwritten') from error


def _other_release(path: Path) -> StateError:
    return StateError(f'{path}: was written by another release of vit_tactile_ros; start in another --output, '
                      f'with --init {path.with_name(CHECKPOINT)} to start from its weights')


def _keep(current: Path, previous: Path) -> None:
    """Make the current file the previous one without moving it, so that one of them exists at any time."""
    link = temporary_beside(previous)
    try:
        os.link(current, link)
    except OSError:  # a file system without hard links
        os.replace(current, previous)
    else:
        try:
            os.replace(link, previous)
        finally:
            link.unlink(missing_ok=True)  # a rename does nothing where both are the same file already
