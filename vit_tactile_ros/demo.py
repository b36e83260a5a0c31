"""Two simulated fingers, the live ROS 2 node, and what it says of them: `python -m vit_tactile_ros.demo`.

Up and down (or + and -) change tau while it runs, q or Ctrl-C ends it. DEMO_SECONDS=20 ends it by itself; tau then
moves to 0.99 at half time, so that the summary shows what it does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live

FINGERS = {'left': ('gelsight', 1), 'right': ('digit', 2)}
LATE_TAU = 0.99  # of the second half of a timed run
START_TIMEOUT = 60.0  # s for the first result of every finger
HINT = 'up/down: change tau   q: quit   ros2 param set /tactile_classifier tau 0.9'


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m vit_tactile_ros.demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=None,
                        help='end after so long; default: $DEMO_SECONDS, else only when told to')
    parser.add_argument('--tau', type=float, default=None, help="exit threshold, 0 to 1; default: the checkpoint's")
    parser.add_argument('--rate', type=float, default=30.0, help='images per second and finger (default: 30)')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N' (default: auto)")
    parser.add_argument('--checkpoint', default='', help='a .safetensors file; default: the shipped one')
    parser.add_argument('--picture', type=Path, default=None, metavar='FILE.svg',
                        help='write a picture of the view while both fingers touch something, then end')
    arguments = parser.parse_args(argv)
    if arguments.seconds is None and (text := os.environ.get('DEMO_SECONDS')):
        try:
            arguments.seconds = float(text)
        except ValueError:
            parser.error(f'DEMO_SECONDS is {text!r}; must be a number of seconds')
    if arguments.seconds is not None and not arguments.seconds > 0:
        parser.error(f'--seconds is {arguments.seconds}; must be above 0')
    return arguments


@contextlib.contextmanager
def nodes(arguments: argparse.Namespace, log_folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The simulators and the classifier as processes of their own, ended on leaving."""
    commands = [('classifier', ['-p', f'sensors:=[{", ".join(FINGERS)}]', '-p', f'device:={arguments.device}',
                                '-p', f'checkpoint:={arguments.checkpoint!r}',
                                *(['-p', f'tau:={arguments.tau}'] if arguments.tau is not None else [])])]
    commands += [('simulator', ['-r', f'__ns:=/{name}', '-p', f'sensor:={kind}', '-p', f'seed:={seed}',
                                '-p', f'rate:={arguments.rate}', '-p', f'frame_id:={name}_finger'])
                 for name, (kind, seed) in FINGERS.items()]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for i, (node, options) in enumerate(commands):
            with open(log_folder / f'{i}_{node}.log', 'wb') as log:
                started.append(subprocess.Popen(
                    [sys.executable, '-m', f'vit_tactile_ros.ros.{node}_node', '--ros-args', *options],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True))
        yield started
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def keyboard() -> Iterator[bool]:
    """Single keys without echo, where there is a terminal; yields whether there is one."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def read_key() -> str:
    """The key pressed since the last call: 'up', 'down', a character, or '' for none."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return ''
    text = os.read(sys.stdin.fileno(), 16).decode(errors='ignore')
    return {'\x1b[A': 'up', '\x1b[B': 'down', '+': 'up', '=': 'up', '-': 'down'}.get(text, text[:1])


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        import rclpy

        from vit_tactile_ros.ros.monitor import Monitor
        from vit_tactile_ros.ros.view import demo_view, finger_table, summary_table
    except ImportError as error:
        print(f'demo: {error}: the demo needs ROS 2 and the built package: run it with `make demo`, or in a shell '
              'where the package is sourced', file=sys.stderr)
        return 1
    # The simulated fingers are nobody else's business, unless the user has said otherwise.
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    console = Console(record=True, width=134, force_terminal=True) if arguments.picture else Console()
    console.print('starting two simulated fingers and the classifier ...')
    rclpy.init()
    status = 0
    with tempfile.TemporaryDirectory(prefix='vit_tactile_demo_') as folder, nodes(arguments, Path(folder)) as processes:
        monitor = Monitor(list(FINGERS))
        try:
            status = run(arguments, console, monitor, processes, demo_view)
        except KeyboardInterrupt:
            pass
        finally:
            if status != 1:
                until = time.monotonic() + 1.2  # the last counters are on /diagnostics once a second
                while time.monotonic() < until and not arguments.picture:
                    rclpy.spin_once(monitor, timeout_sec=0.1)
            if status == 1 or not monitor.tallies:
                for log in sorted(Path(folder).iterdir()):
                    text = log.read_text(errors='replace').strip()
                    console.print(f'{log.name}:\n{text[-2000:]}', markup=False, highlight=False)
    if not arguments.picture:
        console.print(summary_table(monitor))
        console.print(finger_table(monitor))
    rclpy.try_shutdown()
    return status


def run(arguments, console, monitor, processes, demo_view) -> int:
    """Show the view until it is time to stop; 1 when a node ended or a finger gave no result."""
    import rclpy

    started = first_result = None
    started = time.monotonic()
    late_tau_set = False
    last_line = 0.0
    with keyboard() as has_keyboard, Live(console=console, auto_refresh=False, transient=False) if has_keyboard else (
            contextlib.nullcontext()) as live:
        while True:
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                rclpy.spin_once(monitor, timeout_sec=0.02)
            now = time.monotonic()
            for process in processes:
                if process.poll() is not None:
                    console.print(f'demo: a node ended with status {process.returncode}', style='red')
                    return 1
            if first_result is None:
                if all(finger.result is not None for finger in monitor.fingers.values()):
                    first_result = now
                    console.print(f'first results after {now - started:.1f} s')
                elif now - started > START_TIMEOUT:
                    console.print(f'demo: no result after {START_TIMEOUT:.0f} s', style='red')
                    return 1
            if has_keyboard:
                live.update(demo_view(monitor, HINT), refresh=True)
                key = read_key()
                if key == 'q':
                    return 0
                if key in ('up', 'down') and monitor.tau:
                    step = 0.05 if key == 'up' else -0.05
                    monitor.set_tau(min(1.0, max(0.0, round(monitor.tau[0] + step, 2))))
            elif first_result is not None and now - last_line > 2.0 and not arguments.picture:
                last_line = now
                console.print('  '.join(f'{f.name}: {f.result.class_name} {100 * f.result.confidence:.0f} % at block '
                                        f'{f.result.exit_block}, truth {f.truth}, {f.rate:.0f} Hz'
                                        for f in monitor.fingers.values()), highlight=False)
            if arguments.picture and first_result is not None and now - first_result > 4.0 and all(
                    f.truth != 'no_contact' and f.result.class_name != 'no_contact' for f in monitor.fingers.values()):
                write_picture(arguments.picture, demo_view(monitor, HINT))
                console.print(f'wrote {arguments.picture}')
                return 0
            if arguments.seconds is not None and first_result is not None:
                if now - first_result > arguments.seconds / 2 and not late_tau_set:
                    late_tau_set = True
                    monitor.set_tau(LATE_TAU)
                if now - first_result > arguments.seconds:
                    return 0


def write_picture(path: Path, view) -> None:
    """The view as an SVG file."""
    console = Console(record=True, width=134, file=open(os.devnull, 'w'), force_terminal=True,  # noqa: SIM115
                      color_system='truecolor')
    console.print(view)
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title='make demo')


if __name__ == '__main__':
    sys.exit(main())
