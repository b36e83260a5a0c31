"""A sample of `make fuzz`: every reader with damaged input, in a process of its own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('hypothesis')
pytest.importorskip('rosbags')

import fuzz  # noqa: E402
from fuzz_readers import readers  # noqa: E402

READERS = {reader.name: reader for reader in readers()}


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What each reader made of its inputs; those after a crash are missing."""
    folder = tmp_path_factory.mktemp('fuzz')
    ended = subprocess.run([sys.executable, fuzz.__file__, '--sample', folder],
                           capture_output=True, text=True, timeout=900)
    found: dict[str, list] = {}
    for line in map(json.loads, ended.stdout.splitlines()):
        if 'reader' in line:
            own = found[line['reader']] = []
        own.append(line)
    return found, ended.stderr[-2000:]


@pytest.mark.parametrize('name', READERS)
def test_a_reader_returns_or_raises_what_it_documents(results, name):
    """Crashes, hangs, other errors and memory without a bound; of bags, images that are lost or changed unseen: of
    2,600 to 10,400 bags with flipped bytes, 3 to 9 % lost messages without a word."""
    found, log = results
    assert name in found and 'outcomes' in found[name][-1], log
    assert not [line for line in found[name] if 'failed' in line]
    outcomes = found[name][-1]['outcomes']
    count = sum(outcomes.values())
    assert count > 0.6 * READERS[name].sample
    if name.startswith('bag '):
        assert outcomes['reported']
        assert outcomes.get('identical', 0) + outcomes.get('changed unseen', 0) < count
    if name == 'checkpoint':  # some mutations change nothing
        assert outcomes.get('read', 0) < 0.1 * count


CRASHING = """
import os, signal
from types import SimpleNamespace
from mutations import mutate_bytes

def prepare(folder):
    (folder / '0').mkdir()
    (folder / '0' / 'a').write_bytes(b'0123456789')
    return [folder / '0' / 'a']

def call(path):
    data = path.read_bytes()
    if b'\\0' in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if len(data) > 10:
        raise KeyError('long')

def readers():
    return [SimpleNamespace(name='crashing', prepare=prepare, call=call, documented=(), mutate=mutate_bytes,
                            strategy=None, seconds=1, megabytes=100)]
"""


def test_crashes_and_errors_are_found_and_kept(tmp_path, monkeypatch):
    """A harness that finds nothing: of a reader that crashes on a zero and raises on a long file."""
    (tmp_path / 'crashing.py').write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    [reader] = importlib.import_module('crashing').readers()
    *_, result = fuzz.fuzz(reader, tmp_path / 'found', 0, 12)
    told = [failure['failed'] for failure in result.failures]
    assert result.done == 12 and 'ended with SIGSEGV' in told and any(text.startswith('KeyError (') for text in told)
    for failure in result.failures:
        data = (Path(failure['kept']) / '0' / 'a').read_bytes()
        assert b'\0' in data if 'SIGSEGV' in failure['failed'] else len(data) > 10
    assert next(fuzz.fuzz(reader, tmp_path / 'found', 0, 12)).failures == result.failures  # resumed
