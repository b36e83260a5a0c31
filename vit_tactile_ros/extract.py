"""Write the labelled images of bags, Parquet files or LeRobot data sets as files with a CSV.

Labels of bags are TactileLabel messages in the bag, or a CSV of intervals (start,end,label and if needed sensor, bag).
The folder gets a file per labelled image, the reference of each sensor, and touches.csv, which `train --data` reads;
the images of one touch are one group. (`train --data BAG` reads a bag directly; use this command to inspect, select,
correct, join or archive the images.) Of Parquet (Hugging Face data sets: a column of images, one of labels) and LeRobot
(versions 2 and 3), --image, --label and --group name the columns; they are read with the package pyarrow.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from vit_tactile_ros import flags
from vit_tactile_ros.data.extraction import check_unused, extract, extract_field, thin, touches_of_bags
from vit_tactile_ros.data.field_images import FieldColumns, is_field_format
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError, check_least, one_line
from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.model.config import check_motion

EXAMPLES = (
    'bags/ --output touches',
    'bags/ --labels intervals.csv --every 3 --output touches',
    'episodes/ --image observation.images.digit --label contact --every 5 --output contact',
)


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    bags: tuple[Path, ...] = flag(
        REQUIRED, 'bags (rosbag1, rosbag2, MCAP) or folders of bags; or Parquet files, folders of them, or LeRobot '
                  'data sets', 'BAG', is_positional=True)
    labels: Path | None = flag(
        None, 'intervals with the labels: start,end,label[,sensor][,bag], in s from the start of the bag or since '
              '1970; default: the TactileLabel messages in the bags', 'CSV')
    reference_image: Path | None = flag(
        None, 'image without contact, for all images; default: in each bag the mean of the first 5 images of each '
              'sensor', 'IMAGE')
    image: str = flag('', 'column of a Parquet file with the images, or camera of a LeRobot data set; default: the '
                          'only one', 'COLUMN')
    label: str = flag('', 'column of a Parquet file with the class; default: label; of LeRobot: the task', 'COLUMN')
    group: str = flag('', 'column with the object or recording, whose images are kept together; default: group, if '
                          'there is one; of LeRobot: the episode', 'COLUMN')
    every: int = flag(1, 'use only every N-th image of each touch', 'N')
    motion: float = flag(0.0, 'also write the image so many seconds before each, for train --motion; 0: none',
                         'SECONDS')
    output: Path = flag(REQUIRED, 'new or empty folder')

    def __post_init__(self) -> None:
        check_least(self, every=1)
        check_motion('motion', self.motion)


def parse_arguments(argv: list[str] | None = None) -> ExtractRequest:
    return flags.parse('extract', __doc__, EXAMPLES, ExtractRequest, argv)


@command('extract', stopped='stopped; nothing was written')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    check_unused(request.output)  # before minutes of reading
    check_folder_writable(request.output, create=False)
    columns = FieldColumns(request.image, request.label, request.group)
    if any(is_field_format(path) for path in request.bags):
        _check_field(request)
        done = extract_field(request.bags, columns, request.output, request.every, request.reference_image)
    elif columns != FieldColumns():
        raise UserError('--image, --label and --group are for Parquet and LeRobot; the labels of bags are messages, or '
                        'intervals with --labels')
    else:
        table = thin(touches_of_bags(request.bags, request.labels, request.reference_image), request.every)
        done = extract(table, request.output, motion=request.motion)
    if len(done.images_of_class) < 2:
        print(f'extract: all images are of the class {next(iter(done.images_of_class))!r}; training needs two',
              file=sys.stderr)
    for name, count in done.images_of_class.items():
        print(f'{count:7d} {one_line(name)}')
    if done.unlabelled:
        print(f'{done.unlabelled:7d} rows without a label, left out')
    what = f'of {done.touches} groups' if done.touches else 'without groups'
    print(f'{done.images:7d} images {what}; to train: --data {done.table}')
    print(json.dumps(asdict(done) | {'table': str(done.table)}))
    return 0


def _check_field(request: ExtractRequest) -> None:
    for path in request.bags:
        if not is_field_format(path):
            raise UserError(f'{path} is no Parquet file and no LeRobot data set, and {request.bags[0]} may be: extract '
                            'bags by themselves')
    if request.labels or request.motion:
        raise UserError('--labels and --motion are for bags; the labels of Parquet and LeRobot are columns')


if __name__ == '__main__':
    sys.exit(main())
