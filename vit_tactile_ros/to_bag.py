"""Write a video or a folder of images as a ROS bag.

The bag has one topic of sensor_msgs/Image (rgb8), or with --compressed of sensor_msgs/CompressedImage (PNG, lossless),
which `ros2 bag play`, replay, train and adapt read. The first image has the time of the run, and the others follow at
the rate of the video. Begin with the untouched gel: the first 5 images of a bag become its reference.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from vit_tactile_ros import flags
from vit_tactile_ros.data.bags.find import is_recording
from vit_tactile_ros.data.bags.writing import write_bag
from vit_tactile_ros.data.extraction import check_unused
from vit_tactile_ros.data.recorded_images import recorded_images, recorded_topic, with_progress
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.foundation.names import check_topic
from vit_tactile_ros.foundation.words import counted

EXAMPLES = (
    'press.mp4 --output bags/press',
    'images/ --rate 30 --topic /left/image_raw --frame_id left_gel --compressed --output bags/press',
)


@dataclass(frozen=True, kw_only=True)
class BagRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    recording: Path = flag(REQUIRED, 'video, or folder of images in the order of the numbers in their names',
                           'RECORDING', is_positional=True)
    output: Path = flag(REQUIRED, 'new or empty folder, which becomes the bag')
    topic: str = flag('/image_raw', 'topic of the images; with --compressed, /compressed is appended')
    rate: float = flag(0.0, 'images per s; 0: that of the video, or 25')
    frame_id: str = flag('', 'frame_id of the header of every image')
    storage: Literal['mcap', 'sqlite3'] = flag('mcap', 'kind of bag')
    compressed: bool = flag(False, 'write PNG in place of raw images')

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and 0 <= self.rate <= 1e4):
            raise UserError(f'rate is {self.rate}; must be images per s, above 0 and at most 10000 (0: not given)')
        if not self.topic.strip('/'):
            raise UserError('topic is empty; must be a name such as /left/image_raw')
        check_topic('topic', self.topic)


def parse_arguments(argv: list[str] | None = None) -> BagRequest:
    return flags.parse('to_bag', __doc__, EXAMPLES, BagRequest, argv)


@command('to_bag', stopped='stopped; nothing was written')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    check_unused(request.output)
    if request.output.resolve() == Path.cwd():
        # The finished bag replaces the folder: a shell that is in it would see the old one, which is empty.
        raise UserError(f'output is {request.output}, the folder that this runs in; give a new one, such as '
                        '--output bag')
    check_folder_writable(request.output, create=False)
    if is_recording(request.recording):
        raise UserError(f'{request.recording} is a bag already; must be a video or a folder of images')
    recorded_topic(request.recording, '')
    cv2.setNumThreads(1)
    topic = '/' + request.topic.strip('/')
    if request.compressed and not topic.endswith('/compressed'):
        topic += '/compressed'
    images = with_progress(recorded_images(request.recording, rate=request.rate), f'reading {request.recording.name}')
    count = write_bag(request.output, images, topic, start=time.time_ns(), frame_id=request.frame_id,
                      storage=request.storage, compressed=request.compressed)
    print(f'wrote {counted(count, "image")} on {topic} to {request.output}; to classify them: '
          f'vit-tactile replay {request.output}')
    print(json.dumps({'bag': str(request.output), 'topic': topic, 'images': count}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
