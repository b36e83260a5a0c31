"""Two simulated fingers, classified live by the ROS 2 node.

Up and down (or + and -) change tau while it runs; q or Ctrl-C ends it. With DEMO_SECONDS=20 it ends after 20 s, and tau
changes to 0.99 after 10 s, so that the summary compares two thresholds. The exit status is 0 if both fingers had
results.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.errors import MissingPackageError
from vit_tactile_ros.foundation.files import check_writable

EXAMPLES = (
    '',
    '--seconds 20 --tau 0.9',
    '--picture demo.svg',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('demo', __doc__, EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=None,
                        help='s to run after the first results; default: $DEMO_SECONDS, otherwise until stopped')
    parser.add_argument('--tau', type=float, default=None, help="exit threshold, 0 to 1; default: the checkpoint's")
    parser.add_argument('--rate', type=float, default=30.0, help='images/s of each finger, 1 to 120 (default: 30)')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N' (default: auto)")
    parser.add_argument('--checkpoint', default='', help='a .safetensors file; default: the shipped one')
    parser.add_argument('--picture', type=Path, default=None, metavar='FILE.svg',
                        help='write a picture of the view while both fingers touch something, then exit')
    arguments = parser.parse_args(argv)
    if arguments.seconds is None and (text := os.environ.get('DEMO_SECONDS')):
        try:
            arguments.seconds = float(text)
        except ValueError:
            parser.error(f'DEMO_SECONDS is {text!r}; must be a number of seconds')
    if arguments.seconds is not None and not (math.isfinite(arguments.seconds) and arguments.seconds > 0):
        parser.error(f'seconds is {arguments.seconds}; must be above 0')
    if arguments.tau is not None and not 0 <= arguments.tau <= 1:
        parser.error(f'--tau is {arguments.tau}; must be between 0 and 1')
    if not 1 <= arguments.rate <= 120:
        parser.error(f'--rate is {arguments.rate}; must be from 1 to 120')
    return arguments


@command('demo')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    if arguments.picture:
        check_writable(arguments.picture)
    try:
        from vit_tactile_ros.ros.demo.session import run_demo
    except ImportError as error:
        raise MissingPackageError(f'{error}: the demo needs ROS 2 and the built package: `make demo` sets up both; '
                                  'with ROS, source the workspace first') from error
    return run_demo(arguments)


if __name__ == '__main__':
    sys.exit(main())
