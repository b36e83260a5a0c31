"""Ctrl-C in a command: quiet and with exit code 130, from the first import to the end of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

INTERRUPTED = 130  # exit code of a command that Ctrl-C has ended, as shells report it
_PACKAGE = __name__.partition('.')[0]


def install_if_command() -> None:
    """`install`, where `python -m` is about to run a module of this package and not another program that imports it."""
    words = [word.removeprefix('-m').partition('.')[0] for word in sys.orig_argv[1:]]
    if sys.argv[:1] == ['-m'] and _PACKAGE in words:  # runpy sets argv[0] to the file once it has found the module
        install()


def install() -> None:
    """Make Ctrl-C quiet in this process, which is a command: call it before the imports, which take seconds.

    While `__main__.main` runs, Ctrl-C is a KeyboardInterrupt, for the command to clean up. Before (imports) and after
    (interpreter shutdown) there is nothing to clean up: the process ends at once. A KeyboardInterrupt that leaves
    `main` is not printed. A command that sets a handler of its own replaces this one.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # started with SIGINT ignored, as shells start background jobs: stays so
    signal.signal(signal.SIGINT, _on_interrupt)
    sys.excepthook = _excepthook
    sys.unraisablehook = _unraisablehook


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    if _is_in_main(frame):
        signal.default_int_handler(number, frame)
    end_now()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """In it, signals wait that Python code handles; they come at its end.

    For short calls of C++ that calls Python again: there a KeyboardInterrupt becomes another error, or is lost.
    """
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
               if callable(signal.getsignal(number))]
    came: list[int] = []
    handlers = [signal.signal(number, lambda number, _frame: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for held_number, handler in zip(numbers, handlers, strict=True):
            signal.signal(held_number, handler)
        if came:
            signal.raise_signal(came[0])


def end_now() -> None:
    """End the process with INTERRUPTED without unwinding: imports turn a KeyboardInterrupt into other errors."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a write that the signal has interrupted
            stream.flush()
    os._exit(INTERRUPTED)


def _is_in_main(frame: FrameType | None) -> bool:
    code = getattr(getattr(sys.modules.get('__main__'), 'main', None), '__code__', None)
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        raise SystemExit(INTERRUPTED)  # Python's own way ends the process by the signal, exit code -2
    sys.__excepthook__(kind, error, trace)


def _unraisablehook(unraisable: Any) -> None:
    """A KeyboardInterrupt raised in a destructor or weak reference is lost, with a traceback: repeat the signal."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    import threading

    # Later and from another thread: raised in here it would be lost again. To the main thread, to end its waiting.
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
