"""What a profile does to an image."""

from __future__ import annotations

import numpy as np
import pytest

from vit_tactile_ros.ros.camera.profiles import PROFILES, Profile, prepared, reduction

IMAGE = np.arange(8 * 10 * 3, dtype=np.uint8).reshape(8, 10, 3)


def test_generic_changes_nothing():
    assert np.array_equal(prepared(IMAGE, PROFILES['generic']), IMAGE)


def test_crop_then_rotation():
    """Left, top, right, bottom; then clockwise, as seen in the image."""
    image = prepared(IMAGE, Profile(crop=(0.1, 0.25, 0.2, 0.0), rotation=90))
    assert np.array_equal(image, np.rot90(IMAGE[2:, 1:8], -1))
    assert np.array_equal(prepared(IMAGE, Profile(rotation=180)), IMAGE[::-1, ::-1])


def test_digit_is_turned_as_its_sdk_turns_it():
    """digit-interface transposes, then flips upside down."""
    assert np.array_equal(prepared(IMAGE, PROFILES['digit']), IMAGE.transpose(1, 0, 2)[::-1])


@pytest.mark.parametrize(('width', 'least', 'by'), [
    (3280, 640, 4), (3280, 0, 1), (640, 640, 1), (1279, 640, 1), (1280, 640, 2), (10240, 640, 8), (320, 640, 1)])
def test_reduction(width, least, by):
    assert reduction(width, least) == by


def test_gelsight_mini_is_reduced_and_cropped():
    image = prepared(np.zeros((2464, 3280, 3), np.uint8), PROFILES['gelsight_mini'])
    assert image.shape == (616 - 2 * 92, 820 - 2 * 123, 3)
    assert prepared(np.zeros((240, 320, 3), np.uint8), PROFILES['gelsight_mini']).shape == (168, 224, 3)


@pytest.mark.parametrize('crop', [(0.45, 0.45, 0.45, 0.45), (0.9, 0.9, 0.0, 0.0), (0.0, 0.0, 0.9, 0.9)])
def test_a_crop_keeps_a_pixel(crop):
    """An image of no pixels cannot be rotated or published."""
    for size in range(1, 12):
        image = np.zeros((size, size, 3), np.uint8)
        assert min(prepared(image, Profile(crop=crop, rotation=90)).shape) >= 1
