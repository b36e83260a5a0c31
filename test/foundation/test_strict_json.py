"""JSON from files that may be damaged."""

import pytest

from vit_tactile_ros.foundation.strict_json import parse_json


@pytest.mark.parametrize('text', ['[' * 100_000, '{"a":' * 100_000, '1' * 100_000, '{', '', b'\xff\xfe', b'\x80'])
def test_only_value_errors(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_values():
    assert parse_json('{"a": [1, 2.5, null]}') == {'a': [1, 2.5, None]}
