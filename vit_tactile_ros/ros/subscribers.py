"""Waits until publishers have subscribers, so that the first messages are not lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.publisher import Publisher

PERIOD = 0.01  # s between two looks
OTHER_DIRECTION = 0.5  # s for the discovery of the publisher by the subscriber, which cannot be observed


def wait_for_subscribers(publishers: Iterable[Publisher], wait: Callable[[float], Any] = time.sleep,
                         timeout: float = float('inf')) -> bool:
    """Wait until each publisher has a subscriber that can receive from it; False after `timeout` s.

    wait: waits for so many s; a true result ends the wait (`threading.Event.wait`), also with False.
    """
    publishers = list(publishers)
    end = time.monotonic() + timeout
    while not all(publisher.get_subscription_count() for publisher in publishers):
        if time.monotonic() > end or wait(PERIOD):
            return False
    return not wait(OTHER_DIRECTION)
