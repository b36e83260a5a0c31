"""The classifier node as a separate process, for commands that compare or measure it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vit_tactile_ros.foundation.errors import RunError

START_TIMEOUT = 120.0  # s until a node is active
END_TIMEOUT = 1.0  # s from SIGINT to SIGKILL: a command must end within 2 s of Ctrl-C, even if nodes hang
Node = TypeVar('Node', bound='NodeProcess')


def launched(module: str, arguments: Sequence[str], log: Path, python: Sequence[str] = (sys.executable,),
             ) -> subprocess.Popen[bytes]:
    """A module of vit_tactile_ros.ros as a process that writes into `log`.

    In a session of its own: Ctrl-C reaches only the command, which then ends the process.
    """
    with log.open('wb') as file:
        return subprocess.Popen([*python, '-m', f'vit_tactile_ros.ros.{module}', *arguments],
                                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


class NodeProcess:
    """A node that is active within the block; its parameters and log are files beside `stem`."""

    def __init__(self, title: str, namespace: str, parameters: Mapping[str, Any], stem: Path,
                 checkout: Path | None = None, pause: Callable[[], object] | None = None,
                 arguments: Sequence[str] = ()) -> None:
        """`title`: its name in errors. `checkout`: the built checkout whose code it runs; None: this one.
        `arguments`: more of them for ROS, such as -r and a remapping.

        `pause` is called repeatedly until the node is active; None sleeps. Entry raises RunError.
        """
        self.namespace = namespace
        self.start_time = 0.0  # s, from the start of the process until it was active
        self._title = title
        self._parameters = parameters
        self._parameters_file, self._log = stem.with_suffix('.yaml'), stem.with_suffix('.log')
        self._checkout = checkout
        self._arguments = arguments
        self._pause = pause or (lambda: time.sleep(0.01))

    def __enter__(self: Node) -> Node:
        self._parameters_file.write_text(yaml.safe_dump({'/**': {'ros__parameters': dict(self._parameters)}}))
        python = [sys.executable] if self._checkout is None else [
            'bash', '-c', '. "$0"/env.sh && exec python "$@"', str(self._checkout)]
        started = time.monotonic()
        self._process = launched('classifier_node', ['--ros-args', '-r', f'__ns:={self.namespace}', '--params-file',
                                                     str(self._parameters_file.absolute()), *self._arguments],
                                 self._log, python)
        try:
            while 'active, waiting for images' not in self.log_text():
                self.check()
                if time.monotonic() - started > START_TIMEOUT:
                    raise RunError(f'{self._title}: the node was not active within {START_TIMEOUT:g} s')
                self._pause()
        except BaseException:
            self.__exit__()
            raise
        self.start_time = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        self.ask_to_end()
        wait_all([self._process])

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask_to_end(self) -> None:
        """Send SIGINT; call it for all nodes before waiting for the first."""
        self._process.send_signal(signal.SIGINT)

    def check(self) -> None:
        """Raises RunError with the end of the log if the node has ended."""
        if self._process.poll() is not None:
            raise RunError(f'{self._title}: the node ended with {self._process.returncode}: {self.end_of_log()}')

    def log_text(self) -> str:
        return self._log.read_text(errors='replace')

    def end_of_log(self) -> str:
        return self.log_text().strip()[-500:]


def wait_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for processes after SIGINT; kill them after END_TIMEOUT, or at a second Ctrl-C."""
    end = time.monotonic() + END_TIMEOUT
    try:
        for process in processes:
            process.wait(timeout=max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
