"""Ctrl-C while a command imports its modules."""

import os
import signal
import subprocess
import sys

import pytest

COMMANDS = [['-m', 'vit_tactile_ros.train'], ['-m', 'vit_tactile_ros', 'sweep'], ['-m', 'vit_tactile_ros.latency', 'x']]


@pytest.mark.parametrize('command', COMMANDS, ids=lambda words: words[-1])
@pytest.mark.parametrize('module', ['numpy', 'torch._C', 'cv2'])
def test_ctrl_c_while_importing_is_quiet(command, module):
    """A traceback of dozens of lines out of torch, or an import that swallowed the Ctrl-C and carried on."""
    if module == 'torch._C' and command[-1] == 'x':
        pytest.skip('latency imports no torch')
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
            pytest.skip(f'{module} is not imported')
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
    code = "trap '' INT; exec \"$0\" -c 'import os, signal, vit_tactile_ros.foundation.interrupt as i; print(i._INSTALLED)'"
    done = subprocess.run(['sh', '-c', code, sys.executable], capture_output=True, text=True)
    assert done.stdout == 'False\n'
