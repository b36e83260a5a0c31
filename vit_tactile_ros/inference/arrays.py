"""Arrays in a .npz file that may be damaged or hostile. numpy's own reader allocates whatever a file claims."""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 2**26  # bytes that a smaller file may unpack to


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name, never of objects. Raises only OSError and, for a file that is not whole, ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > max(LARGEST, os.stat(path).st_size):
                raise ValueError(f'it would unpack to {size} bytes; must be at most {LARGEST}')
            return {member.filename.removesuffix('.npy'): _array(archive.read(member)) for member in archive.infolist()}
    except (OSError, ValueError):
        raise
    except Exception as error:  # what zipfile, zlib and numpy's header raise for damaged bytes is not documented
        raise ValueError(f'{type(error).__name__}: {error}') from error


def _array(data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f'an array in version {version}; must be 1.0 or 2.0')
    shape, is_fortran, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or dtype.kind == 'V' or not dtype.itemsize:
        raise ValueError(f'an array of {dtype}; must be of numbers or texts')
    if min(shape, default=0) < 0 or size != len(data) - file.tell():
        raise ValueError(f'an array of {len(data) - file.tell()} bytes; {shape} of {dtype} take {size}')
    values = np.frombuffer(bytearray(data[file.tell():]), dtype)
    if dtype.kind == 'U' and values.view(dtype.str[0] + 'u4').max(initial=0) > sys.maxunicode:
        raise ValueError('a text with a character that does not exist')  # which Python would take, and crash later
    return values.reshape(shape, order='F' if is_fortran else 'C')
