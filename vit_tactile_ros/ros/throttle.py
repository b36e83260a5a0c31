"""Log lines that repeat, at most one per period for each cause."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol


class Logger(Protocol):
    """The methods of an rclpy logger that are used."""

    def info(self, message: str) -> Any: ...
    def warning(self, message: str) -> Any: ...
    def error(self, message: str) -> Any: ...


class ThrottledLog:
    """Logs each cause immediately, then at most every `period` seconds with the number of omitted lines.

    rclpy's own throttle works by line of code, so one noisy sensor would hide the others. rclpy also raises if one
    line of code logs with two severities: hence a method, and a line, for each severity, and never a logger's method
    passed as a value. May be called by several threads.
    """

    def __init__(self, logger: Logger, period: float = 5.0) -> None:
        self._logger = logger
        self._period = period
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def info(self, cause: str, text: str) -> None:
        if (line := self._due(cause, text, self._period)) is not None:
            self._logger.info(line)

    def warning(self, cause: str, text: str) -> None:
        if (line := self._due(cause, text, self._period)) is not None:
            self._logger.warning(line)

    def error(self, cause: str, text: str) -> None:
        if (line := self._due(cause, text, self._period)) is not None:
            self._logger.error(line)

    def warning_once(self, cause: str, text: str) -> None:
        """Log a cause only the first time."""
        if (line := self._due(cause, text, float('inf'))) is not None:
            self._logger.warning(line)

    def _due(self, cause: str, text: str, period: float) -> str | None:
        """The line to log now; None while it is too early for this cause."""
        now = time.monotonic()
        with self._lock:
            if cause in self._last and now - self._last[cause] < period:
                self._left_out[cause] = self._left_out.get(cause, 0) + 1
                return None
            self._last[cause] = now
            left_out = self._left_out.pop(cause, 0)
        return f'{text} ({left_out} more like it since the last line)' if left_out else text
