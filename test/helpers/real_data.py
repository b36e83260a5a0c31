"""Real recordings, which are not part of the repository: in ../shared/data beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).parents[2].resolve().parent / 'shared' / 'data'


def real_data(name: str, pattern: str = '') -> Path:
    """A file or folder below REAL_DATA, which holds files of the pattern; skips the test without it."""
    path = REAL_DATA / name
    if not (any(path.glob(pattern)) if pattern else path.exists()):
        pytest.skip(f'{path / pattern} is not there: real recordings are not part of the repository')
    return path
