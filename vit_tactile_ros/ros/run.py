"""From start to clean stop of a lifecycle node that is a process of its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException, ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

SIGNAL_POLL = 0.2  # s between looks at whether Ctrl-C or SIGTERM came


def run_lifecycle_node(create: Callable[[], Any], args: list[str] | None = None) -> int:
    """Create a node, bring it up if its parameter `autostart` says so, and spin until Ctrl-C or SIGTERM.

    `create` makes a LifecycleNode that has a method `finish`. Returns the status of the process: 0 after a clean
    stop, 1 when the node can't come up, 2 for a bad parameter.
    """
    # rclpy's own handlers invalidate the context at once, and the images still waiting could not be answered.
    stopped: list[int] = []  # no Event: its lock could be held when a second signal comes
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: stopped.append(number))
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # a parameter that can't be parsed, say [0.9, 1]
        print(f'{Path(sys.argv[0]).stem}: {str(error).splitlines()[0]}', file=sys.stderr)
        return 2
    try:
        node = create()
    except (ParameterException, InvalidParameterValueException, InvalidParameterTypeException) as error:
        print(f'{Path(sys.argv[0]).stem}: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = fastest_executor()
    executor.add_node(node)
    try:
        if node.get_parameter('autostart').value and not (
                node.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and node.trigger_activate() == TransitionCallbackReturn.SUCCESS):
            return 1
        while not stopped:
            executor.spin_once(timeout_sec=SIGNAL_POLL)
    finally:
        node.finish()
        rclpy.try_shutdown()
    return 0


def fastest_executor() -> Executor:
    """rclpy's events executor where it has one: 3.4 ms from image to result beside the network, against 4.0 to 4.8.

    It does not build a wait set in Python for every image, during which the worker waits for the interpreter.
    """
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:  # before rclpy 7.1.5
        return SingleThreadedExecutor()
    return EventsExecutor()
