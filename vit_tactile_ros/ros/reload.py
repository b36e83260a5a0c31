"""`~/reload_checkpoint`: loads the checkpoint again in a thread, while the running classifier keeps its place."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

from rclpy.node import Node

from vit_tactile_ros.foundation.memory import return_freed_memory
from vit_tactile_ros.ros.lifecycle import USERS_ERRORS
from vit_tactile_ros.ros.running import Loaded
from vit_tactile_ros.ros.start import reason_of


class CheckpointReload:
    """One call of the service: `load` in a thread, then `adopt` in the executor's; the response has the reason of a
    failure."""

    def __init__(self, node: Node, load: Callable[[], Loaded], adopt: Callable[[Loaded], str],
                 finish: Callable[[bool, str], None]) -> None:
        """`adopt` puts the classifier in place and returns what to know about it; if it raises, nothing has changed.
        `finish` gets whether it succeeded and what to respond.

        `load` may hold the last reference to the running classifier, which then ends in the thread: that of OpenVINO
        takes up to 0.3 s, in which the executor would take no images.
        """
        self._node = node
        self._adopt = adopt
        self._respond = finish
        self._loaded: Loaded | None = None
        self._error: BaseException | None = None
        self._started = time.monotonic()
        self._is_loaded = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=([load],), name='reload', daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no memory, or too many threads
            self._error = OSError(f'no thread to load it in: {error}')
            self._is_loaded.set()

    @property
    def is_running(self) -> bool:
        return not self._is_over.is_set()

    def cancel(self, reason: str) -> None:
        """Respond that it failed; what is being loaded is dropped."""
        if self.is_running:
            self._finish(False, reason)

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread; whether it has ended. The process should not end while it is in a library."""
        if self._thread.ident is not None:  # it was started
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self, held: list[Callable[[], Loaded]]) -> None:
        """held: `load`, which this takes, so that what it holds is freed here."""
        load = held.pop()
        try:
            self._loaded = load()
        except BaseException as error:  # also SystemExit of a library: the service must respond
            self._error = error
        self._is_loaded.set()
        self._is_over.wait()
        # Also what came after a cancelled reload, and what the traceback of an error holds.
        self._loaded = self._error = None
        del load
        return_freed_memory()

    def poll(self) -> None:
        """To be called again and again in the executor's thread: the other thread cannot call it."""
        if not self._is_loaded.is_set() or not self.is_running:
            return
        note = ''
        if self._loaded is not None:
            try:
                note = self._adopt(self._loaded)
            except Exception as error:
                self._error = error
        if self._error is None:
            text = f'reloaded in {time.monotonic() - self._started:.1f} s: {note}'
            self._node.get_logger().info(f'checkpoint {text}')
            self._finish(True, text)
            return
        text = 'not reloaded, the previous checkpoint stays in use: ' + reason_of(self._error)
        self._node.get_logger().error(text if isinstance(self._error, USERS_ERRORS) else
                                      f'{text}\n{"".join(traceback.format_exception(self._error))}')
        self._finish(False, text)

    def _finish(self, success: bool, message: str) -> None:
        self._is_over.set()
        respond, self._respond = self._respond, lambda success, message: None
        self._adopt = lambda loaded: ''  # nothing here keeps a network after the node was cleaned up
        respond(success, message)
