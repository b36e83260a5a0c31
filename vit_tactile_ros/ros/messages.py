"""Decisions and pictures into ROS messages, as free functions."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vit_tactile_ros.msg import TactileClassification

if TYPE_CHECKING:  # the simulated sensor fills images only, and must not wait for torch
    from vit_tactile_ros.inference.classifier import Decision


def classification_message(decision: Decision, header: Header, sensor: str, class_names: list[str],
                           ) -> TactileClassification:
    """The decision as a message; `image_age` is left for the moment of publication."""
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


def image_message(picture: NDArray[np.uint8], header: Header, encoding: str = 'rgb8') -> Image:
    """A uint8 (H, W, 3) picture as an unpadded message; the bytes are taken as they are."""
    height, width, channels = picture.shape
    # rclpy checks bytes one by one; an array of the right type code it takes at once.
    return Image(header=header, height=height, width=width, encoding=encoding, is_bigendian=0,
                 step=width * channels, data=array('B', picture.tobytes()))


def compressed_message(data: bytes, header: Header, format: str) -> CompressedImage:
    """A JPEG or PNG file as a message."""
    return CompressedImage(header=header, format=format, data=array('B', data))


def _floats(values: NDArray[np.float32]) -> array[float]:
    return array('f', np.ascontiguousarray(values, np.float32).tobytes())
