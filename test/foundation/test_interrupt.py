"""Ctrl-C at every stage of a command: quiet, and exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

TIMEOUT = 60.0  # s
SWALLOWING = """
import time
print('importing', flush=True)
try:
    time.sleep(60)
except BaseException:  # as C extensions and careless packages do
    pass
"""


def interrupt(command: list[str], text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command's end after SIGINT, which comes when it has printed `text`."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | environment)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == text
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.parametrize('module', ['train', 'replay', 'ros.classifier_node', 'ros.simulator_node'])
def test_while_a_command_is_imported(tmp_path, module):
    """A traceback of a hundred lines, or an import that swallows Ctrl-C and continues."""
    for slow in ('numpy', 'cv2', 'rclpy'):
        (tmp_path / f'{slow}.py').write_text(SWALLOWING)
    ended = interrupt([sys.executable, '-m', f'vit_tactile_ros.{module}'], 'importing',
                      PYTHONPATH=f'{tmp_path}{os.pathsep}{os.environ["PYTHONPATH"]}')
    assert (ended.returncode, ended.stderr) == (130, '')


@pytest.mark.parametrize(('command', 'module'), [
    (['-m', 'vit_tactile_ros.train'], 'numpy'), (['-m', 'vit_tactile_ros.train'], 'torch._C'),
    (['-m', 'vit_tactile_ros', 'sweep'], 'cv2'), (['-m', 'vit_tactile_ros.latency', __file__], 'yaml')])
def test_ctrl_c_while_importing_is_quiet(command, module):
    """A traceback of dozens of lines out of torch, or an import that swallowed the Ctrl-C and continued."""
    running = subprocess.Popen([sys.executable, '-X', 'importtime', *command], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    limit = threading.Timer(60, running.kill)
    limit.start()
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
    limit.cancel()
    told = [line for line in lines if not line.startswith('import time:')]
    assert (running.returncode, told) == (130, [])


PROGRAM = """
import atexit, sys, time
from vit_tactile_ros.foundation import interrupt
interrupt.install()

def wait(text):
    print(text, flush=True)
    time.sleep(60)

class Destroyed:
    def __del__(self):
        wait('destroying')

def main():
    with interrupt.as_exception():
        {body}
    return 0

if __name__ == '__main__':
    sys.exit(main())
"""


def test_main_can_clean_up():
    """Exit without unwinding leaves temporary files and child processes behind."""
    ended = interrupt([sys.executable, '-c', PROGRAM.format(body="""
        try:
            wait('in main')
        finally:
            print('cleaned up')""")], 'in main')
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, 'cleaned up\n', '')


def test_in_a_destructor():
    """Python prints and drops a KeyboardInterrupt that is raised in one: the command continued."""
    ended = interrupt([sys.executable, '-c', PROGRAM.format(body="""
        thing = Destroyed()
        del thing
        wait('deaf')""")], 'destroying')
    assert (ended.returncode, ended.stderr) == (130, '')


def test_held_until_the_end_of_a_block():
    """A KeyboardInterrupt inside rclpy's C++ came out as a RuntimeError, with a traceback."""
    ended = interrupt([sys.executable, '-c', PROGRAM.format(body="""
        with interrupt.held():
            print('in block', flush=True)
            time.sleep(1)
            print('whole', flush=True)
        wait('deaf')""")], 'in block')
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, 'whole\n', '')


def test_while_the_process_ends():
    ended = interrupt([sys.executable, '-c', PROGRAM.format(body="atexit.register(wait, 'ending')")], 'ending')
    assert (ended.returncode, ended.stderr) == (130, '')


def test_other_errors_keep_their_traceback():
    ended = subprocess.run([sys.executable, '-c', PROGRAM.format(body='1 / 0')], capture_output=True, text=True,
                           timeout=TIMEOUT)
    assert ended.returncode == 1 and 'ZeroDivisionError' in ended.stderr


@pytest.mark.parametrize(('program', 'expected'), [
    # Another program that imports the package, run as a module itself or not.
    ('import vit_tactile_ros', True),
    # SIGINT ignored, as shells start background jobs.
    ('signal.signal(signal.SIGINT, signal.SIG_IGN); from vit_tactile_ros.foundation import interrupt; '
     'interrupt.install()', False),
])
def test_other_programs_keep_their_handlers(program, expected):
    ended = subprocess.run(
        [sys.executable, '-c', f'import signal, sys; {program}; '
         'print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, sys.excepthook is sys.__excepthook__)'],
        capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.stdout.split() == [str(expected), 'True'], ended.stderr


def test_a_program_of_another_package_run_as_a_module(tmp_path):
    """`python -m theirs` where theirs imports ours: argv[0] is '-m' as well."""
    (tmp_path / 'theirs').mkdir()
    (tmp_path / 'theirs' / '__init__.py').write_text('import vit_tactile_ros')
    (tmp_path / 'theirs' / '__main__.py').write_text(
        'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)')
    ended = subprocess.run([sys.executable, '-m', 'theirs'], capture_output=True, text=True, timeout=TIMEOUT,
                           env=os.environ | {'PYTHONPATH': f'{tmp_path}{os.pathsep}{os.environ["PYTHONPATH"]}'})
    assert ended.stdout.split() == ['True'], ended.stderr
