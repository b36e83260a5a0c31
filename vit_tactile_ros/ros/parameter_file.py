"""For launch files: what a parameter file sets for a node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vit_tactile_ros.data.plain_yaml import load_yaml


def value_in(file: Path, node: str, parameter: str) -> Any:
    """What a parameter file sets for the nodes of that name, in any namespace; None if it sets nothing or ''.

    Of several sections the last one counts, as for ROS.
    """
    found = [section.get(parameter) for section in _sections(load_yaml(file.read_text(encoding='utf-8')), node)]
    return next((value for value in reversed(found) if value), None)


def _sections(values: Any, node: str) -> Iterator[dict[str, Any]]:
    """The parameters of each section of the node; sections may be nested: namespace, node, ros__parameters."""
    for key, section in values.items() if isinstance(values, dict) else ():
        if key == 'ros__parameters' or not isinstance(section, dict):
            continue
        if key.rpartition('/')[2] in (node, '*', '**') and isinstance(own := section.get('ros__parameters'), dict):
            yield own
        yield from _sections(section, node)
