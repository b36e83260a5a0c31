"""The text of files saved from spreadsheets, in several encodings."""

from __future__ import annotations

import codecs
from pathlib import Path

from vit_tactile_ros.data.table import DataError

_MARKS = ((codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF32_LE, 'utf-32'), (codecs.BOM_UTF32_BE, 'utf-32'),
          (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'))
_REMEDY = "save it as 'CSV UTF-8'"


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; line ends stay as they are.

    Raises DataError that names the probable encoding, and for a file that is not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f'{path} cannot be read as a CSV: {error.strerror}') from error
    if data.startswith(b'PK\x03\x04'):
        raise DataError(f'{path} cannot be read as a CSV: it is a workbook (.xlsx) or another zip file; {_REMEDY}')
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), 'utf-8')
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        if encoding != 'utf-8':
            raise DataError(f'{path} cannot be read as a CSV: it begins as {encoding} and is damaged at byte '
                            f'{error.start}; {_REMEDY} again') from error
        if (wide := _wide(data)) is not None:
            raise DataError(f'{path} cannot be read as a CSV: it is not UTF-8 and seems to be {wide}; {_REMEDY}'
                            ) from error
        seen = data[max(0, error.start - 10):error.start + 10].decode('cp1252', errors='replace')
        seen = ' '.join(seen.split())
        raise DataError(f'{path}, line {line}: cannot be read as a CSV: not UTF-8 at {seen!r}; it seems to be '
                        f'Windows-1252 (cp1252) or another 8-bit encoding; {_REMEDY}') from error
    if '\0' in text:
        if (wide := _wide(data)) is not None:
            raise DataError(f'{path} cannot be read as a CSV: it is not UTF-8 and seems to be {wide}; {_REMEDY}')
        line = text[:text.index('\0')].count('\n') + 1
        raise DataError(f'{path}, line {line}: cannot be read as a CSV: it holds a NUL byte, '
                        f'so it is damaged or not a text file; {_REMEDY} again')
    return text


def _wide(data: bytes) -> str | None:
    """UTF-16 without a byte order mark is recognised by zeros in every second byte."""
    start = data[:4096]
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) < len(start) / 5 or min(even, odd) > max(even, odd) / 4:
        return None
    return 'UTF-16 without a byte order mark'
