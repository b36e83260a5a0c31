"""Runs code in a copy of this process, whose imports it needs: importing torch and rclpy takes 4 s of a core."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def fork(main: Callable[[], int | None], log: Path, at_end: Callable[[], object] = lambda: None) -> int:
    """The number of the process that runs `main`, and then `at_end`, with its output in `log`.

    It ends with the status that `main` returns or exits with, 1 after an exception, without what this process has still
    to do at its end.
    """
    if process := os.fork():
        return process
    status: object = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (open(number, 'w', buffering=1, closefd=False) for number in (1, 2))
        try:
            status = main()
        except SystemExit as error:
            status = error.code
        except BaseException:
            traceback.print_exc()
        at_end()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)
