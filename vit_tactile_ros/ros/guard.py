"""Callbacks whose exceptions are logged and counted instead of ending the process."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from vit_tactile_ros.ros.throttle import ThrottledLog


class CallbackGuard:
    """Wraps callbacks for rclpy; `errors` counts their exceptions.

    An exception in a callback ends `spin`, and in an event callback of the events executor it is a segmentation fault.
    """

    def __init__(self, throttled: ThrottledLog) -> None:
        self.errors = 0
        self.last_error = ''
        self._throttled = throttled

    def count(self, name: str, error: Exception) -> None:
        self.errors += 1
        self.last_error = f'{name}: {type(error).__name__}: {error}'

    def __call__(self, name: str, callback: Callable[..., Any], instead: Callable[..., Any] | None = None,
                 ) -> Callable[..., Any]:
        """`callback`; if it raises, the result of `instead`, called with the exception and the same arguments."""
        def guarded(*arguments: Any) -> Any:
            try:
                return callback(*arguments)
            except Exception as error:
                self.count(name, error)
                self._throttled.error(f'guard {name}', f'internal error in {name}: '
                                      f'{"".join(traceback.format_exception(error))}')
                return instead(error, *arguments) if instead is not None else None
        return guarded
