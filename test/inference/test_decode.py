"""One decoder for all messages: every encoding against a image made by hand, and no image from bad data."""

import array
import struct
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vit_tactile_ros.inference.decode import ENCODINGS, DecodeError, decode

# 2 rows of 3 px, RGB: every number differs, so that no exchange of channels, rows or columns goes unseen.
PICTURE = np.array([[[1, 2, 3], [11, 12, 13], [21, 22, 23]],
                    [[101, 102, 103], [111, 112, 113], [121, 122, 123]]], np.uint8)
GREY = np.array([[7, 17, 27], [107, 117, 127]], np.uint8)
ALPHA = np.full((2, 3, 1), 200, np.uint8)
PIXELS = {
    'rgb8': PICTURE,
    'bgr8': PICTURE[:, :, ::-1],
    'rgba8': np.concatenate((PICTURE, ALPHA), axis=2),
    'bgra8': np.concatenate((PICTURE[:, :, ::-1], ALPHA), axis=2),
    'mono8': GREY[:, :, None],
    '8UC1': GREY[:, :, None],
    '8UC3': PICTURE[:, :, ::-1],
    '8UC4': np.concatenate((PICTURE[:, :, ::-1], ALPHA), axis=2),
}
WANTED = {encoding: PICTURE for encoding in PIXELS} | {e: np.stack((GREY,) * 3, axis=2) for e in ('mono8', '8UC1')}


def raw(encoding: str = 'rgb8', padding: int = 0, container=bytes, **changes) -> SimpleNamespace:
    """A message as sensor_msgs/Image has it, its rows padded with 255."""
    pixels = PIXELS.get(encoding, PICTURE)
    rows = pixels.reshape(2, -1)
    rows = np.concatenate((rows, np.full((2, padding), 255, np.uint8)), axis=1)
    fields = {'height': 2, 'width': 3, 'encoding': encoding, 'is_bigendian': 0, 'step': rows.shape[1],
              'data': container(rows.tobytes())}
    return SimpleNamespace(**(fields | changes))


def compressed(data: bytes, format: str = 'jpeg') -> SimpleNamespace:
    return SimpleNamespace(format=format, data=data)


def smooth_picture(height: int = 48, width: int = 64) -> np.ndarray:
    """RGB that JPEG keeps: red grows to the right, green downwards, blue is low."""
    y, x = np.mgrid[:height, :width]
    return np.stack((60 + 2 * x, 40 + 3 * y, np.full_like(x, 20)), axis=2).astype(np.uint8)


def encode(extension: str, picture: np.ndarray) -> bytes:
    """A file of a image whose channels are in OpenCV's order."""
    ok, data = cv2.imencode(extension, picture)
    assert ok
    return data.tobytes()


JPEG = encode('.jpg', smooth_picture()[:, :, ::-1])
PNG = encode('.png', smooth_picture()[:, :, ::-1])


def assert_refused(message, reason: str, *parts: str):
    with pytest.raises(DecodeError) as error:
        decode(message)
    assert error.value.reason == reason
    for part in parts:
        assert part in str(error.value), error.value


@pytest.mark.parametrize('padding', (0, 1, 5))
@pytest.mark.parametrize('encoding', PIXELS)
def test_every_encoding(encoding, padding):
    """Channels in the wrong order, alpha taken for colour, or padded rows read as pixels (a skewed image)."""
    picture = decode(raw(encoding, padding))
    assert picture.dtype == np.uint8 and picture.shape == (2, 3, 3)
    np.testing.assert_array_equal(picture, WANTED[encoding])


@pytest.mark.parametrize('container', (
    bytes, bytearray, memoryview, lambda data: array.array('B', data), lambda data: np.frombuffer(data, np.uint8),
), ids=('bytes', 'bytearray', 'memoryview', 'array', 'numpy'))
def test_every_container(container):
    """rclpy gives an array.array, rosbags a numpy array: live and replay must not differ."""
    for encoding in PIXELS:
        np.testing.assert_array_equal(decode(raw(encoding, 2, container)), WANTED[encoding])
    np.testing.assert_array_equal(decode(compressed(container(PNG), 'png')), smooth_picture())


@pytest.mark.parametrize('encoding', ('rgb8', 'bgr8', '8UC3'))
def test_colour_is_not_copied(encoding):
    """A copy of every image of a camera, padded or in the other order, on the way to the network."""
    message = raw(encoding, 5, lambda data: array.array('B', data))
    assert np.shares_memory(decode(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('encoding', ('32FC1', '8SC3', '16SC1', 'RGB8', 'nv24', '', 'jpeg'))
def test_other_encodings_are_refused(encoding):
    """Data of another kind shown to the network as if it were colour."""
    assert_refused(raw(encoding), 'encoding', repr(encoding), 'rgb8, bgr8')


@pytest.mark.parametrize('size', ({'height': 0}, {'width': 0}, {'height': 0, 'width': 0, 'step': 0, 'data': b''}))
def test_zero_size_is_refused(size):
    """An empty image of a sensor that is starting up, for which OpenCV raises an assertion."""
    assert_refused(raw(**size), 'size', 'at least 1')


@pytest.mark.parametrize('encoding', PIXELS)
def test_step_too_small_is_refused(encoding):
    """Rows that overlap: a step that belongs to another encoding or width."""
    needed = 3 * ENCODINGS[encoding].channels
    assert_refused(raw(encoding, step=needed - 1), 'step', f'step is {needed - 1}', f'at least {needed}')
    assert_refused(raw(encoding, step=0), 'step')


@pytest.mark.parametrize('count', (0, 1, 17, 19, 36))
def test_data_of_the_wrong_length_is_refused(count):
    """Data cut off on its way, or left over from a larger image."""
    for container in (bytes, lambda data: array.array('B', data)):
        assert_refused(raw(data=container(b'\x05' * count)), 'data', f'{count} bytes', 'must be 18')


def test_a_huge_step_is_refused():
    """A size in the header that is believed before the data is looked at."""
    assert_refused(raw(step=2**32 - 1), 'data')
    assert_refused(raw(width=2**32 - 1), 'size', 'at most 33.6 Mpx')
    assert_refused(raw(width=2**24), 'step')


def test_jpeg():
    """Red and blue exchanged (OpenCV's order), or another size."""
    picture = decode(compressed(JPEG, 'bgr8; jpeg compressed bgr8'))
    assert picture.dtype == np.uint8 and picture.shape == (48, 64, 3)
    assert np.abs(picture.astype(int) - smooth_picture()).max() <= 12


def test_png_is_exact():
    """Red and blue exchanged, or a lossy path."""
    np.testing.assert_array_equal(decode(compressed(PNG, 'png')), smooth_picture())


@pytest.mark.parametrize('format', ('', 'jpeg', 'rgb8; png compressed', 'nonsense'))
def test_the_data_says_what_it_is(format):
    """The format field is written in a dozen ways in the field; the first bytes are not."""
    np.testing.assert_array_equal(decode(compressed(PNG, format)), smooth_picture())


def test_grey_and_alpha_files():
    """A grey camera's JPEG or a PNG with alpha that comes out with one or four channels."""
    grey = smooth_picture()[:, :, 0]
    np.testing.assert_array_equal(decode(compressed(encode('.png', grey))), np.stack((grey,) * 3, axis=2))
    assert decode(compressed(encode('.jpg', grey))).shape == (48, 64, 3)
    alpha = np.dstack((smooth_picture()[:, :, ::-1], np.full((48, 64), 9, np.uint8)))
    np.testing.assert_array_equal(decode(compressed(encode('.png', alpha))), smooth_picture())


def test_exif_orientation():
    """As cv_bridge and image_transport decode the same message; test_image_file.py has all orientations."""
    tiff = b'II*\x00\x08\x00\x00\x00' + struct.pack('<HHHIHH', 1, 0x0112, 3, 1, 6, 0) + b'\x00' * 4
    exif = b'Exif\x00\x00' + tiff
    turned = JPEG[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + JPEG[2:]
    by_opencv = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert by_opencv.shape == (64, 48, 3)
    np.testing.assert_array_equal(decode(compressed(turned)), by_opencv[:, :, ::-1])


def test_decoding_needs_no_ros_client():
    """Bag evaluation on a machine without ROS, and the layer rule as it is at run time."""
    program = ('import sys\n'
               'import vit_tactile_ros.inference.decode\n'
               'ros = [m for m in sys.modules if m.split(".")[0] in ("rclpy", "sensor_msgs", "cv_bridge", "std_msgs")\n'
               '       or m.startswith(("vit_tactile_ros.msg", "vit_tactile_ros.ros"))]\n'
               'sys.exit(f"imported {ros}" if ros else 0)\n')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_decoding_does_not_import_torch():
    """The simulated sensor and the demo's view start three times as fast without it."""
    code = ('import sys, vit_tactile_ros.inference.decode, vit_tactile_ros.simulator; '
            'assert "torch" not in sys.modules')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
