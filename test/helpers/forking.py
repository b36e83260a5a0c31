"""Runs code in a copy of this process, whose imports it needs: importing torch and rclpy takes 4 s of a core."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def fork(main: Callable[[], int | None], log: Path, at_end: Callable[[], object] = lambda: None) -> int:
    """The number of the process that runs `main` and then `at_end`, with its output in `log`.

    It ends as a program would, with the status that `main` returns or exits with, or 1 and the text of an exception,
    but without what this process has still to do at its end.
    """
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    if process := os.fork():
        os.close(file)
        return process
    status = 1
    try:
        for number in (1, 2):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (open(number, 'w', buffering=1, closefd=False) for number in (1, 2))
        status = _status(main)
        status = _status(at_end) or status
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # whatever happens, this copy must not go on as the tests
        os._exit(status)


def _status(work: Callable[[], object]) -> int:
    try:
        found = work()
    except SystemExit as error:
        found = error.code
        if found is not None and not isinstance(found, int):
            print(found, file=sys.stderr)
            return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return found if isinstance(found, int) else 0
