"""YAML of others: only plain values, in little time."""

import time

import pytest

from vit_tactile_ros.data.plain_yaml import load_yaml


def test_plain_values():
    assert load_yaml("a: [1, 2.5, 'x', null, true]\nb: {c: d}") == {'a': [1, 2.5, 'x', None, True], 'b': {'c': 'd'}}
    assert load_yaml('a: &x [1]\nb: *x', has_aliases=True) == {'a': [1], 'b': [1]} and load_yaml('') is None


@pytest.mark.parametrize('text', (
    '[' * 5000, '- ' * 5000 + 'a', '{a: ' * 5000, 'a: &x {b: *x}',
                                  '!!python/object:os.system x',
    '!!int x', '!!timestamp x', '? [a]\n: b', 'a: b: c', '2001-99-99', '\0', '%'))
def test_other_values_are_refused_at_once(text):
    """5 s for 5,000 brackets; RecursionError for a value that holds itself; other errors for odd tags."""
    begun = time.process_time()
    with pytest.raises(ValueError, match='^[^\\n]*$'):
        load_yaml(text)
    assert time.process_time() - begun < 0.5
