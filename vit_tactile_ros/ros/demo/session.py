"""The demo: starts the nodes as processes, shows their results, and prints a summary."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import rclpy
from rich.console import Console
from rich.live import Live

from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.foundation.interrupt import INTERRUPTED
from vit_tactile_ros.ros.demo.monitor import Monitor
from vit_tactile_ros.ros.demo.view import VIEW_WIDTH, demo_view, finger_table, fits, status_line, summary_table
from vit_tactile_ros.ros.live.node_process import launched, wait_all
from vit_tactile_ros.ros.run import spin_once
from vit_tactile_ros.ros.start import init_ros

FINGERS = {'left': ('gelsight', 1), 'right': ('digit', 2)}
LATE_TAU = 0.99  # of the second half of a timed run
LINE_WIDTH = 100  # characters, without a terminal
START_TIMEOUT = 60.0  # s until every finger has a result
DIAGNOSTICS_PERIOD = 0.4  # s; short, because the demo waits for the last counters before it ends
HINT = 'up/down: change tau   q: quit'


def run_demo(seconds: float | None, picture: Path | None, rate: float, parameters: Mapping[str, object],
             activity: str = 'touches') -> int:
    """Run until the user stops it or the time is over.

    seconds: from the first results; None: until stopped. picture: a file to draw, instead. rate: images/s per finger.
    parameters: of the classifier; None: the node's default. activity: of the simulated fingers.
    Returns 0 if every finger had results, 130 for Ctrl-C before that, otherwise 1. Raises StartError.
    """
    # Other machines should not discover the simulated fingers, unless the user has configured it.
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    # Closing the terminal ends the demo like Ctrl-C; its nodes are in other sessions and would keep running.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    console.print('starting two simulated fingers and the classifier ...')
    # rclpy's own handlers would invalidate the context before the last counters are received.
    init_ros()
    try:
        with tempfile.TemporaryDirectory(prefix='vit_tactile_demo_') as folder:
            with _nodes(rate, activity, parameters, Path(folder)) as processes:
                session = _Session(seconds, picture, console, processes)
                try:
                    session.run()
                except KeyboardInterrupt:
                    if not session.has_results:
                        return INTERRUPTED
                with contextlib.suppress(KeyboardInterrupt):
                    if not session.problem:
                        session.spin(1.2 * DIAGNOSTICS_PERIOD)  # to receive the last counters
            session.print_summary()
            if session.problem:
                console.print(f'demo: {session.problem}', style='red')
                for log in sorted(Path(folder).iterdir()):
                    text = log.read_text(errors='replace').strip()
                    console.print(f'--- {log.stem}\n{text[-2000:]}', markup=False, highlight=False, soft_wrap=True)
                return 1
    finally:
        rclpy.try_shutdown()
    return 0


class _Session:
    """The monitor, the terminal and the clock."""

    def __init__(self, seconds: float | None, picture: Path | None, console: Console,
                 processes: list[subprocess.Popen[bytes]]) -> None:
        self.problem = ''
        self._seconds = seconds
        self._picture = picture
        self._console = console
        self._processes = processes
        self._monitor = Monitor(list(FINGERS))
        self._started = time.monotonic()

    @property
    def has_results(self) -> bool:
        return all(finger.result is not None for finger in self._monitor.fingers.values())

    def spin(self, seconds: float) -> None:
        """Process messages for a time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            spin_once(partial(rclpy.spin_once, self._monitor), left)

    def run(self) -> None:
        """Wait for the first results, then show results until the end."""
        while not self.has_results:
            self.spin(0.1)
            if self._node_ended():
                return
            if time.monotonic() - self._started > START_TIMEOUT:
                self.problem = f'not every finger had a result after {START_TIMEOUT:.0f} s'
                return
        self._console.print(f'first results after {time.monotonic() - self._started:.1f} s')
        if self._picture:
            self._take_picture(self._picture)
        elif sys.stdin.isatty() and self._console.is_terminal:
            with _single_keys(), Live(console=self._console, auto_refresh=False) as live:
                self._follow(live)
        else:
            self._follow(None)

    def _follow(self, live: Live | None) -> None:
        """Refresh the view ten times a second; without a terminal, print a line every 2 s."""
        begun = time.monotonic()
        seconds, late_tau_set, next_line = self._seconds, False, 0.0
        while not self._node_ended():
            self.spin(0.1)
            elapsed = time.monotonic() - begun
            if live is not None:
                live.update(demo_view(self._monitor, HINT, fits(self._console)), refresh=True)
                keys = _read_keys()
                if 'q' in keys:
                    return
                steps = keys.count('up') - keys.count('down')
                if steps and self._monitor.tau:
                    self._monitor.set_tau(min(1.0, max(0.0, round(self._monitor.tau[0] + 0.05 * steps, 2))))
            elif elapsed >= next_line:
                next_line = elapsed + 2.0
                self._console.print(status_line(self._monitor), soft_wrap=True)
            if seconds is not None and elapsed > seconds / 2 and not late_tau_set:
                late_tau_set = True
                self._monitor.set_tau(LATE_TAU)
            if seconds is not None and elapsed > seconds:
                return

    def _take_picture(self, path: Path) -> None:
        """Wait until both fingers touch something and a touch is predicted, then draw the view."""
        self.spin(5.0)  # for rates, latencies and counters to settle
        fingers = self._monitor.fingers.values()
        while not self._node_ended() and any(
                'no_contact' in (f.label, f.result.class_name if f.result else 'no_contact') for f in fingers):
            self.spin(0.1)
        with open(os.devnull, 'w') as nowhere:
            drawing = Console(record=True, width=VIEW_WIDTH, file=nowhere, force_terminal=True,
                              color_system='truecolor')
            drawing.print(demo_view(self._monitor, HINT))
        # Without rich's web fonts: a picture in a README must not load anything.
        svg = re.sub(r'@font-face\s*{[^}]*}|<!--.*?-->', '', drawing.export_svg(title='make demo'), flags=re.DOTALL)
        with written_whole(path) as temporary:
            temporary.write_text(re.sub(r'\s*\n\s*', '\n', svg), encoding='utf-8')
        self._console.print(f'wrote {path}')

    def _node_ended(self) -> bool:
        for process in self._processes:
            if process.poll() is not None:
                self.problem = f'a node ended with status {process.returncode}'
        return bool(self.problem)

    def print_summary(self) -> None:
        """Print the results by threshold and by finger."""
        self._monitor.destroy_node()
        if not self._monitor.tallies:
            self.problem = self.problem or 'stopped before the first result'
            return
        self._console.print(summary_table(self._monitor))
        self._console.print(finger_table(self._monitor))


@contextlib.contextmanager
def _nodes(rate: float, activity: str, parameters: Mapping[str, object], log_folder: Path,
           ) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The classifier and the simulators as processes, which end with the block."""
    commands = {'classifier': ['classifier_node', '-p', f'sensors:=[{", ".join(FINGERS)}]',
                               '-p', f'diagnostics_period:={DIAGNOSTICS_PERIOD}',
                               *(word for name, value in parameters.items() if value is not None
                                 for word in ('-p', f'{name}:={value}'))]}
    commands |= {name: ['simulator_node', '-r', f'__ns:=/{name}', '-p', f'sensor:={kind}', '-p', f'seed:={seed}',
                        '-p', f'rate:={rate}', '-p', f'frame_id:={name}_finger', '-p', f'activity:={activity}']
                 for name, (kind, seed) in FINGERS.items()}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, (module, *options) in commands.items():
            processes.append(launched(module, ['--ros-args', *options], log_folder / f'{name}.log'))
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        wait_all(processes)


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Read keys without Enter and without echo."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _read_keys() -> list[str]:
    """The keys pressed since the last call: 'up', 'down', or a character."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return []
    text = os.read(sys.stdin.fileno(), 1024).decode(errors='ignore')
    names = {'\x1b[A': 'up', '\x1b[B': 'down', '+': 'up', '=': 'up', '-': 'down'}
    return [names.get(key, key) for key in re.findall(r'\x1b\[[A-Z]|.', text)]
