"""Ctrl-C in a command: no traceback and exit status 130, from the first import to the end of the process."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

INTERRUPTED = 130  # exit status of a command that Ctrl-C ended, as shells report it
PROGRAM = 'vit-tactile'  # the console script
_PACKAGE = __name__.partition('.')[0]


def install_if_command() -> None:
    """`install`, if the program is a command of this package and not another one that imports it."""
    words = [word.removeprefix('-m').partition('.')[0] for word in sys.orig_argv[1:]]
    is_module = sys.argv[:1] == ['-m'] and _PACKAGE in words  # runpy sets argv[0] to the file once it has found it
    script = Path(getattr(sys.modules.get('__main__'), '__file__', None) or '').stem
    if is_module or script == PROGRAM:
        install()


def install() -> None:
    """Make Ctrl-C end this process immediately without a traceback; call it before the imports, which take seconds.

    Inside `as_exception` it is a KeyboardInterrupt, so that the command can clean up. An uncaught KeyboardInterrupt is
    not printed. A command may replace the handler.
    """
    if (threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
        return  # SIGINT is ignored, as shells start background jobs: keep that
    signal.signal(signal.SIGINT, _end_now)
    sys.excepthook = _excepthook
    sys.unraisablehook = _unraisablehook


def leave(status: int) -> NoReturn:
    """End this process now, with what is registered to run at its end.

    The end of a Python process with torch takes 1 to 3 s, and launch kills a node 5 s after Ctrl-C.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def as_exception() -> contextlib.AbstractContextManager[None]:
    """Inside the block, Ctrl-C raises KeyboardInterrupt as usual; before and after, it ends the command immediately."""
    return _handled(_end_now, signal.default_int_handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Inside the block, signals with a Python handler are deferred; the first is raised at the end.

    For short calls of C++ code that calls Python: there, a KeyboardInterrupt becomes another error or is lost.
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


def at_once() -> contextlib.AbstractContextManager[None]:
    """The reverse of `as_exception`, for imports within it."""
    if sys.excepthook is not _excepthook:  # not installed
        return contextlib.nullcontext()
    return _handled(signal.default_int_handler, _end_now)


@contextlib.contextmanager
def _handled(usual: Callable[..., Any], now: Callable[..., Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    signal.signal(signal.SIGINT, now)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _end_now(*_: object) -> None:
    # Not by an exception: an interrupted import may turn it into another one, or print it and continue.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a write that the signal interrupted
            stream.flush()
    os._exit(INTERRUPTED)


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        raise SystemExit(INTERRUPTED)  # Python's default ends the process by the signal, exit code -2
    sys.__excepthook__(kind, error, trace)


def _unraisablehook(unraisable: Any) -> None:
    """A KeyboardInterrupt raised in a destructor or weak reference is printed and lost: repeat the signal."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    # From another thread, a little later: raised here it would be lost as well. To the main thread, to end its waiting.
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
