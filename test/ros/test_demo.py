"""The demo as a user starts it, without a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from vit_tactile_ros.demo import parse_arguments


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'vit_tactile_ros.demo', *arguments], capture_output=True, text=True,
                          timeout=180, stdin=subprocess.DEVNULL, env=os.environ | environment)


def test_timed_demo_ends_with_a_summary():
    """DEMO_SECONDS ends it; both fingers were classified, and tau was changed while it ran."""
    done = run_demo('--tau', '0.5', DEMO_SECONDS='4', COLUMNS='100')
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.split()}
    for tau in ('0.5', '0.99'):
        assert int(rows[tau][1]) > 0, done.stdout
    for finger in ('left', 'right'):
        images, classified, superseded, rejected = (int(n) for n in rows[finger][1:5])
        assert classified > 0
        assert rejected == 0
        assert images - classified - superseded in (0, 1, 2), 'all but the images still under way'
    assert 'Traceback' not in done.stdout + done.stderr


def test_demo_says_why_a_node_ended(tmp_path):
    """A node that can't start ends the demo with status 1 and the node's own words."""
    path = tmp_path / 'broken.safetensors'
    path.write_bytes(b'')
    done = run_demo('--checkpoint', str(path), DEMO_SECONDS='4')
    assert done.returncode == 1
    assert 'not a whole safetensors file' in done.stdout


def test_picture(tmp_path):
    """`make picture` writes what the README shows."""
    path = tmp_path / 'demo.svg'
    done = run_demo('--picture', str(path), '--rate', '15')
    assert done.returncode == 0, done.stdout + done.stderr
    text = re.sub(r'<[^>]*>|&#160;', ' ', path.read_text())
    assert 'left' in text
    assert 'right' in text
    assert 'of full depth' in text
    assert not re.search(r'(?<!xmlns=")https?:', path.read_text()), 'a picture that fetches something'


@pytest.mark.parametrize('arguments', [['--seconds', '0'], ['--tau', '2'], ['--rate', '500']])
def test_bad_argument(arguments, capsys):
    """Bad values are refused before anything starts."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert arguments[0].lstrip('-') in capsys.readouterr().err
