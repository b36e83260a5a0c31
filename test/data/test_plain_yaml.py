"""YAML of others: only plain values, in little time."""

import time

import pytest

from vit_tactile_ros.data.plain_yaml import load_yaml


def test_plain_values():
    assert load_yaml("a: [1, 2.5, 'x', null, true]\nb: {c: d}") == {'a': [1, 2.5, 'x', None, True], 'b': {'c': 'd'}}
    assert load_yaml('a: &x [1]\nb: *x', has_aliases=True) == {'a': [1], 'b': [1]} and load_yaml('') is None


def test_words_and_numbers_are_those_of_ros():
    """YAML 1.1 has 1:30 as 90, 1_000 as 1000, a date, and True for the key `on`; test/ros/test_start.py compares with
    the parser of ROS itself."""
    values = load_yaml("{on: 1:30, no: 1_000, 010: 010, 1: 08, 2: 2001-99-99, 3: [yes, 'yes', !!str 5, off], 4: 1e3}")
    assert values == {'on': '1:30', 'no': '1_000', '010': 8, '1': 8.0, '2': '2001-99-99',
                      '3': [True, 'yes', '5', False], '4': 1000.0}
    assert list(load_yaml('a: &a {b: *a}', has_aliases=True)['a']) == ['b'] and load_yaml('a: ~\nb:') == {
        'a': None, 'b': None}


@pytest.mark.parametrize('text', (
    '[' * 5000, '- ' * 5000 + 'a', '{a: ' * 5000, 'a: &x {b: *x}',
    '!!python/object:os.system x',
    '!!int x', '!!timestamp x', '? [a]\n: b', 'a: b: c', '--- a\n--- b', '\0', '%'))
def test_other_values_are_refused_at_once(text):
    """5 s for 5,000 brackets; RecursionError for a value that holds itself; other errors for odd tags."""
    begun = time.process_time()
    with pytest.raises(ValueError, match='^[^\\n]*$'):
        load_yaml(text)
    assert time.process_time() - begun < 0.5
