"""Starts nodes from a process that has imported them already.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from forking import fork

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
        code = (f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); '  # PYTHONSAFEPATH excludes it
                'from node_forker import serve; sys.exit(serve())')
        self._process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
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
        else:
            log = Path(request.pop('log'))
            reply = fork(lambda request=request: node(replies, running, **request), log, atexit._run_exitfuncs)
            running.add(reply)
        replies.write(json.dumps(reply) + '\n')
        replies.flush()
    return 0


def node(replies: TextIO, running: set[int], module: str, arguments: list[str], folder: str,
         environment: dict[str, str], patch: str) -> int:
    replies.close()
    running.clear()
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # without what the other process has read ahead
    found = sys.modules[f'vit_tactile_ros.ros.{module}']
    sys.argv = [str(found.__file__), *arguments]
    exec(patch, {})
    return found.main()
