"""Damaged or malicious files, for tests that a reader refuses each with its own error."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

# What no field expects, or only few.
WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 0.5, 10**9, -10**9, 10**19, 10**400, -10**400, 1e300, -1e300, 1e-300, float('nan'), float('inf'),
    float('-inf'), '', 'x', '3', 'x' * 100_000, 'a\nb', '\ud800', '\x00', [], {}, [[]], [None], [1, 2, 3], [10**400],
    ['a'] * 3, [0] * 50_000, {'a': 1}, {'': None}, [[[[[[[[1]]]]]]]], {'a' * 10_000: {}})


def mutated_bytes(whole: bytes, rng: random.Random, count: int, end: int | None = None) -> Iterator[bytes]:
    """`whole` with bits flipped, bytes set, cut out, put in or cut off, among the first `end` bytes."""
    end = len(whole) if end is None else end
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at, kind = rng.randrange(end), rng.randrange(6)
            if kind == 0:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at % len(data)] = rng.randrange(256)
            elif kind == 2:
                del data[at:at + rng.choice((1, 10, 1000))]
            elif kind == 3:
                data[at:at] = rng.choice((b'[' * 5000, b'9' * 5000, b'{"a":', b',', b'\0', b'-', b'"', b'1e999'))
            elif kind == 4:
                data[at:at] = data[at:at + rng.choice((1, 20, 500))]
            else:
                del data[max(at, 1):]
            if not data:
                break
        yield bytes(data)


def mutated_values(values: Any, rng: random.Random, count: int) -> Iterator[Any]:
    """`values`, from JSON, with one or two parts replaced, removed, added or renamed."""
    for _ in range(count):
        changed = copy.deepcopy(values)
        for _ in range(rng.choice((1, 1, 1, 2))):
            places = [(parent, key) for parent, key in _places(changed)]
            if not places:
                break
            parent, key = rng.choice(places)
            kind = rng.randrange(8)
            if kind < 5:
                parent[key] = copy.deepcopy(rng.choice(WRONG))
            elif kind == 5:
                del parent[key]
            elif kind == 6 and isinstance(parent, dict):
                parent[rng.choice(('', 'x', 'a\nb', '\ud800', 'x' * 100_000))] = parent.pop(key)
            else:
                parent[key] = [parent[key]] * rng.choice((0, 1, 3, 20_000 if len(repr(parent[key])) < 100 else 4))
        yield changed


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield values, key
        yield from _places(value)
