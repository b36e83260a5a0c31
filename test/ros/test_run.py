"""Ctrl-C and SIGTERM at every stage of a node's process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from live_nodes import TIMEOUT

from vit_tactile_ros.ros.run import START_STOP_LIMIT, STOP_LIMIT, SWITCH_INTERVAL

PROGRAM = """
import hashlib, os, signal, sys, threading, time
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from vit_tactile_ros.ros.run import STOP_LIMIT, run_node

def told(text):
    print(text, flush=True)

def in_c():
    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)  # half an hour of C, in which Python runs no handler

def end_a_fork():
    pid = os.fork()
    if pid == 0:
        os.closerange(0, 3)  # or the test would wait for its output
        time.sleep(20)
        os._exit(1)
    time.sleep(0.5)  # its handlers are set
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    time.sleep(STOP_LIMIT + 0.5)
    told('now')

class Node(LifecycleNode):
    failure = ''

    def __init__(self):
        super().__init__('stopped')
        self.declare_parameter('autostart', True)
        {init}

    def on_configure(self, state):
        {configure}
        return TransitionCallbackReturn.SUCCESS

    def fail(self):
        self.failure = 'the network is gone'

    def finish(self):
        told('finishing')
        {finish}
        self.destroy_node()

sys.exit(run_node(Node, ('autostart',)))
"""


def stopped(number: signal.Signals = signal.SIGINT, text: str = 'now', **bodies: str) -> tuple[int, str, float]:
    """Status, output and s until the end of a node that gets a signal when it prints `text`."""
    bodies = {'init': 'pass', 'configure': 'pass', 'finish': 'pass'} | bodies
    program = PROGRAM.format(**bodies)
    process = subprocess.Popen([sys.executable, '-c', program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.strip() == text, first + process.stdout.read()
    begun = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output, time.monotonic() - begun


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_while_it_configures_in_python(number):
    """Loading and measuring went on to the end before Ctrl-C was noticed; now the node even leaves the graph."""
    status, output, _ = stopped(number, configure="told('now'); [time.sleep(0.01) for _ in range(10**6)]")
    assert (status, output) == (130, 'finishing\n')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_while_it_configures_in_c(number):
    """Python runs no handler meanwhile: the process is ended from beside it."""
    status, output, seconds = stopped(number, configure="threading.Timer(0.5, told, ['now']).start(); in_c()")
    assert (status, output) == (130, '')
    assert START_STOP_LIMIT <= seconds < START_STOP_LIMIT + 5.0  # a busy machine


def test_while_it_is_created():
    assert stopped(init="told('now'); time.sleep(60)")[:2] == (130, '')


def test_while_it_spins():
    status, output, _ = stopped(init="self.create_timer(0.2, lambda: told('now'))")
    assert status == 0 and output.replace('now\n', '') == 'finishing\n'


def test_python_hands_its_lock_over_soon():
    """With Python's own 5 ms, a result waits while an image is received."""
    show = "self.create_timer(0.2, lambda: told(f'{sys.getswitchinterval():g}'))"
    assert stopped(text=f'{SWITCH_INTERVAL:g}', init=show)[0] == 0


def test_a_signal_to_a_fork_does_not_stop_the_node():
    """A library that forked the node to report its use, and ended the fork, ended the node."""
    status, output, _ = stopped(init='threading.Thread(target=end_a_fork, daemon=True).start()')
    assert status == 0 and output.replace('now\n', '') == 'finishing\n'


def test_while_it_finishes_for_too_long():
    """A network that is stuck must not keep the process."""
    status, output, seconds = stopped(init="self.create_timer(0.2, lambda: told('now'))", finish='in_c()')
    assert status == 130 and output.replace('now\n', '') == 'finishing\n'
    assert STOP_LIMIT <= seconds < STOP_LIMIT + 5.0


def test_a_second_signal_changes_nothing():
    """The impatient second Ctrl-C fell into the clean-up, as a traceback."""
    status, output, _ = stopped(
        init="self.create_timer(0.2, lambda: told('now'))",
        finish='import os, signal; os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)')
    assert status == 0 and output.replace('now\n', '') == 'finishing\n'


def test_a_node_that_has_failed_ends():
    """Under launch the process has to end for another to be started."""
    ended = subprocess.run([sys.executable, '-c', PROGRAM.format(
        init='self.create_timer(0.1, self.fail)', configure='pass', finish='pass')], capture_output=True, text=True,
        timeout=TIMEOUT)
    assert ended.returncode == 1 and ended.stdout == 'finishing\n'
    assert 'stopping: the network is gone' in ended.stderr


@pytest.mark.parametrize(('turns', 'status', 'logged'), [([0] * 30, 1, 19), ([1, 0] * 30, 0, 30)])
def test_errors_between_two_callbacks(turns, status, logged):
    """Without memory for one message, say: only a series of 20 ends the process, and the node finishes all the same."""
    ended = subprocess.run([sys.executable, '-c', PROGRAM.format(
        init='from rclpy.executors import SingleThreadedExecutor as Executor; '
             f'turns = {turns}; self.is_done = False; '
             "Executor.spin_once = lambda *_, **__: 1 / turns.pop() if turns else setattr(self, 'is_done', True)",
        configure='pass', finish='pass')], capture_output=True, text=True, timeout=TIMEOUT)
    assert (ended.returncode, ended.stdout) == (status, 'finishing\n'), ended.stderr
    assert ended.stderr.count('internal error in the executor: ZeroDivisionError') == logged
    assert ('Traceback' in ended.stderr) == bool(status)
