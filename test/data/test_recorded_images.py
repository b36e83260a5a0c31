"""The images of one sensor from a video, a folder and a bag."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from toy_bags import write_bag
from toy_clips import write_clip
from toy_touches import picture

from vit_tactile_ros.data.recorded_images import recorded_images, recorded_topic
from vit_tactile_ros.data.table import DataError


def test_a_video(tmp_path):
    """At its own rate, or at that which is given."""
    clip = write_clip(tmp_path / 'a.avi', 12)
    assert recorded_topic(clip, '/left/image_raw') == ''
    found = list(recorded_images(clip))
    np.testing.assert_allclose([int(one.image.mean()) for one in found], 8 * np.arange(12), atol=3)
    np.testing.assert_allclose([one.seconds for one in found], np.arange(12) / 20)
    assert list(recorded_images(clip, rate=5.0))[5].seconds == pytest.approx(1.0)


def test_a_folder_in_the_order_of_numbers(tmp_path):
    for number in (10, 9, 2):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((24, 32, 3), (number, 0, 200), np.uint8))
    found = list(recorded_images(tmp_path))
    assert [one.image[0, 0].tolist() for one in found] == [[200, 0, n] for n in (2, 9, 10)]
    assert found[1].seconds == pytest.approx(1 / 25)


def test_a_bag(tmp_path):
    """Its times, and only the sensor that is named."""
    bag = write_bag(tmp_path / 'bag', {'left': ['none'] * 4, 'right': ['none'] * 4})
    with pytest.raises(DataError, match='several sensors: /left/image_raw, /right/image_raw; choose one'):
        recorded_topic(bag, '')
    with pytest.raises(DataError, match='no images on /middle'):
        recorded_topic(bag, '/middle')
    found = list(recorded_images(bag, recorded_topic(bag, '/right/image_raw')))
    np.testing.assert_allclose([one.seconds for one in found], np.arange(4) / 10, atol=0.02)
    one = write_bag(tmp_path / 'one', {'left': ['none'] * 4})
    assert recorded_topic(one, '') == '/left/image_raw'
    for number, found_one in enumerate(recorded_images(one, '/left/image_raw')):
        np.testing.assert_array_equal(found_one.image, picture(number))


def test_what_is_none_of_them(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        recorded_topic(tmp_path / 'none', '')
    (tmp_path / 'a.txt').touch()
    with pytest.raises(DataError, match='neither a video'):
        recorded_topic(tmp_path / 'a.txt', '')
    with pytest.raises(DataError, match='has no images'):
        list(recorded_images(tmp_path))
