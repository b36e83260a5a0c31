"""Rows of Parquet files, read in parts with the optional package pyarrow, and the images that they hold."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.foundation.errors import MissingPackageError, one_line, shown
from vit_tactile_ros.inference.image_file import MAX_FILE_BYTES, decode_image
from vit_tactile_ros.inference.image_header import DecodeError

MAX_PART_BYTES = 2**31  # of the wanted columns in one row group, unpacked: pyarrow reads a page of it at a time
# Of the wanted columns in one row. Read one at a time: a value that a file holds once, in a dictionary, may be in every
# row, so that 60 rows of a file of 2 kB took 4.6 GB. 25 us per row, little beside decoding an image.
MAX_ROW_BYTES = 2 * (MAX_FILE_BYTES + 2**20)  # image and reference


class ParquetFile:
    """One file as a context manager; raises DataError for a damaged one, MissingPackageError without pyarrow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingPackageError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or the extra: pip "
                                      "install 'vit_tactile_ros[parquet]'") from error
        self._errors = (pyarrow.ArrowException, OSError, ValueError, MemoryError)
        with self._reading():
            self._file = pyarrow.parquet.ParquetFile(path, memory_map=False)

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def columns(self) -> list[str]:
        return list(self._file.schema_arrow.names)

    def image_columns(self) -> list[str]:
        """Columns of images, as Hugging Face datasets store them: a struct of bytes and path, or bytes alone."""
        import pyarrow.types as types

        return [field.name for field in self._file.schema_arrow
                if types.is_binary(field.type) or types.is_large_binary(field.type)
                or (types.is_struct(field.type) and field.type.get_field_index('bytes') >= 0)]

    def class_names(self, column: str) -> list[str] | None:
        """The names of a ClassLabel column, whose rows are numbers; None for any other column."""
        try:
            described = json.loads((self._file.schema_arrow.metadata or {})[b'huggingface'])
            names = described['info']['features'][column]['names']
        except (LookupError, TypeError, ValueError, RecursionError):
            return None
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None

    def read(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(row, values by column) in order; raises DataError for a missing column, a huge part or row, and damage.

        In memory are a page and a row at a time, and the row twice.
        """
        if missing := [name for name in columns if name not in self.columns]:
            raise DataError(f'{self.path} has no column {shown(missing[0])}; it has '
                            f'{one_line(", ".join(self.columns[:20]))}')
        with self._reading():
            for group in range(self._file.num_row_groups):
                part = self._file.metadata.row_group(group)
                size = sum(part.column(i).total_uncompressed_size for i in range(part.num_columns)
                           if part.column(i).path_in_schema.partition('.')[0] in columns)
                values = max((part.column(i).num_values for i in range(part.num_columns)
                              if part.column(i).path_in_schema.partition('.')[0] in columns), default=0)
                if values > part.num_rows:
                    raise DataError(f'{self.path}: row group {group} has {values} values in {part.num_rows} rows; must '
                                    'be one value per row in each of the columns that are read')
                if not 0 <= size <= MAX_PART_BYTES:
                    raise DataError(f'{self.path}: row group {group} has {size / 1e9:.1f} GB; must be at most '
                                    f'{MAX_PART_BYTES / 1e9:.1f} GB: write smaller row groups')
        number = 0
        batches = self._file.iter_batches(1, columns=list(columns), use_threads=False)
        while True:
            with self._reading(f', row {number}'):
                batch = next(batches, None)
                if batch is None:
                    return
                if batch.nbytes > MAX_ROW_BYTES:
                    raise DataError(f'{self.path}, row {number} has {batch.nbytes / 1e6:.0f} MB; must have at most '
                                    f'{MAX_ROW_BYTES / 1e6:.0f} MB')
                rows = batch.to_pylist()
            for row in rows:
                yield number, row
                number += 1

    @contextlib.contextmanager
    def _reading(self, where: str = '') -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except self._errors as error:
            raise DataError(f'{self.path}{where} cannot be read as Parquet: {one_line(str(error))[:300]}') from error


def image_of(value: Any, where: str) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of a value of an image column; `where` names file, row and column in errors (DataError)."""
    if isinstance(value, dict):
        if value.get('bytes') is None and value.get('path'):
            raise DataError(f'{where} has no bytes, only the path {shown(value["path"])}; the images must be in the '
                            'file, as push_to_hub of the package datasets writes them')
        value = value.get('bytes')
    if not isinstance(value, bytes):
        raise DataError(f'{where} is {shown(value)}; must be the bytes of an image file')
    if len(value) > MAX_FILE_BYTES:
        raise DataError(f'{where} has {len(value) / 1e6:.0f} MB; must have at most {MAX_FILE_BYTES / 1e6:.0f} MB')
    try:
        return decode_image(value)
    except DecodeError as error:
        raise DataError(f'{where} cannot be read as an image: {error}') from error


def label_of(value: Any, names: Sequence[str] | None, where: str) -> str:
    """A class name from a value of a label column; `names`: those of a ClassLabel. Raises DataError."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return ''
    if names is not None:
        if not isinstance(value, int) or not -1 <= value < len(names):
            raise DataError(f'{where} is {shown(value)}; must be a number of the {len(names)} class names')
        return '' if value == -1 else names[value].strip()  # -1: not labelled
    if isinstance(value, (str, int)):
        return str(value).strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise DataError(f'{where} is {shown(value)}; must be a text or a whole number')
