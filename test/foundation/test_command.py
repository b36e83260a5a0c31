"""How a command ends: its status and what it prints."""

import subprocess
import sys

import pytest

from vit_tactile_ros.foundation.command import command, redacted
from vit_tactile_ros.foundation.errors import MissingPackageError, RunError, UserError
from vit_tactile_ros.foundation.files import WriteError


def ending(error):
    @command('toy', stopped='stopped; nothing was written', failed='nothing is lost')
    def main(argv=None):
        raise error

    return main(['--flag', 'x'])


class OutOfMemoryError(RuntimeError):
    """As that of torch, which commands recognise by its name."""


@pytest.mark.parametrize(('error', 'status', 'message'), [
    (UserError('tau is 2; must be at most 1'), 2, 'toy: tau is 2; must be at most 1\n'),
    (MissingPackageError('needs x'), 2, 'toy: needs x\n'),
    (RunError('the loss is nan'), 1, 'toy: the loss is nan; nothing is lost\n'),
    (OSError(28, 'No space left on device', '/data/run'), 1,
     'toy: /data/run: No space left on device; nothing is lost\n'),
    (WriteError('/data/run', OSError(28, 'No space left on device')), 1,
     'toy: could not write /data/run: No space left on device; nothing is lost\n'),
    (MemoryError(), 1, 'toy: out of memory: use less data at once, or close other programs\n'),
    (OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB\nSee the documentation'), 1,
     'toy: CUDA out of memory. Tried to allocate 2 GiB: lower --batch_size, or use --device cpu\n'),
    (KeyboardInterrupt(), 130, '\ntoy: stopped; nothing was written\n'),
    (KeyboardInterrupt('stopped; epoch 3 is saved'), 130, '\ntoy: stopped; epoch 3 is saved\n'),
])
def test_one_line_and_the_status(capsys, error, status, message):
    assert ending(error) == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize('error', [ValueError('too many values to unpack'), KeyError('x'), RuntimeError('shapes')])
def test_a_bug_is_not_shown_as_a_mistake_of_the_user(capsys, error):
    """`except ValueError` showed our own bugs as one line with status 2, as if the user had made a mistake."""
    assert ending(error) == 1
    err = capsys.readouterr().err
    assert err.startswith('Traceback') and type(error).__name__ in err
    last = err.splitlines()[-1]
    assert last.startswith('toy: this is a bug in vit_tactile_ros') and 'command: toy --flag x' in last
    assert f'Python {sys.version.split()[0]}' in last and 'torch ' in last


def test_passwords_of_urls_are_not_printed(capsys):
    assert ending(ValueError('no answer from postgresql://me:se@cret/x@host/db')) == 1
    err = capsys.readouterr().err
    assert 'cret' not in err and 'postgresql://me:***@host/db' in err
    assert redacted('mysql://host/db?user=me&password=secret&x=1') == 'mysql://host/db?user=me&password=***&x=1'
    assert redacted('sqlite:///runs/tune.db http://host:80/a') == 'sqlite:///runs/tune.db http://host:80/a'


@pytest.mark.parametrize('arguments', [['-m', 'vit_tactile_ros'], ['-m', 'vit_tactile_ros.demo', '--help']])
def test_a_closed_reader_is_not_an_error(arguments):
    """`... | head` ended with a traceback, or with 'Exception ignored' at exit."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        err = running.stderr.read()
        running.wait(60)
    assert err == b'' and running.returncode in (0, 141)


def test_a_full_disk_behind_the_output():
    with open('/dev/full', 'w') as full:
        done = subprocess.run([sys.executable, '-m', 'vit_tactile_ros'], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, 'vit-tactile: No space left on device\n')
