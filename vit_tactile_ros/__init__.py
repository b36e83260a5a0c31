"""Early-exit Performer ViT for camera-based touch sensors, with a live ROS 2 node."""

import sys

from vit_tactile_ros.foundation import interrupt

__version__ = '0.2.0'


def _start() -> None:
    interrupt.install_if_command()
    words = interrupt.module_words()
    if words and words[0].count('.') == 1:
        from vit_tactile_ros.foundation.inputs import are_there

        if not are_there(words[0].partition('.')[2], words[1:]):
            sys.exit(2)


_start()  # here, since `python -m vit_tactile_ros.train` imports this before anything else
