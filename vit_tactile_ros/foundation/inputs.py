"""Inputs of a command that do not exist, found before the imports, which take seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vit_tactile_ros.foundation.command_line import nearest
from vit_tactile_ros.foundation.errors import UserError, one_line

_STREAM = 'a video, a folder of images or a bag'
_BAG = 'a bag, or a folder of bags'
_CHECKPOINT = 'a .safetensors file'
_IMAGE = 'an image'
_CSV = 'a CSV file'
# What the words before the first flag name.
POSITIONAL = {
    'adapt': _STREAM, 'average': _CHECKPOINT, 'compare': 'the output folder of a replay, or its frames.csv',
    'extract': _BAG, 'predict': 'an image, a folder of images or a video', 'replay': _BAG,
    'latency': 'a video', 'to_bag': 'a video or a folder of images',
}
FLAGS = {
    'against': _CHECKPOINT, 'checkpoint': _CHECKPOINT, 'contacts': _CSV, 'data': 'a folder, CSV or bag with the data',
    'from_table': 'an .npz file', 'init': f"{_CHECKPOINT}, or 'shipped'", 'labels': _CSV,
    'presses': 'a CSV file or a recording', 'reference_image': _IMAGE, 'slip_checkpoint': _CHECKPOINT,
    'stream': 'a video, or a folder of videos', 'table': 'an .npz file',
}
_OWN = {'predict': {'reference': _IMAGE}, 'fit_sensor': {'reference': _IMAGE}}  # elsewhere it names a column
_WORDS = {'data': 'simulator', 'init': 'shipped'}  # values that are no paths
_OTHERS_COUNT = ('predict',)  # runs with the inputs that exist, and reports the others at the end


def are_there(name: str, words: Sequence[str]) -> bool:
    """False after `check_inputs` has failed, with its message on stderr as the command prints it."""
    try:
        check_inputs(name.replace('-', '_'), words)
        return True
    except UserError as error:
        print(f'{name}: {one_line(str(error))}', file=sys.stderr)
        return False


def check_inputs(name: str, words: Sequence[str]) -> None:
    """Raises UserError for the first input in the command line of the command `name` that does not exist.

    The command checks again: this knows neither its flags without a value nor words after them.
    """
    if '--help' in words or '-h' in words:
        return
    positional, flags = _parts(words)
    if name in POSITIONAL:
        missing = [word for word in positional if not _exists(word)]
        if missing and (name not in _OTHERS_COUNT or len(missing) == len(positional)):
            raise UserError(f'{_told(missing[0])}; must be {POSITIONAL[name]}')
    known = FLAGS | _OWN.get(name, {})
    for flag, value in flags:
        if flag in known and value != _WORDS.get(flag) and not _exists(value):
            raise UserError(f'--{flag}: {_told(value)}; must be {known[flag]}')


def _parts(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The words before the first flag, and each value with its flag."""
    positional: list[str] = []
    flags: list[tuple[str, str]] = []
    flag = None
    for word in words:
        if word == '--':
            break
        if word.startswith('-'):
            flag, given, value = word.lstrip('-').partition('=')
            flags += [(flag, value)] if given else []
        elif flag is None:
            positional.append(word)
        else:
            flags.append((flag, word))
    return positional, flags


def _exists(word: str) -> bool:
    try:
        return not word or Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # for instance a name that is too long: the command says what is wrong
        return True


def _told(word: str) -> str:
    path = Path(word).expanduser()
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if there != path.absolute().parent:
        return f'{word} does not exist, and neither does its folder ({there} does)'
    return f'{word} does not exist{nearest(path.name, _names(there))}'


def _names(folder: Path) -> Iterator[str]:
    try:
        yield from (child.name for child in folder.iterdir())
    except OSError:
        return
