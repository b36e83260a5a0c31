"""Image messages made by cv_bridge and without it, and the decoder pinned to cv_bridge."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vit_tactile_ros.inference.decode import ENCODINGS, decode
from vit_tactile_ros.ros import messages
from vit_tactile_ros.ros.messages import image_message

HEIGHT, WIDTH = 6, 8
RNG = np.random.default_rng(0)
# What cv_bridge 4 converts to rgb8; it refuses all others as "not a color format".
OF_CV_BRIDGE = {'mono8', 'mono16', 'yuv422', 'yuv422_yuy2',
                *(f'{order}{bits}' for order in ('rgb', 'bgr', 'rgba', 'bgra') for bits in (8, 16)),
                *(f'bayer_{pattern}{bits}' for pattern in ('rggb', 'bggr', 'gbrg', 'grbg') for bits in (8, 16))}
# The build of the package index has no conversion for these: it lacks yuv422 and 16 bits, and misspells one pattern.
GAPS_OF_THE_INDEX = {'yuv422', 'yuv422_yuy2', 'bayer_grbg8', *(name for name in OF_CV_BRIDGE if name.endswith('16'))}


@pytest.fixture(scope='module')
def bridge():
    return pytest.importorskip('cv_bridge').CvBridge()


@pytest.fixture(scope='module')
def is_of_the_index(bridge) -> bool:
    """A ROS installation has the conversions compiled."""
    import cv_bridge.boost.cv_bridge_boost as conversions

    return conversions.__file__.endswith('.py')


def message(encoding: str) -> Image:
    step = WIDTH * ENCODINGS[encoding].channels * ENCODINGS[encoding].sample_bytes
    data = RNG.integers(0, 256, HEIGHT * step, np.uint8)
    return Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=step, data=data.tobytes())


def converted(bridge, image: Image) -> np.ndarray | None:
    """RGB; None where cv_bridge refuses the encoding."""
    try:
        return bridge.imgmsg_to_cv2(image, 'rgb8')
    except (TypeError, KeyError, cv2.error):  # its own error is a TypeError; the package index's build raises KeyError
        return None


@pytest.mark.parametrize('encoding', sorted(OF_CV_BRIDGE))
def test_the_decoder_gives_what_cv_bridge_gives(bridge, is_of_the_index, encoding):
    """Colours that differ from those of every other node on the robot."""
    image = message(encoding)
    expected = converted(bridge, image)
    assert (expected is None) == (is_of_the_index and encoding in GAPS_OF_THE_INDEX)
    if expected is None:
        return
    # 16 bits: rounded in another order of steps
    np.testing.assert_allclose(decode(image).astype(int), expected, atol=1 if encoding.endswith('16') else 0)


@pytest.mark.parametrize('encoding', sorted(set(ENCODINGS) - OF_CV_BRIDGE))
def test_cv_bridge_has_no_other_encodings(bridge, encoding):
    """They are decoded by our own code alone; where a later cv_bridge has them, the test above is to compare them."""
    assert converted(bridge, message(encoding)) is None


def test_the_decoder_lacks_nothing_that_cv_bridge_has(bridge):
    """So cv_bridge decodes nothing, and replay and training, which run without ROS, decode what the live node does."""
    assert set(ENCODINGS) > OF_CV_BRIDGE
    for encoding in ('32FC1', '64FC3', '8SC3', '16SC1', '32SC1', '8UC2', '16UC2'):
        assert converted(bridge, Image(height=1, width=1, encoding=encoding, step=24, data=bytes(24))) is None


@pytest.mark.parametrize('encoding', ('rgb8', 'bgr8'))
def test_messages_with_and_without_cv_bridge_are_equal(monkeypatch, encoding):
    """Also of an image whose rows do not follow one another in memory."""
    image = RNG.integers(0, 256, (HEIGHT, 2 * WIDTH, 3), np.uint8)[:, ::2]
    header = Header(frame_id='finger')
    got = image_message(image, header, encoding)
    monkeypatch.setattr(messages, '_cv_bridge', lambda: None)
    assert got == image_message(image, header, encoding)
    assert (got.header.frame_id, got.encoding, got.step) == ('finger', encoding, 3 * WIDTH)
    np.testing.assert_array_equal(decode(got), image if encoding == 'rgb8' else image[:, :, ::-1])


def test_cv_bridge_makes_the_messages(bridge, is_of_the_index):
    """Unless numpy has lost what the package index's build calls."""
    works = hasattr(np.ndarray, 'tostring') or not is_of_the_index
    assert (messages._cv_bridge() is not None) == works


@pytest.mark.parametrize('broken', ('raise ImportError("numpy.core.multiarray failed to import")',
                                    'class CvBridge:\n    def cv2_to_imgmsg(self, image, encoding):\n'
                                    '        raise AttributeError("tostring")'), ids=('import', 'numpy'))
def test_a_cv_bridge_that_does_not_work(tmp_path, broken):
    """Compiled for another numpy, or too old for it: the simulated sensor must publish all the same."""
    (tmp_path / 'cv_bridge.py').write_text(broken + '\n')
    code = ('import sys, numpy as np\n'
            f'sys.path.insert(0, {str(tmp_path)!r})\n'
            'from std_msgs.msg import Header\n'
            'from vit_tactile_ros.ros.messages import image_message\n'
            'assert "cv_bridge" not in sys.modules, "imported at start-up"\n'
            'assert image_message(np.zeros((2, 4, 3), np.uint8), Header()).step == 12\n')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

