"""The demo as a user starts it, without a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections import Counter, deque
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from vit_tactile_ros.demo import parse_arguments
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.demo.monitor import Finger, Tally
from vit_tactile_ros.ros.demo.session import HINT, _read_keys, _single_keys
from vit_tactile_ros.ros.demo.view import demo_view, finger_table, fits, status_line, summary_table


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'vit_tactile_ros.demo', *arguments], capture_output=True, text=True,
                          timeout=180, stdin=subprocess.DEVNULL, env=os.environ | environment)


def test_timed_demo_ends_with_a_summary():
    """DEMO_SECONDS ends it; both fingers were classified, and tau was changed while it ran."""
    done = run_demo('--tau', '0.5', DEMO_SECONDS='4')
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.split()}
    for tau in ('0.5', '0.99'):
        assert int(rows[tau][1]) > 0, done.stdout
    for finger in ('left', 'right'):
        images, classified, superseded, rejected = (int(n) for n in rows[finger][1:5])
        assert classified > 0
        assert rejected == 0
        assert images - classified - superseded in (0, 1, 2), 'all but the images in progress'
    assert 'Traceback' not in done.stdout + done.stderr


def test_ctrl_c_ends_with_the_summary():
    """Ctrl-C printed a traceback instead of the summary."""
    demo = subprocess.Popen([sys.executable, '-m', 'vit_tactile_ros.demo'], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    assert demo.stdout
    head = []
    while not any('first results' in line for line in head):
        head.append(demo.stdout.readline())
        assert head[-1], 'ended: ' + ''.join(head)
    demo.send_signal(signal.SIGINT)
    rest = demo.communicate(timeout=60)[0]
    assert demo.returncode == 0, rest
    assert 'Traceback' not in rest
    assert re.search(r'^\s*left +\d+ +\d+ +\d+ +0 ', rest, re.MULTILINE), rest


@pytest.mark.parametrize(('width', 'height', 'pictures'), [(140, 40, True), (80, 24, False), (80, 40, True)])
def test_view_fits_the_terminal(width, height, pictures):
    """In 80x24 the line with tau and the keys was below the screen; nothing may be cut off with an ellipsis."""
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    assert fits(console) == pictures
    result = TactileClassification(class_name='no_contact', confidence=1.0, exit_block=12, compute_share=1.0,
                                   inference_time=0.1234, tau=[0.8, 0.8])
    fingers = {name: Finger(name, np.zeros(shape, np.uint8), result, 'no_contact')
               for name, shape in (('left', (240, 320, 3)), ('right', (320, 240, 3)))}
    for finger in fingers.values():
        finger.latencies.append(0.1234)
        finger.counters['superseded'] = '12345'
        finger.event = 'interrupted #123'
    monitor = SimpleNamespace(fingers=fingers, tau=(0.8, 0.8), problem='', tallies={})
    console.print(demo_view(monitor, HINT, fits(console)))
    text = console.export_text()
    assert '…' not in text
    assert len(text.splitlines()) < height
    assert 'q: quit' in text


def test_results_of_the_gate():
    """Untouched images in no column, as "exit 0", or with 0 ms in the median of the network's time."""
    console = Console(width=140, record=True, file=io.StringIO())
    result = TactileClassification(class_name='no_contact', confidence=0.95, exit_index=-1, exit_block=0)
    finger = Finger('left', np.zeros((240, 320, 3), np.uint8), result, 'no_contact', latencies=deque([0.01]))
    monitor = SimpleNamespace(fingers={'left': finger}, tau=(0.8, 0.8), problem='', tallies={
        (0.8, 0.8): Tally(results=4, labelled=4, right=4, exits=Counter({0: 3, 4: 1}))})
    for seen in (demo_view(monitor, HINT), status_line(monitor), summary_table(monitor), finger_table(monitor)):
        console.print(seen)
    text = console.export_text()
    assert '●gate ○4 ○8 ○12' in text and 'exit gate' in text and 'ms to result' in text
    assert re.search(r'inference +-', text) and '…' not in text
    assert re.search(r'accuracy +gate +exit 4 .*\n.*\n.* 100.0 % +75 % +25 % +0 % +0 % ', text), text
    assert re.search(r'left .* 10\.0 +10\.0 +- *$', text, re.MULTILINE), text


def test_events_and_the_exits_of_another_checkpoint():
    """The exits of a checkpoint of states were in no column."""
    console = Console(width=140, record=True, file=io.StringIO())
    result = TactileClassification(class_name='slip', confidence=0.95, exit_index=0, exit_block=2)
    finger = Finger('left', np.zeros((240, 320, 3), np.uint8), result, 'slip', 'slip began #3', latencies=deque([0.01]))
    monitor = SimpleNamespace(fingers={'left': finger}, tau=(0.8, 0.8), problem='', tallies={
        (0.8, 0.8): Tally(results=4, labelled=4, right=4, exits=Counter({2: 3, 6: 1}))})
    for seen in (demo_view(monitor, HINT), status_line(monitor), summary_table(monitor)):
        console.print(seen)
    text = console.export_text()
    assert '○gate ●2 ○6' in text and 'slip 95 %, exit 2 (true class slip), slip began #3' in text
    assert re.search(r'event +slip began #3', text) and re.search(r'100.0 % +0 % +75 % +25 % ', text), text


def test_demo_says_why_a_node_ended(tmp_path):
    """A node that cannot start ends the demo with status 1 and the node's log."""
    path = tmp_path / 'broken.safetensors'
    path.write_bytes(b'')
    done = run_demo('--checkpoint', str(path), DEMO_SECONDS='4')
    assert done.returncode == 1
    assert 'not a complete safetensors file' in done.stdout


def test_picture(tmp_path):
    """`make picture` writes what the README shows."""
    path = tmp_path / 'demo.svg'
    done = run_demo('--picture', str(path), '--rate', '15')
    assert done.returncode == 0, done.stdout + done.stderr
    text = re.sub(r'<[^>]*>|&#160;', ' ', path.read_text())
    assert 'left' in text
    assert 'right' in text
    assert 'of full depth' in text
    assert not re.search(r'(?<!xmlns=")https?:', path.read_text()), 'a picture that loads something'


def test_keys_without_enter(monkeypatch):
    """The terminal is as before afterwards, also after an error."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with open(slave) as terminal, open(master, 'wb', buffering=0) as keyboard:
        monkeypatch.setattr(sys, 'stdin', terminal)
        with pytest.raises(ZeroDivisionError), _single_keys():
            assert _read_keys() == []
            keyboard.write(b'\x1b[A+\x1b[B-xq')
            assert _read_keys() == ['up', 'up', 'down', 'down', 'x', 'q']
            raise ZeroDivisionError
        assert termios.tcgetattr(slave) == before


@pytest.mark.parametrize('arguments', [['--seconds', '0'], ['--tau', '2'], ['--rate', '500']])
def test_bad_argument(arguments, capsys):
    """Bad values are refused before anything starts."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert arguments[0].lstrip('-') in capsys.readouterr().err
