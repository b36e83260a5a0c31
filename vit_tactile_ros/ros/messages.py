"""Decisions and images to ROS messages."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vit_tactile_ros.msg import TactileClassification, TouchEvent

if TYPE_CHECKING:  # the simulated sensor only fills images and must not wait for torch
    from vit_tactile_ros.inference import touch_events
    from vit_tactile_ros.inference.classifier import Decision


def classification_message(decision: Decision, header: Header, sensor: str, class_names: list[str],
                           ) -> TactileClassification:
    """The decision as a message; `image_age` is set when it is published."""
    return TactileClassification(
        header=header,
        sensor=sensor,
        class_id=decision.class_id,
        class_name=decision.class_name,
        confidence=decision.confidence,
        probabilities=_floats(decision.probabilities),
        class_names=class_names,
        exit_index=decision.exit_index,
        exit_block=decision.exit_block,
        exit_confidences=_floats(decision.exit_confidences),
        tau=array('d', decision.tau),
        compute_share=decision.compute_share,
        inference_time=decision.inference_time,
    )


def event_message(event: touch_events.TouchEvent, frame_id: str, sensor: str, class_names: Sequence[str]) -> TouchEvent:
    """The event of a touch as a message."""
    return TouchEvent(
        header=Header(stamp=_time(event.stamp), frame_id=frame_id),
        sensor=sensor,
        kind=int(event.kind),
        touch=event.touch,
        first_stamp=_time(event.first_stamp),
        class_id=event.class_id,
        class_name=class_names[event.class_id],
        confidence=event.confidence,
        duration=event.duration,
        frames=event.frames,
        exits=event.exits,
    )


def image_message(image: NDArray[np.uint8], header: Header, encoding: str = 'rgb8') -> Image:
    """A uint8 (H, W, 3) image as a message without padding; `encoding` describes its channels, they are not converted.

    Made by cv_bridge where that works.
    """
    bridge = _cv_bridge()
    message = _own_image_message(image, encoding) if bridge is None else bridge.cv2_to_imgmsg(image, encoding)
    message.header = header
    return message


def _own_image_message(image: NDArray[np.uint8], encoding: str) -> Image:
    """The same message as cv_bridge makes, without a header."""
    height, width, channels = image.shape
    # rclpy checks bytes one by one, but not an array of the right type code.
    return Image(height=height, width=width, encoding=encoding, is_bigendian=0, step=width * channels,
                 data=array('B', image.tobytes()))


@cache
def _cv_bridge() -> Any:
    """The CvBridge; None if it cannot make a message.

    The package index's build calls `ndarray.tostring`, which numpy 2.3 removed; that of a ROS installation cannot be
    imported with another major version of numpy. Imported at the first image: nothing else needs it.
    """
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        bridge.cv2_to_imgmsg(np.zeros((1, 1, 3), np.uint8), 'rgb8')
    except (ImportError, AttributeError):
        return None
    return bridge


def compressed_message(data: bytes, header: Header, format: str) -> CompressedImage:
    """A JPEG or PNG file as a message; not by cv_bridge, which sets another `format` than image_transport."""
    return CompressedImage(header=header, format=format, data=array('B', data))


def _floats(values: NDArray[np.float32]) -> array[float]:
    return array('f', np.ascontiguousarray(values, np.float32).tobytes())


def _time(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)
