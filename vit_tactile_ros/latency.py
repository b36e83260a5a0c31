"""Time from image to result in the live node.

Plays videos of touches to real nodes over DDS at a camera's rate. The variants take turns clip by clip, so that load on
the machine affects all of them alike. Prints a table; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from vit_tactile_ros.data.plain_yaml import load_yaml
from vit_tactile_ros.evaluation.touchbench.clips import find_clips
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError

if TYPE_CHECKING:  # needs ROS
    from vit_tactile_ros.ros.live.latency import Variant

EXAMPLES = (
    'touch.avi',
    'touch.avi --variant plain engine=torch --variant fast engine=auto --cold_starts 3',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('latency', __doc__, EXAMPLES)
    parser.add_argument('clips', nargs='+', type=Path, metavar='CLIP',
                        help='videos, or folders of videos; the first images of each must be without contact')
    parser.add_argument('--variant', action='append', nargs='+', default=[], metavar='NAME PARAMETER=VALUE',
                        dest='variants', help="a node to measure: its name in the table, then the node's parameters; "
                        'checkout=PATH runs the code of another built checkout. Repeat it to compare. Default: a node '
                        'with default parameters')
    parser.add_argument('--rate', type=float, default=30.0, help='images per second')
    parser.add_argument('--images', type=int, default=150, help='maximum number of images of each clip')
    parser.add_argument('--rounds', type=int, default=1, help='how often every clip is played to every variant')
    parser.add_argument('--cold_starts', type=int, default=0,
                        help='number of nodes of each variant that are started, one at a time, to measure the start')
    parser.add_argument('--image_transport', choices=('raw', 'compressed'), default='raw',
                        help='raw: rgb8; compressed: JPEG')
    arguments = parser.parse_args(argv)
    for name, least in (('images', 1), ('rounds', 1), ('cold_starts', 0)):
        if getattr(arguments, name) < least:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be at least {least}')
    if not 0 < arguments.rate < 1e4:
        parser.error(f'--rate is {arguments.rate}; must be above 0 and below 10000 images per second')
    try:
        arguments.clips = find_clips(arguments.clips)
        arguments.variants = [parse_variant(words) for words in arguments.variants or [['defaults']]]
    except UserError as error:
        parser.error(str(error))
    names = [name for name, _, _ in arguments.variants]
    if len(set(names)) < len(names):
        parser.error(f'--variant: the names are {", ".join(names)}; each must be unique')
    return arguments


def parse_variant(words: list[str]) -> tuple[str, dict[str, Any], Path | None]:
    """`NAME PARAMETER=VALUE ...` to name, parameters and checkout; raises UserError."""
    name, *settings = words
    if '=' in name:
        raise UserError(f'--variant {" ".join(words)}: its name must come first')
    parameters: dict[str, Any] = {}
    checkout = None
    for setting in settings:
        key, equals, value = setting.partition('=')
        if not equals:
            raise UserError(f'--variant {name}: {setting!r} must be PARAMETER=VALUE')
        if key in ('sensors', 'image_transport'):
            raise UserError(f'--variant {name}: {key} cannot differ between variants: all have one sensor and the same '
                            'type of images')
        if key == 'checkout':
            checkout = Path(value).expanduser().absolute()
            if not (checkout / 'env.sh').is_file():
                raise UserError(f'--variant {name}: checkout is {value}; must be a checkout of this repository after '
                                '`make build`')
        else:
            try:
                parameters[key] = load_yaml(value)
            except ValueError:
                parameters[key] = None
            if not key or parameters[key] is None or isinstance(parameters[key], dict):
                raise UserError(f'--variant {name}: {setting!r} must be PARAMETER=VALUE, such as tau=0.9')
    return name, parameters, checkout


@command('latency')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        from vit_tactile_ros.ros.live.latency import Variant, measure
    except ImportError as error:
        raise MissingPackageError(f'needs ROS 2 and the built package ({error}): `make build` and `. ./env.sh`; with '
                                  'ROS, source the workspace first') from error
    variants = [Variant(*words) for words in arguments.variants]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the nodes with this process
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(variants, arguments.clips, arguments.rate, arguments.images, arguments.rounds,
                           arguments.cold_starts, arguments.image_transport, Path(folder))
    result = {'clips': len(arguments.clips), 'rate': arguments.rate, 'image_transport': arguments.image_transport,
              'variants': {name: m.summary() for name, m in measured.items()}}
    _print(variants, result)
    print(json.dumps(result))
    return 0


def _print(variants: list[Variant], result: dict[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=f'{result["clips"]} clips at {result["rate"]:g} images/s, {result["image_transport"]}; '
                        'ms, median / p99', title_justify='left', box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column('')
    table.add_column('engine')
    for column in ('results', 'of', 'image to result', 'in the network', 'around it', 'image_age', 'cold start s'):
        table.add_column(column, justify='right', no_wrap=True)
    for variant in variants:
        row = result['variants'][variant.name]
        times = [f'{row[key]["p50"]:.2f} / {row[key]["p99"]:.2f}' if row[key] else '-'
                 for key in ('latency_ms', 'inference_ms', 'around_ms', 'image_age_ms')]
        start = row['cold_start_s']
        table.add_row(variant.name, row['engine'], str(row['results']), str(row['sent']), *times,
                      f'{start["p50"]:.1f}, n {start["n"]}' if start else '-')
    console.print(table)


if __name__ == '__main__':
    sys.exit(main())
