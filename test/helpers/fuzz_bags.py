"""Bags for `fuzz`: what is lost or changed unseen, and what hostile ones do."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import bag_mutations
from fuzz_folders import made

from vit_tactile_ros.data.bags import types

# A definition that was read before is not compiled again for each input, which took half of the time.
types.message_types = functools.cache(types.message_types)
types._defined = functools.lru_cache(100)(types._defined)


def write_bag(kind: str, folder: Path) -> list[Path]:
    path = bag_mutations.write(made(folder / '0'), kind)
    whole_digests.cache_clear()
    return [path]


@functools.cache
def whole_digests(kind: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        whole, problems, refused = bag_mutations.digests(bag_mutations.write(Path(folder), kind))
    assert whole.total() == bag_mutations.COUNT and not problems and not refused, (kind, problems)
    return whole


def judge_bag(kind: str, path: Path) -> str:
    outcome, about = bag_mutations.judge(whole_digests(kind), path, bag_mutations.has_checksums(kind))
    assert not outcome.startswith('silent'), f'{outcome}: {about}'
    return outcome


def read_bag(path: Path) -> str:
    """Whatever is in it: times, types and topics of all messages, and each of them."""
    _, problems, refused = bag_mutations.digests(path)
    return 'reported' if problems or refused else 'read'
