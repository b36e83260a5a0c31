"""ROS image messages to uint8 RGB arrays: the one decoder, live and from bags.

It takes anything with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage and imports no ROS client. The
pixels are those of cv_bridge's 'rgb8', pinned in test/ros/test_messages.py. cv_bridge itself is not used: it supports
fewer encodings, and replay and training run without ROS.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.image_file import MESSAGE_KINDS, decode_image
from vit_tactile_ros.inference.image_header import MAX_PIXELS, DecodeError, check_size
from vit_tactile_ros.inference.sixteen_bit import to_eight_bits

Image = NDArray[np.uint8]

BACKWARDS = -1


class Encoding(NamedTuple):
    """The layout of an encoding's pixels, and their conversion to RGB."""

    channels: int  # samples per pixel and row
    conversion: int | None  # OpenCV's, to RGB; None: it is RGB already; BACKWARDS: reverse the channels
    sample_bytes: int = 1  # 2: scaled to 8 bits and without alpha before the conversion
    even: str = ''  # sizes that must be even: 2 px share their chroma
    least: int = 1  # px, width and height
    rows: float = 1.0  # rows of data per row of pixels


_YUYV = Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even='width')
_UYVY = Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even='width')
# OpenCV names a Bayer pattern by its second row's second and third pixels, ROS by the first row's first two.
_BAYER = {'rggb': cv2.COLOR_BayerBG2RGB, 'bggr': cv2.COLOR_BayerRG2RGB, 'gbrg': cv2.COLOR_BayerGR2RGB,
          'grbg': cv2.COLOR_BayerGB2RGB}
ENCODINGS: dict[str, Encoding] = {
    'rgb8': Encoding(3, None),
    'bgr8': Encoding(3, BACKWARDS),
    'rgba8': Encoding(4, cv2.COLOR_RGBA2RGB),
    'bgra8': Encoding(4, cv2.COLOR_BGRA2RGB),
    'mono8': Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC1': Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC3': Encoding(3, BACKWARDS),
    '8UC4': Encoding(4, cv2.COLOR_BGRA2RGB),
    # YUV of limited range (BT.601), as OpenCV and cv_bridge read it.
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
    'nv12': Encoding(1, cv2.COLOR_YUV2RGB_NV12, even='width and height', rows=1.5),
    'nv21': Encoding(1, cv2.COLOR_YUV2RGB_NV21, even='width and height', rows=1.5),
    **{f'bayer_{pattern}8': Encoding(1, code, least=3) for pattern, code in _BAYER.items()},
    'mono16': Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    '16UC1': Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    'rgb16': Encoding(3, None, 2),
    'bgr16': Encoding(3, BACKWARDS, 2),
    '16UC3': Encoding(3, BACKWARDS, 2),
    'rgba16': Encoding(4, None, 2),
    'bgra16': Encoding(4, BACKWARDS, 2),
    '16UC4': Encoding(4, BACKWARDS, 2),
    **{f'bayer_{pattern}16': Encoding(1, code, 2, least=3) for pattern, code in _BAYER.items()},
}
# They do not define the order of the colours; publishers that use OpenCV mean BGR.
UNDEFINED_ORDER = frozenset({'8UC3', '8UC4', '16UC3', '16UC4'})


def decode(message: Any) -> Image:
    """The image in an Image or CompressedImage message, uint8 RGB (H, W, 3).

    The array may be a view of the message's memory with gaps between its rows and reversed channels; `fit` copies it.
    Raises DecodeError with reason 'encoding', 'size',
    'step', 'data', 'range' or 'compressed'.
    """
    return decode_compressed(message) if hasattr(message, 'format') else decode_raw(message)


def decode_raw(message: Any) -> Image:
    """The image in a sensor_msgs/Image, uint8 RGB (H, W, 3); rows may be padded (`step`)."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise DecodeError('encoding', f'encoding is {message.encoding!r}; must be one of {", ".join(ENCODINGS)}')
    if not 0 < height * width <= MAX_PIXELS:
        check_size(width, height, 'size')
    if encoding.even or encoding.least > 1:
        _check_layout(encoding, message.encoding, width, height)
    row_bytes = width * encoding.channels * encoding.sample_bytes
    if step < row_bytes:
        raise DecodeError('step', f'step is {step}; must be at least {row_bytes} ({width} px of {message.encoding})')
    rows = height if encoding.rows == 1 else int(height * encoding.rows)
    data = np.frombuffer(message.data, np.uint8)
    if data.size != rows * step:
        raise DecodeError('data', f'data holds {data.size} bytes; must be {rows * step} ({rows} rows of step {step})')
    pixels: NDArray[Any] = data.reshape(rows, step)[:, :row_bytes]
    if encoding.sample_bytes == 2:
        order = '>u2' if message.is_bigendian else '<u2'
        samples = np.ascontiguousarray(pixels).view(order).reshape(rows, width, encoding.channels)
        pixels = to_eight_bits(samples[:, :, :3].astype(np.uint16))
    else:
        pixels = pixels.reshape(rows, width, encoding.channels)
    if encoding.conversion is None:
        return pixels
    if encoding.conversion == BACKWARDS:
        return pixels[:, :, ::-1]
    return cv2.cvtColor(pixels, encoding.conversion)


def _check_layout(encoding: Encoding, name: str, width: int, height: int) -> None:
    if width % 2 and 'width' in encoding.even or height % 2 and 'height' in encoding.even:
        raise DecodeError('size', f'image is {width}x{height}; {encoding.even} must be even for {name}, in which two '
                                  'pixels share their colour')
    if min(width, height) < encoding.least:
        raise DecodeError('size', f'image is {width}x{height}; width and height must be at least {encoding.least} for '
                                  f'{name}')


def decode_compressed(message: Any) -> Image:
    """The image in a sensor_msgs/CompressedImage (JPEG or PNG), uint8 RGB (H, W, 3)."""
    try:
        return decode_image(bytes(memoryview(message.data)), MESSAGE_KINDS)
    except DecodeError as error:
        raise DecodeError(error.reason, f'format is {message.format!r}: {error}') from error
