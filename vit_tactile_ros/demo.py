"""Two simulated fingers, classified live by the ROS 2 node.

Up and down (or + and -) change tau while it runs; q or Ctrl-C ends it. With DEMO_SECONDS=20 it ends after 20 s, and tau
changes to 0.99 after 10 s, so that the summary compares two thresholds. The exit status is 0 if both fingers had
results.
"""

from __future__ import annotations

import dataclasses
import os
import sys

from vit_tactile_ros import flags
from vit_tactile_ros.flags import Flag
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.ros.demo.settings import DemoSettings

EXAMPLES = (
    '',
    '--seconds 20 --tau 0.9',
    '--picture demo.svg',
)


FLAGS = {
    'seconds': Flag('s to run, from the first results; default: $DEMO_SECONDS, or until stopped'),
    'tau': Flag("exit threshold, 0 to 1; default: the checkpoint's"),
    'rate': Flag('images per second and finger, 1 to 120'),
    'device': flags.DEVICE,
    'checkpoint': flags.CHECKPOINT,
    'picture': Flag('write a picture of the view while both fingers touch something, then end', 'FILE.svg'),
}


def parse_arguments(argv: list[str] | None = None) -> DemoSettings:
    return flags.parse('demo', __doc__, EXAMPLES, DemoSettings, argv, FLAGS)


def _with_environment(settings: DemoSettings) -> DemoSettings:
    text = os.environ.get('DEMO_SECONDS')
    if settings.seconds is not None or not text:
        return settings
    try:
        seconds = float(text)
    except ValueError as error:
        raise UserError(f'DEMO_SECONDS is {text!r}; must be a number of seconds') from error
    return dataclasses.replace(settings, seconds=seconds)


@command('demo')
def main(argv: list[str] | None = None) -> int:
    settings = _with_environment(parse_arguments(argv))
    if settings.picture:
        check_writable(settings.picture)
    try:
        from vit_tactile_ros.ros.demo.session import run_demo
    except ImportError as error:
        raise MissingPackageError(f'{error}: the demo needs ROS 2 and the built package: `make demo` sets up both; '
                                  'with ROS, source the workspace first') from error
    return run_demo(settings)


if __name__ == '__main__':
    sys.exit(main())
