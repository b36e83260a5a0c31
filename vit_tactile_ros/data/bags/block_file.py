"""Shared by the readers of bags that consist of chunks: MCAP and ROS 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from vit_tactile_ros.data.bags.storage import LATEST, Block, Entry, Found, Problems, Topic, file_size, in_order


class BlockFile:
    """One file; see `storage.StorageFile`. A format sets its own fields, then calls `__init__`, which reads the index.

    A format gives its connections by number, and loads the messages of a block.
    """

    def __init__(self, path: Path, problems: Problems, shown: Path | None = None) -> None:
        """`shown` is the path in messages if `path` is a temporary copy."""
        self._shown, self._problems = shown or path, problems
        self._blocks: list[Block] = []
        self.topics: list[Topic] = []
        self.start, self.end = LATEST, 0
        self._file = path.open('rb')
        self._size = file_size(self._file)
        try:
            self._survey()
        except BaseException:
            self._file.close()
            raise

    def _survey(self) -> None:
        """Fill blocks, connections, topics and times."""
        raise NotImplementedError

    def _topic_of(self, number: int) -> tuple[str, str]:
        """Topic and message type of a connection."""
        raise NotImplementedError

    def _load(self, block: Block, wanted: Collection[int] | None) -> Iterable[Entry]:
        """The messages of a block on the wanted connections; None: on all."""
        raise NotImplementedError

    def close(self) -> None:
        self._file.close()

    def _messages(self, connections: Mapping[int, object], topics: Collection[str], start: int | None,
                  stop: int | None) -> Iterator[Found]:
        wanted = {number for number in connections if self._topic_of(number)[0] in topics}
        blocks = [b for b in self._blocks if b.counts is None or not wanted.isdisjoint(b.counts)]
        for received, number, raw in in_order(blocks, lambda block: self._load(block, wanted), start, stop):
            yield Found(*self._topic_of(number), received, bytes(raw))

    def _note(self, text: str) -> None:
        self._problems.note(f'{self._shown}{text}')

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(max(0, min(size, self._size - at)))  # a damaged length can have any value

    def _count(self, connections: Mapping[int, object], is_complete: bool) -> Counter[int]:
        """Messages per connection, and the times of all of them; blocks are only loaded if their index lacks that.

        A block of unknown connections is loaded, since it may define them. is_complete: also load those without counts.
        """
        counts: Counter[int] = Counter()
        for block in self._blocks:
            known: Mapping[int, int] | None = block.counts
            if (known is None and is_complete) or set(known or ()) - set(connections):
                entries = list(self._load(block, None))
                if known is None:
                    known = Counter(entry.connection for entry in entries)
                    if entries:
                        block.start, block.end = (pick(e.received for e in entries) for pick in (min, max))
            counts.update(known or {})
            if known:
                self.start, self.end = min(self.start, block.start), max(self.end, block.end + 1)
        return counts

    def _note_unknown(self, counts: Counter[int], connections: Mapping[int, object], kind: str) -> None:
        for number in sorted(set(counts) - set(connections)):
            self._note(f': {counts[number]} messages are left out: the topic of their {kind} {number} is unknown')
