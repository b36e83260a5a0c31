"""Damaged and malicious files: valid ones with changed bytes, or with changed values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

# What no field expects, or only few.
WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 0.5, 10**9, -10**9, 10**19, 10**400, -10**400, 1e300, -1e300, 1e-300, float('nan'), float('inf'),
    float('-inf'), '', 'x', '3', 'x' * 100_000, 'a\nb', '\ud800', '\x00', [], {}, [[]], [None], [1, 2, 3], [10**400],
    ['a'] * 3, [0] * 50_000, {'a': 1}, {'': None}, [[[[[[[[1]]]]]]]], {'a' * 10_000: {}})
# Sizes that overflow, are negative, or are just too large.
SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 10**6, 2**26, 2**28 + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1,
         2**63, 2**64 - 1)
JUNK = (b'[' * 5000, b'9' * 5000, b'{"a":', b',', b'\0', b'-', b'"', b'1e999', b'\n', b'\xff' * 9, b'&a [*a]', b': ')


def mutate_bytes(data: bytes, rng: random.Random, gentle: bool = False) -> bytes:
    """With a bit flipped or a byte set, a run of bytes replaced, or cut off; unless `gentle`, mostly several times, and
    also with sizes written over others, and bytes cut out, put in and doubled.

    As often near the start and the end, and at multiples of 64, as anywhere: there is the structure of most formats.
    """
    changed = bytearray(data)
    for _ in range(1 if gentle else rng.choice((1, 1, 2, 8))):
        size = len(changed)
        if not size:
            break
        at = rng.randrange(size) if rng.random() < 0.5 else rng.choice((
            rng.randrange(min(size, 600)), size - 1 - rng.randrange(min(size, 1500)),
            rng.randrange(size // 64 + 1) * 64 % size))
        way = rng.randrange(10 if gentle else 16)
        if way < 5:
            changed[at] ^= 1 << rng.randrange(8)
        elif way < 8:
            changed[at] = rng.randrange(256)
        elif way == 8:
            changed[at:at + 8] = rng.randbytes(len(changed[at:at + 8]))
        elif way == 9:
            del changed[at:]
        elif way < 13:
            width = rng.choice((1, 2, 4, 8))
            value = (rng.choice(SIZES) & (1 << 8 * width) - 1).to_bytes(width, rng.choice(('little', 'big')))
            changed[at:at + width] = value[:len(changed[at:at + width])]
        elif way == 13:
            del changed[at:at + rng.choice((1, 10, 1000))]
        elif way == 14:
            changed[at:at] = rng.choice(JUNK)
        else:
            changed[at:at] = changed[at:at + rng.choice((1, 20, 500))]
    return bytes(changed)


def mutate_values(values: Any, rng: random.Random) -> Any:
    """`values`, from JSON, with one or two parts replaced, removed, repeated or renamed. Changes them in place."""
    places = list(places_in(values))
    # All places are chosen before the first change, so that no change is made within WRONG.
    for parent, key in rng.choices(places, k=rng.choice((1, 1, 1, 2))) if places else ():
        if isinstance(parent, dict) and key not in parent or isinstance(parent, list) and key >= len(parent):
            continue  # removed by the first change
        kind = rng.randrange(8)
        if kind < 5:
            parent[key] = rng.choice(WRONG)
        elif kind == 5:
            del parent[key]
        elif kind == 6 and isinstance(parent, dict):
            parent[rng.choice(('', 'x', 'a\nb', '\ud800', 'x' * 100_000))] = parent.pop(key)
        else:
            is_small = isinstance(parent[key], (bool, int, float)) or isinstance(parent[key], str) and (
                len(parent[key]) < 100)
            parent[key] = [parent[key]] * rng.choice((0, 1, 3, 20_000 if is_small else 4))
    return values


def places_in(values: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of every value within `values`."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield values, key
        yield from places_in(value)
