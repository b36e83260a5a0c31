"""Ctrl-C and SIGTERM, delayed while an immediate end would lose training results."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from vit_tactile_ros.training.distributed import started_by_torchrun

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block both signals inside. A process started meanwhile has them blocked until it unblocks them itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopAsked(KeyboardInterrupt):
    """A stop was requested; the data in memory is consistent."""


class Stop:
    """Whether a stop was requested: `with Stop() as stop`, in the main thread.

    A signal raises StopAsked where it arrives; within `holding(True)` it is only stored in `number`, for the code there
    to check, and a second one raises KeyboardInterrupt. torchrun forwards each signal, so one Ctrl-C arrives twice:
    there a second one is ignored, and torchrun kills processes that have not ended after 30 s.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal; 0: none yet
        self._held = False
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for kind in SIGNALS:
                if signal.getsignal(kind) != signal.SIG_IGN:  # as in the background of a script
                    self._before[kind] = signal.signal(kind, self.ask)
        return self

    def __exit__(self, *_error: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM, as in shells."""
        return 128 + (self.number or signal.SIGINT)

    def ask(self, number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
        """The handler of both signals."""
        if os.getpid() != self._process:
            return  # a worker, which ends with its parent process
        if self.number:
            if started_by_torchrun():
                return
            raise KeyboardInterrupt
        self.number = number
        if not self._held:
            raise StopAsked
        with contextlib.suppress(OSError):
            # Not by print, which the signal may have interrupted.
            os.write(2, b'stopping after this step to save the state; Ctrl-C again stops at once\n')

    def check(self) -> None:
        """Raises StopAsked if a stop was requested."""
        if self.number:
            raise StopAsked

    @contextlib.contextmanager
    def holding(self, held: bool) -> Iterator[None]:
        before = self._held
        self._held = held
        try:
            if not held:
                self.check()  # it may have come in between
            yield
        finally:
            self._held = before
