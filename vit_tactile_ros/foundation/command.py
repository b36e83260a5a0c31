"""How every command ends: exit status and message.

0    success
1    a system failure (disk, memory, network), an incomplete result, or a bug (with a traceback)
2    a mistake in the arguments or the data
130  Ctrl-C; 143 SIGTERM (train); 141 the reader of the output closed it
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import re
import select
import shlex
import sys
import traceback
from collections.abc import Callable

from vit_tactile_ros import __version__
from vit_tactile_ros.foundation import interrupt
from vit_tactile_ros.foundation.errors import RunError, UserError

Main = Callable[..., int]
OUTPUT_CLOSED = 141  # as shells count a program that SIGPIPE ended
_PASSWORD = re.compile(r'(\w[\w+.-]*://[^\s:/@]*:)\S+(?=@)|(\bpass(?:word|wd)?=)[^\s&]+', re.IGNORECASE)


def command(name: str, stopped: str = 'stopped', failed: str = '', tell: Callable[[str], None] | None = None,
            ) -> Callable[[Main], Main]:
    """A decorator for the `main(argv)` of a command, which returns the exit status and may raise anything.

    stopped: printed on Ctrl-C, unless the KeyboardInterrupt has a message. failed: appended to a system failure.
    tell: prints the line of an error; if None, the line and the library's warnings are printed with the command's name.
    """
    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def wrapper(argv: list[str] | None = None) -> int:
            return _run(lambda: main(argv), name, stopped, failed, tell, argv)
        return wrapper
    return decorate


def redacted(text: str) -> str:
    """`text` without the passwords of URLs."""
    return _PASSWORD.sub(lambda found: f'{found[1] or found[2]}***', text)


def _run(main: Callable[[], int], name: str, stopped: str, failed: str, tell: Callable[[str], None] | None,
         argv: list[str] | None) -> int:
    if tell is None:
        logging.basicConfig(format=f'{name}: %(message)s')
        tell = functools.partial(_tell, name)
    with interrupt.as_exception():
        try:
            status = main()
            sys.stdout.flush()  # at exit, Python would print a traceback for a failure
            return status
        except SystemExit:  # for instance of --help
            if _fails_to_flush():
                _drop_output()
            raise
        except KeyboardInterrupt as error:
            print(f'\n{name}: {str(error) or stopped}', file=sys.stderr)  # the terminal has printed ^C on this line
            return interrupt.INTERRUPTED
        except UserError as error:
            tell(redacted(str(error)))
            return 2
        except (RunError, OSError) as error:
            if isinstance(error, BrokenPipeError) and _output_is_closed():
                _drop_output()
                return OUTPUT_CLOSED
            tell(redacted(_message(error) + (f'; {failed}' if failed else '')))
            if not isinstance(error, RunError) and _fails_to_flush():
                _drop_output()
            return 1
        except MemoryError:
            tell('out of memory: use less data at once, or close other programs')
            return 1
        except Exception as error:
            if type(error).__name__ == 'OutOfMemoryError':  # of torch, which must not be imported for this
                tell(f'{str(error).splitlines()[0]}: lower --batch_size, or use --device cpu')
                return 1
            sys.stderr.write(redacted(''.join(traceback.format_exception(error))))
            tell(redacted(_report(name, argv)))
            return 1


def _tell(name: str, text: str) -> None:
    print(f'{name}: {text}', file=sys.stderr)


def _message(error: Exception) -> str:
    """The message of an error in one line; for system errors with the file."""
    if type(error).__str__ is OSError.__str__ and isinstance(error, OSError) and error.strerror:
        files = [str(file) for file in (error.filename, error.filename2) if file is not None]
        return f'{" -> ".join(files)}: {error.strerror}' if files else error.strerror
    return str(error)


def _report(name: str, argv: list[str] | None) -> str:
    torch = sys.modules.get('torch')
    words = shlex.join([name, *(sys.argv[1:] if argv is None else argv)])
    return ('this is a bug in vit_tactile_ros, not your mistake; please report it with the lines above and: '
            f'vit_tactile_ros {__version__}, Python {platform.python_version()}, '
            f'torch {getattr(torch, "__version__", "not imported")}, {platform.platform()}, command: {words}')


def _output_is_closed() -> bool:
    """Whether the reader of standard output (`| head`) has closed it."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):  # not a real file, or a system without poll
        return False


def _fails_to_flush() -> bool:
    try:
        sys.stdout.flush()
    except OSError:  # for instance a full disk
        return True
    return False


def _drop_output() -> None:
    """Discard what is still buffered; Python would print an error about it at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
