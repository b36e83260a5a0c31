"""All rows of the suite, in their order: those that share a node, then those that start their own."""

from __future__ import annotations

from collections.abc import Sequence

from faults import compressed, images, machine, parameters, services, streams  # noqa: F401  (they add their rows)
from faults.suite import FAULTS, Fault


def chosen(words: Sequence[str] | None = None, first: str = '', short: bool = False) -> list[Fault]:
    found = [fault for fault in FAULTS.values() if not short or fault.is_short]
    if words:
        found = [fault for fault in found if any(word in fault.name for word in words)]
    found.sort(key=lambda fault: (fault.is_own, fault.is_compressed))
    names = [fault.name for fault in found]
    return found[names.index(first) if first else 0:]
