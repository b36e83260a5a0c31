"""Items made ahead in a thread."""

from __future__ import annotations

import pytest

from vit_tactile_ros.data.prefetch import Prefetch


def test_the_end_stays_the_end():
    """Asking again after the end, or after an error, waited for ever."""
    items = Prefetch(iter([1, 2]), 2)
    assert list(items) == [1, 2]
    with pytest.raises(StopIteration):
        next(items)

    def broken():
        yield 1
        raise OSError('no disk')

    items = Prefetch(broken(), 2)
    assert next(items) == 1
    for _ in range(2):
        with pytest.raises(OSError, match='no disk'):
            next(items)
    items.close()
