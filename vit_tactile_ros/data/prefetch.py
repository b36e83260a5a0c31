"""An iterator that runs ahead of its reader in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar('Item')


class Prefetch(Iterator[Item]):
    """An iterator that a thread runs ahead of its reader, by at most `depth` items."""

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='decode', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        end: BaseException = StopIteration()
        try:
            for item in self._items:
                if not self._put((item, None)):
                    return
        except BaseException as error:  # raised in the reader
            end = error
        self._put((None, end))

    def _put(self, entry: tuple[Item | None, BaseException | None]) -> bool:
        while not self._is_closed.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __next__(self) -> Item:
        item, error = self._queue.get()
        if error is not None:
            self._queue.put((None, error))  # for the next call: the thread has ended
            raise error
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread and wait for it."""
        self._is_closed.set()
        self._thread.join()
