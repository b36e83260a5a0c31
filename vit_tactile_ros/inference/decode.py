"""ROS image messages to uint8 RGB arrays: the one decoder, live and from bags.

It takes anything with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage and imports no ROS client.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

BACKWARDS = -1
# Bytes per pixel, and the OpenCV conversion to RGB (None: it is RGB already; BACKWARDS: read it from the other end).
ENCODINGS: dict[str, tuple[int, int | None]] = {
    'rgb8': (3, None),
    'bgr8': (3, BACKWARDS),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
    '8UC3': (3, BACKWARDS),  # says nothing of the order; OpenCV publishers mean BGR
}
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'


class DecodeError(ValueError):
    """An image message that can't be decoded; `reason` is a short key for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(message: Any) -> Image:
    """The picture in an Image or CompressedImage message, uint8 RGB (H, W, 3).

    The array may share the message's memory, with gaps between its rows, and its channels may run backwards through
    the memory, which costs nothing here; `fit` makes it plain. Raises DecodeError with reason 'encoding', 'size',
    'step', 'data' or 'compressed'.
    """
    return decode_compressed(message) if hasattr(message, 'format') else decode_raw(message)


def decode_raw(message: Any) -> Image:
    """The picture in a sensor_msgs/Image, uint8 RGB (H, W, 3); rows may be padded (`step`)."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if message.encoding not in ENCODINGS:
        raise DecodeError('encoding', f'encoding is {message.encoding!r}; must be one of {", ".join(ENCODINGS)}')
    channels, conversion = ENCODINGS[message.encoding]
    if height == 0 or width == 0:
        raise DecodeError('size', f'image is {width}x{height}; width and height must be at least 1')
    if step < width * channels:
        raise DecodeError('step', f'step is {step}; must be at least {width * channels} '
                                  f'({width} px of {message.encoding})')
    data = np.frombuffer(message.data, np.uint8)
    if data.size != height * step:
        raise DecodeError('data', f'data holds {data.size} bytes; must be {height * step} '
                                  f'({height} rows of step {step})')
    pixels = data.reshape(height, step)[:, :width * channels].reshape(height, width, channels)
    if conversion is None:
        return pixels
    if conversion == BACKWARDS:
        return pixels[:, :, ::-1]
    return cv2.cvtColor(pixels, conversion)


def decode_compressed(message: Any) -> Image:
    """The picture in a sensor_msgs/CompressedImage (JPEG or PNG), uint8 RGB (H, W, 3).

    OpenCV fills what a truncated file lacks with grey and reports success, so the end marker is checked here.
    """
    data = bytes(memoryview(message.data))
    tail = data.rstrip(b'\x00')[-16:]  # some encoders pad
    if data.startswith(_JPEG_START):
        whole = tail.endswith(_JPEG_END)
    elif data.startswith(_PNG_START):
        whole = tail.endswith(_PNG_END)
    else:
        raise DecodeError('compressed', f'format is {message.format!r} and the data starts with '
                                        f'{data[:8].hex() or "nothing"}; must be JPEG or PNG')
    if not whole:
        raise DecodeError('compressed', f'{message.format!r} image of {len(data)} bytes is truncated: no end marker')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # raised, not returned as None, for a damaged header that claims an absurd size
        image = None
    if image is None:
        raise DecodeError('compressed', f'{message.format!r} image of {len(data)} bytes is damaged')
    return image[:, :, ::-1]
