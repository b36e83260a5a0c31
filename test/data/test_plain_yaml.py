"""YAML of others: only plain values, in little time."""

import time

import pytest

from vit_tactile_ros.data.bags.metadata import parse_metadata, read_metadata
from vit_tactile_ros.data.plain_yaml import MAX_BYTES, load_yaml, plain


def test_plain_values():
    assert load_yaml("a: [1, 2.5, 'x', null, true]\nb: {c: d}") == {'a': [1, 2.5, 'x', None, True], 'b': {'c': 'd'}}
    assert load_yaml('a: &x [1]\nb: *x', has_aliases=True) == {'a': [1], 'b': [1]} and load_yaml('') is None


def test_lists_as_launch_ros_writes_them():
    """Refused: the node warned that the parameters of every list argument of `ros2 launch` were ignored."""
    assert load_yaml('/**:\n  ros__parameters:\n    sensors: !!python/tuple\n    - left\n    - right\n') == {
        '/**': {'ros__parameters': {'sensors': ['left', 'right']}}}


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
    '!!python/object:os.system x', '!!python/tuple x', '!!python/tuple {a: b}', '!!python/object/apply:os.getcwd []',
    '!!int x', '!!timestamp x', '? [a]\n: b', 'a: b: c', '--- a\n--- b', '\0', '%'))
def test_other_values_are_refused_at_once(text):
    """5 s for 5,000 brackets; RecursionError for a value that holds itself; other errors for odd tags."""
    begun = time.process_time()
    with pytest.raises(ValueError, match='^[^\\n]*$'):
        load_yaml(text)
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize('start', ('9', '0xf', '-9', '0.9', '0x.f'))
def test_a_long_number_with_a_letter_after_it_takes_little_time(start):
    """0.9 s for 5,000 digits, as in the slowest input of the fuzz tests, and four times as long for twice as many."""
    def taken(digits: int) -> float:
        text, begun = start + start[-1] * digits + 'x', time.process_time()
        assert plain(text) == text
        return time.process_time() - begun

    assert min(taken(20_000) for _ in range(2)) < 2.0


def test_numbers_with_and_without_a_point():
    assert [plain(text) for text in ('1.', '1.5', '.5', '1e3', '0x1.8', '0x.8p1', '0x1p2', '1.5.', '.', '0x')] == [
        1.0, 1.5, 0.5, 1000.0, 1.5, 1.0, 4.0, '1.5.', '.', '0x']


def test_a_file_that_is_too_long_is_not_parsed(tmp_path):
    """A metadata.yaml of 100 MB was read whole, and parsed for minutes."""
    text = '#' * (MAX_BYTES + 1)
    (tmp_path / 'metadata.yaml').write_text(text)
    begun = time.process_time()
    with pytest.raises(ValueError, match='metadata.yaml cannot be read: it is longer than 2 MB'):
        read_metadata(tmp_path)
    with pytest.raises(ValueError, match='it is longer than 2 MB'):  # in the file of a bag
        parse_metadata(text)
    assert time.process_time() - begun < 0.5 and load_yaml(text[1:]) is None


def test_the_message_about_a_long_alias_is_short(tmp_path):
    """5,000 characters of a damaged metadata.yaml were repeated in the message; found by fuzzing."""
    (tmp_path / 'metadata.yaml').write_text(f'a: *b{"9" * 5000}\n')
    with pytest.raises(ValueError, match='metadata.yaml cannot be read') as raised:
        read_metadata(tmp_path)
    assert len(str(raised.value)) <= 2000
