"""Ctrl-C while a command imports its modules."""

import os
import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize(('command', 'module'), [
    (['-m', 'vit_tactile_ros.train'], 'numpy'), (['-m', 'vit_tactile_ros.train'], 'torch._C'),
    (['-m', 'vit_tactile_ros', 'sweep'], 'cv2'), (['-m', 'vit_tactile_ros.latency', 'x'], 'yaml')])
def test_ctrl_c_while_importing_is_quiet(command, module):
    """A traceback of dozens of lines out of torch, or an import that swallowed the Ctrl-C and carried on."""
    running = subprocess.Popen([sys.executable, '-X', 'importtime', *command], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    with running:
        lines = []
        for line in running.stderr:
            lines.append(line)
            if line.split('|')[-1].strip() == module:
                os.killpg(running.pid, signal.SIGINT)
                break
        else:
            pytest.fail(f'{module} was never imported')
        lines += running.stderr.readlines()
        running.wait(30)
    told = [line for line in lines if not line.startswith('import time:')]
    assert (running.returncode, told) == (130, [])


def test_other_programs_keep_their_own_handler():
    code = ('import signal; import vit_tactile_ros.train; '
            'assert signal.getsignal(signal.SIGINT) is signal.default_int_handler')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_ignored_stays_ignored():
    """In the background of a script Ctrl-C is for the script."""
    code = ('import signal, sys; sys.modules["__main__"].__file__ = "vit-tactile"; '
            'import vit_tactile_ros.foundation.interrupt; print(signal.getsignal(signal.SIGINT).name)')
    done = subprocess.run(['sh', '-c', 'trap "" INT; exec "$0" -c "$1"', sys.executable, code], capture_output=True,
                          text=True)
    assert done.stdout == 'SIG_IGN\n', done.stderr
