"""YAML from files that may be damaged or hostile, its values as ROS reads those of a parameter file.

PyYAML follows YAML 1.1, where 1:30 is 90, 1_000 is 1000, and 2026-01-02 a date. ROS (rcl_yaml_param_parser) has only
booleans, numbers as C reads them, and strings. One difference: ~ and null, which ROS reads as strings, are None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2 * 10**6  # 1 MB takes 0.4 s, at worst 2.4 s; metadata.yaml of rosbag2 has less than 1 kB per topic
MAX_DEPTH = 50  # of values in values; the parser takes seconds for thousands
_Loader: Any = getattr(yaml, 'CBaseLoader', yaml.BaseLoader)  # C: ten times as fast
_TRUE = {'y', 'Y', 'yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON'}
_FALSE = {'n', 'N', 'no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF'}
_NULL = {'', '~', 'null', 'Null', 'NULL'}
_STRING = ('!', 'tag:yaml.org,2002:str')
_TUPLE = 'tag:yaml.org,2002:python/tuple'  # how launch_ros writes the lists of its parameter files, and rcl reads them
_INTEGER = re.compile(r'[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)')
# The optional part begins with the point: if digits could be of either part, a long number with a letter after it would
# take a time that grows with the square of its length.
_HEX_REAL = re.compile(r'[-+]?0[xX]([0-9a-fA-F]+(\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)([pP][-+]?[0-9]+)?')
_REAL = re.compile(r'[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?')
_SPECIAL = re.compile(r'[-+]?(\.(inf|Inf|INF)|(?i:inf|infinity|nan))|\.(nan|NaN|NAN)')


def read_yaml(path: Path, has_aliases: bool = False) -> Any:
    """The value of a file. Raises OSError and, as `load_yaml`, ValueError."""
    with path.open('rb') as file:
        data = file.read(MAX_BYTES + 1)
    return load_yaml(data.decode() if len(data) <= MAX_BYTES else ' ' * len(data), has_aliases)


def load_yaml(text: str, has_aliases: bool = False) -> Any:
    """The value of a YAML text without tags (but launch_ros's of lists). Raises only ValueError, with one line.

    has_aliases: allow them; then a value may hold itself, and a few lines may stand for millions: do not walk it.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f'it is longer than {MAX_BYTES / 1e6:g} MB, the most that is read of YAML')
    try:
        return _document(yaml.parse(text, _Loader), {} if has_aliases else None)
    except Exception as error:  # of the parser; for odd numbers and keys also of Python
        raise ValueError(f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}') from error


def _document(events: Iterator[Any], anchors: dict[str, Any] | None) -> Any:
    value = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            value = _value(next(events), events, anchors, 0)
            next(events)  # its end
            if not isinstance(next(events), yaml.StreamEndEvent):
                raise yaml.YAMLError('several documents')
    return value


def _value(event: Any, events: Iterator[Any], anchors: dict[str, Any] | None, depth: int) -> Any:
    """What begins with an event."""
    if isinstance(event, yaml.AliasEvent):
        if anchors is None:
            raise yaml.YAMLError('an alias')
        return anchors[event.anchor or '']
    if depth > MAX_DEPTH:
        raise yaml.YAMLError('nested too deeply')
    if event.tag not in (None, *_STRING) and not (event.tag == _TUPLE and isinstance(event, yaml.SequenceStartEvent)):
        raise yaml.YAMLError(f'a tag {event.tag}')
    value: Any
    if isinstance(event, yaml.ScalarEvent):
        value = event.value if event.style in ('"', "'", '|', '>') or event.tag else plain(event.value)
        _keep(event, value, anchors)
    elif isinstance(event, yaml.SequenceStartEvent):
        value = []
        _keep(event, value, anchors)
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            value.append(_value(event, events, anchors, depth + 1))
    else:
        value = {}
        _keep(event, value, anchors)
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise yaml.YAMLError('a key that is not a word')
            key = event.value
            _keep(event, key, anchors)
            value[key] = _value(next(events), events, anchors, depth + 1)
    return value


def _keep(event: Any, value: Any, anchors: dict[str, Any] | None) -> None:
    if event.anchor is not None and anchors is not None:
        anchors[event.anchor] = value


def plain(text: str) -> Any:
    """The value of a word without quotes."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text) and -2**63 <= (whole := _integer(text)) < 2**63:
        return whole
    if _SPECIAL.fullmatch(text):
        return float(text.replace('.', ''))
    if _HEX_REAL.fullmatch(text):
        return float.fromhex(text)
    if _REAL.fullmatch(text) and math.isfinite(real := float(text)):
        return real
    return text


def _integer(text: str) -> int:
    digits = text.lstrip('+-')
    value = int(digits, 16 if digits[:2] in ('0x', '0X') else 8 if digits[0] == '0' else 10)
    return -value if text[0] == '-' else value
