"""Log lines that repeat, at most one per period for each cause."""

from __future__ import annotations

import time
from collections.abc import Callable


class ThrottledLog:
    """Says each cause at once, then at most every `period` seconds with the number of times it was not said.

    rclpy's own throttle goes by the line of code, so one noisy sensor would hide the others.
    """

    def __init__(self, period: float = 5.0) -> None:
        self._period = period
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def __call__(self, log: Callable[[str], object], cause: str, text: str) -> None:
        now = time.monotonic()
        if now - self._last.get(cause, -self._period) < self._period:
            self._unsaid[cause] = self._unsaid.get(cause, 0) + 1
            return
        self._last[cause] = now
        unsaid = self._unsaid.pop(cause, 0)
        log(f'{text} ({unsaid} more like it since the last line)' if unsaid else text)

    def once(self, log: Callable[[str], object], cause: str, text: str) -> None:
        """Say a cause the first time only."""
        if cause not in self._last:
            self._last[cause] = time.monotonic()
            log(text)
