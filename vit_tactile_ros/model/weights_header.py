"""The header of a safetensors file, read and checked without reading the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

from vit_tactile_ros.foundation.errors import shown
from vit_tactile_ros.foundation.strict_json import parse_json

# Ours take 27 kB; the largest that ModelConfig allows takes about 1 MB.
MAX_HEADER = 2_000_000  # bytes
_ITEM_SIZES = {'F16': 2, 'BF16': 2, 'F32': 4, 'F64': 8}  # bytes; our weights have no other types


@dataclass(frozen=True)
class Header:
    """The contents of the header."""

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]  # of each weight
    raw: bytes  # as in the file, with the length before it


def read_header(file: BinaryIO, file_size: int, most: int = MAX_HEADER) -> Header:
    """Read the header from the start of a file; the file is then at the start of the weights.

    most: bytes that it may have.
    Raises ValueError for a header that is damaged or whose weights do not fill the file exactly.
    """
    length = file.read(8)
    size = int.from_bytes(length, 'little')
    if len(length) < 8 or size > file_size - 8:
        raise ValueError(f'{file_size} bytes are fewer than its header needs')
    if size > most:
        raise ValueError(f'its header of {size} bytes is longer than {most}')
    text = file.read(size)
    values = parse_json(text.decode('utf-8'))
    if not isinstance(values, dict):
        raise ValueError(f'its header is {shown(values)}; must be an object')
    metadata = values.pop('__metadata__', {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f'its __metadata__ is {shown(metadata)}; must be an object of strings')
    places = sorted((_place(name, entry), name) for name, entry in values.items())
    end = 0
    for (begin, stop), name in places:
        if begin != end:
            raise ValueError(f'weight {shown(name)} begins at byte {begin}; must be {end}, the end of the previous one')
        end = stop
    if 8 + size + end != file_size:
        raise ValueError(f'it has {file_size} bytes; its header and weights take {8 + size + end}')
    return Header(metadata, {name: tuple(entry['shape']) for name, entry in values.items()}, length + text)


def _place(name: str, entry: Any) -> tuple[int, int]:
    """First byte and end of a weight; checks that they fit its type and shape."""
    if not isinstance(entry, dict) or set(entry) != {'dtype', 'shape', 'data_offsets'}:
        raise ValueError(f'weight {shown(name)} is {shown(entry)}; must be an object of dtype, shape and data_offsets')
    dtype, shape, offsets = entry['dtype'], entry['shape'], entry['data_offsets']
    if not isinstance(dtype, str) or dtype not in _ITEM_SIZES:
        raise ValueError(f'weight {shown(name)} has dtype {shown(dtype)}; must be one of {", ".join(_ITEM_SIZES)}')
    if not _are_sizes(shape) or len(shape) > 8:
        raise ValueError(f'weight {shown(name)} has shape {shown(shape)}; must be at most 8 numbers of 0 or more')
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f'weight {shown(name)} has data_offsets {shown(offsets)}; must be two numbers of 0 or more')
    begin, end = offsets
    if end - begin != math.prod(shape) * _ITEM_SIZES[dtype]:
        raise ValueError(f'weight {shown(name)} has {end - begin} bytes; {shown(shape)} of {dtype} take '
                         f'{math.prod(shape) * _ITEM_SIZES[dtype]}')
    return begin, end


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)
