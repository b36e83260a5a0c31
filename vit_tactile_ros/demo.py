"""Two simulated fingers, classified live by the ROS 2 node.

Up and down (or + and -) change tau while it runs; q or Ctrl-C ends it. With DEMO_SECONDS=20 it ends after 20 s, and tau
changes to 0.99 after 10 s, so that the summary compares two thresholds. The exit status is 0 if both fingers had
results.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from vit_tactile_ros import flags
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import flag
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.model.shipped import SLIP, shipped_checkpoint

EXAMPLES = (
    '',
    '--seconds 20 --tau 0.9 --slip',
    '--picture demo.svg',
)


@dataclass(frozen=True)
class DemoSettings:
    """The settings of the demo; raises UserError naming the field that is wrong."""

    seconds: float | None = flag(None, 's to run, from the first results; default: $DEMO_SECONDS, or until stopped')
    tau: float | None = flag(None, "exit threshold, 0 to 1; default: the checkpoint's")
    rate: float = flag(30.0, 'images per second and finger, 1 to 120')
    device: str = flag('auto', flags.DEVICE)
    checkpoint: str = flag('', flags.CHECKPOINT)
    slip: bool = flag(False, 'objects that are held, shaken and slip, with the shipped checkpoint of these states')
    picture: Path | None = flag(None, 'write a picture of the view while both fingers touch something, then end',
                                'FILE.svg')

    def __post_init__(self) -> None:
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f'seconds is {self.seconds}; must be above 0')
        if self.tau is not None and not 0 <= self.tau <= 1:
            raise UserError(f'tau is {self.tau}; must be between 0 and 1')
        if not 1 <= self.rate <= 120:
            raise UserError(f'rate is {self.rate}; must be from 1 to 120')


def parse_arguments(argv: list[str] | None = None) -> DemoSettings:
    return flags.parse('demo', __doc__, EXAMPLES, DemoSettings, argv)


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
    checkpoint = settings.checkpoint or (str(shipped_checkpoint(SLIP)) if settings.slip else '')
    return run_demo(settings.seconds, settings.picture, settings.rate,
                    {'device': settings.device, 'checkpoint': repr(checkpoint), 'tau': settings.tau},
                    'handling' if settings.slip else 'touches')


if __name__ == '__main__':
    sys.exit(main())
