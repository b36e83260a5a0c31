"""Write the labelled images of bags as files with a CSV.

Labels are TactileLabel messages in the bag, or a CSV of intervals (start,end,label and if needed sensor, bag). The
folder gets a file per labelled image, the reference of each sensor, and touches.csv, which `train --data` reads; the
images of one touch are one group. (`train --data BAG` reads a bag directly; use this command to inspect, select,
correct, join or archive the images.)
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from vit_tactile_ros.data.extraction import check_unused, extract, thin, touches_of_bags
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.files import check_folder_writable

EXAMPLES = (
    'bags/ --output touches',
    'bags/ --labels intervals.csv --every 3 --output touches',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('extract', __doc__, EXAMPLES)
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG', help='bags (rosbag1, rosbag2) or folders of bags')
    parser.add_argument('--labels', type=Path, metavar='CSV',
                        help='intervals with the labels: start,end,label[,sensor][,bag], in s from the start of the '
                             'bag or since 1970; default: the TactileLabel messages in the bags')
    parser.add_argument('--reference_image', type=Path, metavar='IMAGE',
                        help='image without contact, for all images; default: in each bag the mean of the first '
                             '5 images of each sensor')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='use only every N-th image of each touch')
    parser.add_argument('--output', type=Path, required=True, help='new or empty folder')
    arguments = parser.parse_args(argv)
    if arguments.every < 1:
        parser.error(f'--every is {arguments.every}; must be at least 1')
    return arguments


@command('extract', stopped='stopped; nothing was written')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    check_unused(arguments.output)  # before minutes of reading
    check_folder_writable(arguments.output, create=False)
    table = thin(touches_of_bags(arguments.bags, arguments.labels, arguments.reference_image), arguments.every)
    done = extract(table, arguments.output)
    if len(done.images_of_class) < 2:
        print(f'extract: all images are of the class {next(iter(done.images_of_class))!r}; training needs two',
              file=sys.stderr)
    for name, count in done.images_of_class.items():
        print(f'{count:7d} {name}')
    print(f'{done.images:7d} images of {done.touches} touches; to train: --data {done.table}')
    print(json.dumps(asdict(done) | {'table': str(done.table)}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
