"""Log lines of the ROS-free part, which uses `logging`, in the node's log; they would otherwise be lost."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any


class _Forward(logging.Handler):
    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        # One call site for each: rclpy refuses a second severity from the same line.
        if record.levelno >= logging.ERROR:
            self._logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


@contextlib.contextmanager
def library_log(logger: Any) -> Iterator[None]:
    """Inside it, what `vit_tactile_ros` logs at INFO or above goes to `logger`, a node's."""
    library, handler = logging.getLogger('vit_tactile_ros'), _Forward(logger)
    level = library.level
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(level)
