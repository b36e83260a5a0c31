"""Labelled touches out of bags, as pictures: `python -m vit_tactile_ros.extract BAG --output touches`.

Labels are TactileLabel messages in the bag, or a CSV of intervals (start,end,label and if needed sensor, bag). The
folder holds a picture per labelled image, the no-contact reference of each sensor, and touches.csv, which
`train --data` takes; frames of one touch are one group. (`train --data BAG` reads a bag directly; this is for looking
through it, sorting out, correcting, joining several, and keeping.)
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from vit_tactile_ros.data.arguments import HelpFormatter
from vit_tactile_ros.data.extraction import check_unused, extract, thin, touches_of_bags


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m vit_tactile_ros.extract', description=__doc__,
                                     formatter_class=HelpFormatter)
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG', help='bags (rosbag1, rosbag2) or folders of bags')
    parser.add_argument('--labels', type=Path, metavar='CSV',
                        help='intervals with the labels: start,end,label[,sensor][,bag], in s from the start of the '
                             'bag or since 1970; none: the TactileLabel messages in the bags')
    parser.add_argument('--reference_image', type=Path, metavar='PICTURE',
                        help='no-contact picture of all; none: the mean of the first 5 images of each sensor, bag by '
                             'bag')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='take every N-th image of each touch only')
    parser.add_argument('--output', type=Path, required=True, help='folder to make; must not hold anything yet')
    arguments = parser.parse_args(argv)
    if arguments.every < 1:
        parser.error(f'--every is {arguments.every}; must be at least 1')
    return arguments


def main(argv: list[str] | None = None) -> int:
    """0: done; 1: the disk refused; 2: the arguments or the data can't be used; 130: interrupted, nothing written."""
    arguments = parse_arguments(argv)
    logging.basicConfig(format='extract: %(message)s')
    try:
        check_unused(arguments.output)  # before minutes of reading
        table = thin(touches_of_bags(arguments.bags, arguments.labels, arguments.reference_image), arguments.every)
        done = extract(table, arguments.output)
    except KeyboardInterrupt:
        print('\nextract: stopped; nothing was written', file=sys.stderr)
        return 130
    except ValueError as error:
        print(f'extract: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'extract: {error}', file=sys.stderr)
        return 1
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
