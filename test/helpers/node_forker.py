"""Starts nodes from a process that has imported them already: importing torch and rclpy takes 4 s of a core.

A node is a forked process of its own, with its own session, environment, arguments and log, as after `python -m`. What
this leaves out, starting and ending Python, is in the tests that start nodes with fresh=True, in test_start.py, and in
those of the commands that start nodes (demo, latency, replay --live).
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

NODES = ('classifier_node', 'simulator_node', 'camera_node')


class Forked:
    """A started node, with the part of subprocess.Popen that tests need."""

    def __init__(self, server: Server, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # otherwise the number may be that of another process
            os.kill(self.pid, number)


class Server:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, start_new_session=True)
        atexit.register(self._process.communicate)
        self._lock = threading.Lock()

    def ask(self, **request: Any) -> Any:
        with self._lock:
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(self, module: str, arguments: Sequence[str], log: Path, patch: str = '') -> Forked:
        """A module of vit_tactile_ros.ros that writes into `log`, after executing the Python code `patch`."""
        log.write_bytes(b'')
        pid = self.ask(module=module, arguments=list(arguments), log=str(log), folder=os.getcwd(),
                       environment=dict(os.environ), patch=patch)
        return Forked(self, pid)


_server: list[Server] = []  # one for each process that tests, from its first node on


def forked(module: str, arguments: Sequence[str], log: Path, patch: str = '') -> Forked:
    """As Server.start."""
    if not _server:
        _server.append(Server())
    return _server[0].start(module, arguments, log, patch)


def serve() -> int:
    """Until stdin ends; in a forked process, the exit status of the node."""
    from vit_tactile_ros.foundation import interrupt

    interrupt.install()  # as importing the package does for a command
    replies = os.fdopen(os.dup(1), 'w')
    for name in NODES:
        importlib.import_module(f'vit_tactile_ros.ros.{name}')
    running: set[int] = set()
    atexit.register(lambda: [os.kill(pid, signal.SIGKILL) for pid in running])  # if the tests were killed
    while line := sys.stdin.readline():
        request = json.loads(line)
        if 'poll' in request:
            pid, status = os.waitpid(request['poll'], os.WNOHANG)
            reply = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        elif not (reply := os.fork()):
            replies.close()
            running.clear()
            end(lambda request=request: node(**request))
        else:
            running.add(reply)
        replies.write(json.dumps(reply) + '\n')
        replies.flush()
    return 0


def end(main: Callable[[], int]) -> NoReturn:
    """Run `main` and end the forked process, without unloading libraries: they were loaded before the fork."""
    try:
        code = main()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def node(module: str, arguments: list[str], log: str, folder: str, environment: dict[str, str], patch: str) -> int:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(path, flags), number)
    os.dup2(1, 2)
    sys.stdin = open(0, closefd=False)  # without what the other process has read ahead
    found = sys.modules[f'vit_tactile_ros.ros.{module}']
    sys.argv = [str(found.__file__), *arguments]
    exec(patch, {})
    return found.main()


if __name__ == '__main__':
    sys.exit(serve())
