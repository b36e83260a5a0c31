"""Parameter files as ROS reads them: their sections, the nodes that these are for, and a value for launch files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vit_tactile_ros.data.plain_yaml import read_yaml


def sections(values: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """Node name patterns of a parameter file, each with its parameters; sections may be nested: namespace, node."""
    for key, below in values.items() if isinstance(values, dict) else ():
        if key == 'ros__parameters':
            yield name, below
        else:
            yield from sections(below, f'{name}/{str(key).strip("/")}')


def matches(section: str, name: str) -> bool:
    """Whether a section's pattern matches the node of that full name: ** is any number of levels, * is one."""
    parts = {'**': '(?:/[^/]+)*', '*': '/[^/]+'}
    return re.fullmatch(''.join(parts.get(part, f'/{re.escape(part)}') for part in section.strip('/').split('/')),
                        name) is not None


def full_name(group: str, namespace: str, node: str) -> str:
    """Of a node that a launch file starts; group: the launch configuration ros_namespace, of the group it is in."""
    parts = (namespace, node) if namespace.startswith('/') else (group, namespace, node)
    return ''.join(f'/{part.strip("/")}' for part in parts if part.strip('/'))


def value_in(file: Path, name: str, parameter: str) -> Any:
    """What a parameter file sets for the node of that full name; None if it sets nothing or ''.

    Of several sections the last one counts, as for ROS. Raises OSError, and ValueError for what is not YAML.
    """
    try:
        loaded = read_yaml(file)
    except ValueError as error:
        raise ValueError(f'parameter file {file}: {error}') from error
    found = [values.get(parameter) for section, values in sections(loaded)
             if isinstance(values, dict) and matches(section, name)]
    return next((value for value in reversed(found) if value), None)
