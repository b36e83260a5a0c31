"""Ctrl-C while a command imports its modules: importing this module makes it quiet, with exit status 130.

torch and scikit-learn take seconds to import, and no `try` of a command can catch a Ctrl-C that arrives meanwhile, so
every command imports this module before anything else. It changes nothing unless the program is one of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
PROGRAM = 'vit-tactile'  # the console script
_PACKAGE = __name__.split('.')[0]


def _exit(*_: object) -> None:
    # Not by an exception: an import that is cut short may turn it into another one, or print it and carry on.
    os._exit(INTERRUPTED)


def as_exception() -> contextlib.AbstractContextManager[None]:
    """Within, Ctrl-C raises KeyboardInterrupt as usual; before and after it ends the command at once."""
    return _handled(_exit, signal.default_int_handler)


def at_once() -> contextlib.AbstractContextManager[None]:
    """The reverse, for imports within `as_exception`."""
    return _handled(signal.default_int_handler, _exit) if _INSTALLED else contextlib.nullcontext()


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


def _is_our_program() -> bool:
    main = sys.modules.get('__main__')
    spec = getattr(main, '__spec__', None)
    if spec is not None:  # python -m
        return bool(spec.name.split('.')[0] == _PACKAGE)
    return Path(getattr(main, '__file__', None) or '').stem == PROGRAM


# Not where it is ignored, as in the background of a script.
_INSTALLED = (_is_our_program() and threading.current_thread() is threading.main_thread()
              and signal.getsignal(signal.SIGINT) is signal.default_int_handler)
if _INSTALLED:
    signal.signal(signal.SIGINT, _exit)
