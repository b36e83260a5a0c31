"""The parser of every command: help with examples, one line for a mistake, the nearest flag."""

import pytest

from vit_tactile_ros.foundation.command_line import CommandParser, nearest


@pytest.fixture
def parser():
    parser = CommandParser('toy', 'Do it.\n\nAnd so on.', ['--output x', ''])
    parser.add_argument('--output', required=True)
    parser.add_argument('--batch_size', type=int, default=3, help='images')
    parser.add_argument('names', nargs='*')
    return parser


@pytest.mark.parametrize(('words', 'message'), [
    (['--ouput', 'x'], 'toy: unknown flag --ouput; did you mean --output?;'),
    (['--output', 'x', '--batch-size=3'], 'toy: unknown flag --batch-size; did you mean --batch_size?;'),
    (['--output', 'x', '--zzz'], 'toy: unknown flag --zzz; '),
    ([], 'toy: the following arguments are required: --output'),
    (['--output', 'x', '--batch_size', 'many'], "toy: argument --batch_size: invalid int value: 'many'"),
])
def test_a_mistake_is_one_line(parser, capsys, words, message):
    """Thirty lines of usage, and the misspelt flag reported as another one that is missing."""
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.startswith(message) and err.count('\n') == 1


def test_what_argparse_accepts_is_still_accepted(parser):
    """Abbreviations, and anything after --."""
    parsed = parser.parse_args(['--out', 'x', '--batch=4', '--', '--name'])
    assert (parsed.output, parsed.batch_size, parsed.names) == ('x', 4, ['--name'])


def test_help_opens_with_examples(parser, capsys):
    text = parser.format_help()
    start = text.split('usage:')[0].splitlines()
    assert start[0] == 'Do it.' and start[2] == 'examples:'
    assert start[3].endswith('toy --output x') and start[4].endswith('toy')
    assert 'And so on.' in text and '(default: 3)' in text
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(['--version'])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith('vit_tactile_ros 0.')


def test_no_suggestion_if_nothing_is_similar():
    assert nearest('zzz', ['train']) == '' and nearest('Trian', ['train', 'tune']) == '; did you mean train?'
