"""Recorded clips as the stream of a sensor of which a given share of the frames is untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.video import images_of
from vit_tactile_ros.evaluation.touchbench.clips import message_of
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference
from vit_tactile_ros.model import PreprocessingConfig

UNTOUCHED_SHARE = 0.8  # of a gripper that is empty most of the time
STEP_NS = 40_000_000  # 25 frames per second
MOST_BYTES = 2_000_000_000  # of the decoded images of a clip, which are all in memory


@dataclass(frozen=True)
class StreamClip:
    """The images of a clip in the order in which they are played; the first ones are the no-contact reference."""

    name: str
    messages: list[Any]  # as of sensor_msgs/Image
    touched: NDArray[np.bool_]  # per message
    repeated: NDArray[np.bool_]  # per message: it plays an untouched frame again


def read_stream_clip(path: Path, contacts: Sequence[tuple[int, int]] | None, preprocessing: PreprocessingConfig,
                     ) -> StreamClip:
    """A video; untouched frames before its first contact are played again until UNTOUCHED_SHARE of all are untouched.

    contacts: first and last touched frame of each; None: the gate tells. Raises DataError for a video that begins in
    contact.
    """
    messages, size = [], 0
    for image in images_of(path):
        messages.append(message_of(image))
        size += image.nbytes
        if size > MOST_BYTES:
            raise DataError(f'{path} is longer than {len(messages)} images, {MOST_BYTES / 1e9:g} GB: cut it into parts')
    if len(messages) <= REFERENCE_FRAMES:
        raise DataError(f'{path} has {len(messages)} images; must have more than the {REFERENCE_FRAMES} of its '
                        'reference')
    if contacts is None:
        sensor = SensorFrames(Reference(), preprocessing)
        touched = np.array([not sensor.update(message, number * STEP_NS).is_untouched
                            for number, message in enumerate(messages)])
        touched[:REFERENCE_FRAMES] = False
    else:
        touched = np.zeros(len(messages), bool)
        for first, last in contacts:
            touched[first:last + 1] = True
    begin = int(np.argmax(touched)) if touched.any() else len(touched)
    if begin <= REFERENCE_FRAMES:
        raise DataError(f'{path} is touched from frame {begin} on; its first {REFERENCE_FRAMES} frames are the '
                        'no-contact reference, and one more must be untouched')
    order = np.arange(len(messages))
    wanted = round(touched.sum() * UNTOUCHED_SHARE / (1 - UNTOUCHED_SHARE))
    missing = max(0, int(wanted - (~touched).sum()))
    # Forth and back, so that a frame follows a neighbour.
    once = np.arange(REFERENCE_FRAMES, begin)
    again = np.resize(np.concatenate([once[::-1], once]), missing)
    order = np.concatenate([order[:begin], again, order[begin:]])
    numbers = np.arange(len(order))
    return StreamClip(path.name, [messages[i] for i in order], touched[order],
                      (numbers >= begin) & (numbers < begin + missing))
