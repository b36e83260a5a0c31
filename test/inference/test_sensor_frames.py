"""The images of one sensor: what carries over from image to image, and what is reported about them."""

import array
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from toy_touches import picture

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.frames import SensorFrames, sensor_frames
from vit_tactile_ros.inference.image_header import DecodeError
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.model import PreprocessingConfig

CONFIG = PreprocessingConfig(image_size=(24, 32), reference='difference')


def message(pixels: np.ndarray, encoding: str = 'rgb8') -> SimpleNamespace:
    height, width = pixels.shape[:2]
    return SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=0,
                           step=pixels.size // height, data=array.array('B', pixels.tobytes()))


def some_frames(num_frames: int = 2, fixed: np.ndarray | None = None, config: PreprocessingConfig | None = CONFIG,
                expects_grey: bool = False) -> SensorFrames:
    return SensorFrames(Reference(num_frames, fixed), config, expects_grey)


def causes(frame) -> list[str]:
    return [note.cause for note in frame.notes]


def test_the_reference_is_captured_from_the_first_images():
    """Frames are classified from the first one on, with the mean so far."""
    frames = some_frames(num_frames=2)
    first = frames.update(message(picture(1, 48, 64)), 11)
    assert first.stamp_ns == 11 and causes(first) == []
    np.testing.assert_array_equal(first.image, fit(picture(1, 48, 64), CONFIG))
    np.testing.assert_array_equal(first.reference, first.image)
    second = frames.update(message(picture(2, 48, 64)), 12)
    np.testing.assert_array_equal(second.reference, (first.image.astype(np.float32) + second.image) / 2)
    assert [(note.text, note.is_warning) for note in second.notes] == [
        ('no-contact reference captured from 2 frames', False)]
    third = frames.update(message(picture(3, 48, 64)), 13)
    assert third.reference is second.reference and causes(third) == []


def test_another_resolution_captures_the_reference_again():
    """A reference of another view subtracted for good, without a word."""
    frames = some_frames(num_frames=1)
    assert causes(frames.update(message(picture(1)), 1)) == ['reference']
    changed = frames.update(message(picture(2, 48, 64)), 2)
    assert causes(changed) == ['resolution', 'reference'] and frames.resolution_changes == 1
    assert changed.notes[0].text == ('resolution changed from 32x24 to 64x48; its no-contact reference is captured '
                                     'again from the next frames: touch nothing')
    np.testing.assert_array_equal(changed.reference, changed.image)


@pytest.mark.parametrize('is_fixed', (True, False))
def test_a_resolution_whose_reference_stays(is_fixed):
    """An image of the gel that the user gave, or a network without a reference."""
    fixed = picture(9) if is_fixed else None
    config = CONFIG if is_fixed else PreprocessingConfig(image_size=(24, 32), reference='none')
    frames = some_frames(1, fixed, config)
    frames.update(message(picture(1)), 1)
    frame = frames.update(message(picture(2, 48, 64)), 2)
    assert [note.text for note in frame.notes] == ['resolution changed from 32x24 to 64x48']
    if is_fixed:
        np.testing.assert_array_equal(frame.reference, fixed)
    else:
        assert frame.reference is None


def test_recapture_on_request():
    """It replaces a fixed image too, and waits for the next image."""
    frames = some_frames(1, picture(9))
    frames.request_recapture()
    assert frames.reference.is_fixed
    frame = frames.update(message(picture(1)), 1)
    assert causes(frame) == ['reference'] and not frames.reference.is_fixed
    np.testing.assert_array_equal(frame.reference, picture(1))


def test_an_image_that_cannot_be_decoded_changes_nothing():
    """A damaged image as the first of the reference, or as a change of resolution."""
    frames = some_frames(2)
    with pytest.raises(DecodeError):
        frames.update(message(picture(1, 48, 64), 'none'), 1)
    assert frames.images == 0 and frames.shortage == ''
    assert causes(frames.update(message(picture(1)), 2)) == []
    assert frames.reference.gathered == 1


def test_too_few_images_for_the_reference():
    frames = some_frames(3)
    frames.update(message(picture(1)), 1)
    assert frames.shortage.startswith('has 1 usable images, fewer than the 3 of its no-contact reference')
    for number in (2, 3):
        frames.update(message(picture(number)), number)
    assert frames.shortage == ''


def test_grey_images_are_counted_and_noted():
    """And not those that are too dark to tell, nor for a network that was trained on grey images."""
    grey, dark = np.full((24, 32), 90, np.uint8), np.zeros((24, 32), np.uint8)
    frames = some_frames()
    frame = frames.update(message(grey, 'mono8'), 1)
    assert causes(frame) == ['grey'] and frame.notes[0].is_lasting
    assert 'grey' not in causes(frames.update(message(dark, 'mono8'), 2))
    assert (frames.grey_images, frames.is_grey) == (1, True)
    frames.update(message(picture(1)), 3)
    assert (frames.grey_images, frames.is_grey) == (1, False)
    expecting = some_frames(expects_grey=True)
    assert causes(expecting.update(message(grey, 'mono8'), 1)) == [] and expecting.grey_images == 0


def test_an_undefined_order_of_colours_is_noted():
    frame = some_frames(5).update(message(picture(1), '8UC3'), 1)
    assert [(note.text, note.is_lasting) for note in frame.notes] == [
        ('encoding 8UC3 does not define its colour order; read as BGR', True)]


def test_images_can_keep_their_size():
    """Extraction writes images and references as they were recorded."""
    frames = some_frames(1, config=None)
    frame = frames.update(message(picture(1, 48, 64)), 1)
    np.testing.assert_array_equal(frame.image, picture(1, 48, 64))
    np.testing.assert_array_equal(frame.reference, picture(1, 48, 64))


def test_reference_files_by_sensor():
    assert list(sensor_frames(['left', 'right'], [''], 5, CONFIG, False)) == ['left', 'right']
    with pytest.raises(UserError, match='reference_files has 1 entries'):
        sensor_frames(['left', 'right'], ['gel.png'], 5, CONFIG, False)


MOTION = dataclasses.replace(CONFIG, motion_interval=0.08)
MS = 1_000_000


def test_without_motion_there_is_no_image_before():
    """Images kept for a network that has no use for them."""
    frames = some_frames()
    assert [frames.update(message(picture(i)), i * 40 * MS).previous for i in range(3)] == [None] * 3


def test_the_image_before_is_fitted():
    """It is of this network's size, from the stamps; a reference that is captured again leaves it as it is."""
    frames = some_frames(1, config=MOTION)
    for number in range(4):
        if number == 3:
            frames.request_recapture()
        frame = frames.update(message(picture(number, 48, 64)), number * 40 * MS)
        np.testing.assert_array_equal(frame.previous, fit(picture(max(0, number - 2), 48, 64), MOTION))
    assert frames.motion_gaps == 0


def test_motion_starts_again():
    """An image of another view, or from before a gap, taken for motion."""
    frames = some_frames(1, picture(9), config=MOTION)
    frames.update(message(picture(1)), 0)
    texts = []
    for pixels, stamp, cause in ((picture(2, 48, 64), 40, 'resolution'), (picture(3, 48, 64), 400, 'motion'),
                                 (picture(4, 48, 64), 300, 'motion')):
        frame = frames.update(message(pixels), stamp * MS)
        assert frame.previous is frame.image and causes(frame) == [cause]
        texts.append(frame.notes[0].text)
    assert frames.motion_gaps == 2
    assert texts[1] == ('the last image was 0.36 s ago by its stamp, at most 0.20 s are allowed (5 Hz): the camera is '
                        'slower, images were lost, or the node lags (see superseded in /diagnostics); the motion of '
                        'this image is taken as zero')
    assert texts[2] == 'the stamp went back by 0.10 s; the motion of this image is taken as zero'


def test_a_broken_image_is_not_the_one_before():
    frames = some_frames(1, config=MOTION)
    frames.update(message(picture(0)), 0)
    with pytest.raises(DecodeError):
        frames.update(message(picture(1), 'none'), 40 * MS)
    np.testing.assert_array_equal(frames.update(message(picture(2)), 120 * MS).previous, picture(0))


def test_another_network_keeps_the_reference():
    """A checkpoint reloaded with another scale or with motion, in a grasp, whose images became the reference."""
    frames = some_frames(num_frames=2)
    for number in (1, 1):
        frames.update(message(picture(number, 48, 64)), number)
    fresh = some_frames(num_frames=2, config=dataclasses.replace(CONFIG, motion_interval=0.08, std=(0.2, 0.2, 0.2)))
    fresh.take_over(frames)
    frame = fresh.update(message(picture(7, 48, 64)), 10**9)
    np.testing.assert_array_equal(frame.reference, fit(picture(1, 48, 64), CONFIG))
    assert fresh.images == 3 and fresh.resolution_changes == 0 and frame.previous is not None


def test_another_network_does_not_store_what_nobody_asked_for(tmp_path):
    """A reference captured because the resolution changed, stored after a reload in place of the good one."""
    first, second = (some_frames(num_frames=2) for _ in range(2))
    for frames in (first, second):
        frames.keep_in(tmp_path / 'reference.npz')
    stamp = 0
    for size in ((48, 64), (24, 32)):
        for _ in range(40):
            stamp += 10**8
            first.update(message(picture(1, *size)), stamp)
    second.take_over(first)
    second.save_reference()
    assert not (tmp_path / 'reference.npz').exists()
    second.request_recapture()
    for _ in range(40):
        stamp += 10**8
        second.update(message(picture(1, 24, 32)), stamp)
    second.save_reference()
    assert (tmp_path / 'reference.npz').exists()
