"""Start, run and stop a node that is a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException, ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.interrupt import INTERRUPTED, held
from vit_tactile_ros.foundation.memory import use_one_heap
from vit_tactile_ros.ros.start import check_parameters, created, init_ros, origin_of, reason_of

SIGNAL_POLL = 0.2  # s between checks for Ctrl-C or SIGTERM
STOP_LIMIT = 1.7  # s from the signal until the process is ended by force
START_STOP_LIMIT = 0.6  # s, the same before the node is up, when no image waits for its result
FAILURE_LIMIT = 10.0  # s that a node which failed may take to finish
# s after which a thread that holds Python's lock lets another one have it; Python's own 0.005 s delay results while an
# image is received (docs/results/node_latency.md).
SWITCH_INTERVAL = 0.0002
MAX_EXECUTOR_ERRORS = 20  # in a row, after which the process ends
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
START_ERRORS = (UserError, ParameterException, InvalidParameterValueException, InvalidParameterTypeException)


class Stopped(BaseException):
    """Ctrl-C or SIGTERM during `StopSignals.interrupting`."""


class StopSignals:
    """SIGINT and SIGTERM from now on: `received` holds them, and `limit` s after the first the process ends.

    rclpy's own handlers invalidate the context at once, and waiting images could not be classified. Python runs a
    handler only between two of its instructions, and loading and measuring a network takes seconds in C: so a thread,
    which the signal wakes, enforces the limit.
    """

    def __init__(self) -> None:
        self.received: list[int] = []  # not an Event: its lock could be held when a second signal arrives
        self.limit = START_STOP_LIMIT
        self.wake: Callable[[], object] = lambda: None  # called by the thread, to wake a waiting loop
        self._is_interrupting = False
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        # A fork, which a library may make, has the same pipe: a signal to the fork would stop the node.
        os.register_at_fork(after_in_child=_without_handlers)
        threading.Thread(target=self._keep_limit, args=(read_end,), name='signals', daemon=True).start()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        if self._is_interrupting:
            self._is_interrupting = False  # only once: clean-up follows
            raise Stopped

    def _keep_limit(self, read_end: int) -> None:
        while os.read(read_end, 1)[0] not in _SIGNALS:
            pass
        begun = time.monotonic()
        while (left := begun + self.limit - time.monotonic()) > 0:
            self.wake()
            time.sleep(min(left, SIGNAL_POLL))
        os._exit(INTERRUPTED)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside it, a signal raises Stopped as soon as Python code runs; also an earlier one."""
        self._is_interrupting = True
        try:
            if self.received:
                raise Stopped
            yield
        finally:
            self._is_interrupting = False

    def ignore(self) -> None:
        """For the end of the process, which is short: a second Ctrl-C must not cause a traceback."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _without_handlers() -> None:
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def run_node(create: Callable[[], Any], parameters: Sequence[str], args: list[str] | None = None,
             executor: Callable[[], Executor] = SingleThreadedExecutor) -> int:
    """Create a node and spin until Ctrl-C or SIGTERM. Returns the status of the process.

    `create` makes a node that has a method `finish`; a lifecycle node is brought up if its parameter `autostart` is
    true. `parameters` are the names that it declares. 0: stopped, or its attribute `is_done` is true; 1: the start
    failed, or its attribute `failure` is not empty; 2: a mistake in the parameters or the files
    that they name, with which another start would fail again; 130: stopped before that.
    """
    use_one_heap()
    sys.setswitchinterval(SWITCH_INTERVAL)
    signals = StopSignals()
    try:
        return _run(create, parameters, args, executor, signals)
    except Stopped:
        return INTERRUPTED
    except START_ERRORS as error:
        reason = reason_of(error)
        print(f'{Path(sys.argv[0]).stem}: {reason}{origin_of(reason, parameters, args)}', file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
        signals.ignore()


def _run(create: Callable[[], Any], parameters: Sequence[str], args: list[str] | None,
         make_executor: Callable[[], Executor], signals: StopSignals) -> int:
    with signals.interrupting():
        init_ros(args, parameters)
        node = created(create)
    try:
        for warning in check_parameters(node, args):
            node.get_logger().warning(warning)
        executor = make_executor()
        executor.add_node(node)
        signals.wake = executor.wake
        if hasattr(node, 'trigger_configure') and not _bring_up(node, signals):
            return INTERRUPTED if signals.received else 2 if getattr(node, 'is_mistaken', False) else 1
        signals.limit = STOP_LIMIT
        failed = 0
        while not signals.received and not getattr(node, 'failure', '') and not getattr(node, 'is_done', False):
            try:
                executor.spin_once(timeout_sec=SIGNAL_POLL)
                failed = 0
            except Exception as error:  # not of a callback: for instance no memory for the message that it would get
                failed += 1
                if failed == MAX_EXECUTOR_ERRORS:
                    raise
                node.get_logger().error(f'internal error in the executor: {type(error).__name__}: {error}')
                if hasattr(node, 'on_executor_error'):
                    node.on_executor_error(error)
        if not getattr(node, 'failure', '') or signals.received:
            return 0
        node.get_logger().fatal(f'stopping: {node.failure}')
        return 1
    finally:
        signals.wake = lambda: None
        # What failed may hang: then nothing else ends the process, and launch never starts another.
        force = threading.Timer(FAILURE_LIMIT, os._exit, (1,))
        force.daemon = True
        if getattr(node, 'failure', ''):
            force.start()
        node.finish()
        force.cancel()


def _bring_up(node: Any, signals: StopSignals) -> bool:
    """Configure and activate, or log that a manager must do it; False if it fails."""
    if not node.get_parameter('autostart').value:
        name = node.get_fully_qualified_name()
        node.get_logger().info(f'autostart is false: unconfigured, waiting for a lifecycle manager, or for: ros2 '
                               f'lifecycle set {name} configure, then ros2 lifecycle set {name} activate')
        return True
    with signals.interrupting():
        is_configured = node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    return is_configured and not signals.received and node.trigger_activate() == TransitionCallbackReturn.SUCCESS


def spin_once(spin: Callable[..., object], seconds: float) -> None:
    """The longest `spin(timeout_sec=...)` for commands: Ctrl-C is a KeyboardInterrupt, but not inside rclpy.

    Its C++ turns one into a RuntimeError.
    """
    with held():
        spin(timeout_sec=min(seconds, SIGNAL_POLL))


def fastest_executor() -> Executor:
    """rclpy's events executor if it has one: 3.4 ms from image to result with the network running, against 4.0 to 4.8.

    It does not build a wait set in Python for every image, during which the worker waits for the interpreter.
    """
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:  # before rclpy 7.1.5
        return SingleThreadedExecutor()
    return EventsExecutor()
