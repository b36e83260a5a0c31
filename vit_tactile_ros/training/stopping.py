"""Ctrl-C and SIGTERM, held back while leaving would lose what was learned."""

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
    """Both wait until it is left. A process started meanwhile has them blocked until it unblocks them itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopAsked(KeyboardInterrupt):
    """Somebody wants the program to end; what is in memory is whole."""


class Stop:
    """Whether somebody wants the program to end: `with Stop() as stop`, in the main thread.

    A signal raises StopAsked where it arrives; within `holding(True)` it is only noted in `number`, for the code there
    to look at, and a second one raises KeyboardInterrupt. torchrun hands each signal on, so that one Ctrl-C arrives
    twice: there a second one is ignored, and it is torchrun that kills what has not ended after 30 s.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal; 0: none so far
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
        """As shells count it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.number or signal.SIGINT)

    def ask(self, number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
        """What a signal does."""
        if os.getpid() != self._process:
            return  # a worker, which ends with the process that it works for
        if self.number:
            if started_by_torchrun():
                return
            raise KeyboardInterrupt
        self.number = number
        if not self._held:
            raise StopAsked
        with contextlib.suppress(OSError):
            # Not by print, which the signal may have interrupted.
            os.write(2, b'stopping after this step, to save what was learned; Ctrl-C again stops at once\n')

    def check(self) -> None:
        """Raises StopAsked when somebody has asked."""
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
