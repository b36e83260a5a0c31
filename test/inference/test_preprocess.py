"""A frame to the network's input, against the formulas of the checkpoint's description."""

import dataclasses

import cv2
import numpy as np
import pytest

from vit_tactile_ros.inference.preprocess import fit, normalise
from vit_tactile_ros.model import PreprocessingConfig


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def slow_input(image: np.ndarray, reference: np.ndarray | None, settings: PreprocessingConfig) -> np.ndarray:
    """What `fit` and `normalise` must give, one plain step after the other on copies of the whole frame."""
    height, width = settings.image_size

    def fitted(picture):
        picture = np.array(picture)
        if settings.orientation == 'match' and (picture.shape[0] - picture.shape[1]) * (height - width) < 0:
            picture = np.array(np.rot90(picture))
        if settings.crop == 'center':
            rows = min(picture.shape[0], max(1, round(picture.shape[1] * height / width)))
            columns = min(picture.shape[1], max(1, round(picture.shape[0] * width / height)))
            top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
            picture = np.array(picture[top:top + rows, left:left + columns])
        shrinks = picture.shape[0] >= height and picture.shape[1] >= width
        return cv2.resize(picture, (width, height),
                          interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR).astype(np.float32)

    values = fitted(image)
    if settings.reference == 'difference':
        values = np.clip(values - fitted(reference) + 127.5, 0, 255)
    values = (values / 255 - np.array(settings.mean)) / np.array(settings.std)
    return values.transpose(2, 0, 1)


def config(height: int, width: int, **changes) -> PreprocessingConfig:
    return PreprocessingConfig(image_size=(height, width), **changes)


def test_a_frame_of_the_right_size_is_left_alone():
    """A resize by one to one that blurs, or a turn or crop that nobody asked for."""
    image = frame(24, 32)
    for orientation in ('as_is', 'match'):
        for crop in ('none', 'center'):
            np.testing.assert_array_equal(fit(image, config(24, 32, orientation=orientation, crop=crop)), image)


@pytest.mark.parametrize('size', ((48, 64), (24, 32), (16, 16), (100, 30), (17, 200)))
@pytest.mark.parametrize('orientation', ('as_is', 'match'))
@pytest.mark.parametrize('crop', ('none', 'center'))
def test_any_frame_is_fitted(size, orientation, crop):
    """A size for which height and width are mixed up, or rounding that brings another size."""
    fitted = fit(frame(*size), config(24, 32, orientation=orientation, crop=crop))
    assert fitted.shape == (24, 32, 3) and fitted.dtype == np.uint8 and fitted.flags.c_contiguous
    flat = fit(np.full((*size, 3), 77, np.uint8), config(24, 32, orientation=orientation, crop=crop))
    assert (flat == 77).all()


def test_shrinking_averages():
    """Shrinking that picks single pixels: noise and markers would flicker from frame to frame."""
    image = frame(48, 64)
    blocks = image.reshape(24, 2, 32, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(fit(image, config(24, 32)) - blocks).max() <= 0.51


def test_a_portrait_frame_is_turned_to_match():
    """A DIGIT mounted upright shown to the network lying down: it must be turned, not squashed nor mirrored."""
    image = frame(32, 24)
    wanted = np.stack([image[:, 23 - row] for row in range(24)])  # 90 degrees counter-clockwise
    np.testing.assert_array_equal(fit(image, config(24, 32, orientation='match')), wanted)
    assert not np.array_equal(fit(image, config(24, 32)), wanted)
    assert fit(image, config(24, 32)).shape == (24, 32, 3)


@pytest.mark.parametrize(('size', 'wanted'), (((24, 24), (24, 32)), ((24, 32), (24, 24)), ((20, 30), (24, 32))))
def test_a_frame_that_matches_is_not_turned(size, wanted):
    """A square frame or input has no long side: turning it would depend on nothing but chance."""
    image = frame(*size)
    np.testing.assert_array_equal(fit(image, config(*wanted, orientation='match')), fit(image, config(*wanted)))


def test_center_crop_takes_the_middle():
    """A crop from the corner, or of the wrong aspect ratio, which squashes the touch."""
    wide, tall = frame(24, 40), frame(36, 32)
    np.testing.assert_array_equal(fit(wide, config(24, 32, crop='center')), wide[:, 4:36])
    np.testing.assert_array_equal(fit(tall, config(24, 32, crop='center')), tall[6:30])
    assert not np.array_equal(fit(wide, config(24, 32)), wide[:, 4:36])


def test_turn_comes_before_crop():
    """A portrait frame cropped to landscape first, which leaves a third of it."""
    image = frame(40, 24)
    np.testing.assert_array_equal(fit(image, config(24, 32, orientation='match', crop='center')),
                                  np.rot90(image)[:, 4:36])


def test_fitting_leaves_the_frame_alone():
    """A frame that is also a message's memory must not be written to."""
    image = frame(40, 24)
    image.setflags(write=False)
    before = image.copy()
    settings = config(24, 32, orientation='match', crop='center', reference='difference')
    normalise(fit(image, settings), fit(image, settings), settings)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize('image', (
    frame(24, 32).astype(np.float32), frame(24, 32)[:, :, 0], frame(24, 32)[:, :, :2], frame(24, 32)[None],
    np.zeros((0, 32, 3), np.uint8), np.zeros((24, 0, 3), np.uint8), frame(24, 32).astype(np.uint16),
), ids=lambda image: f'{image.dtype}{image.shape}')
def test_what_is_no_frame_is_refused(image):
    """Floats in 0..1 or a grey image, which would go through and mean something else."""
    with pytest.raises(ValueError, match=r'must be uint8 \(H, W, 3\)'):
        fit(image, config(24, 32))


def test_normalise_is_the_formula():
    """Mean and standard deviation in grey levels or in the wrong channel, or channels left last."""
    image = frame(24, 32)
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    got = normalise(image, None, config(24, 32, mean=mean, std=std))
    wanted = ((image / 255.0 - mean) / std).transpose(2, 0, 1)
    assert got.shape == (3, 24, 32) and got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize('kind', (np.uint8, np.float32, np.float64))
def test_difference_is_the_formula_and_does_not_wrap(kind):
    """uint8 minus uint8 wraps: a slightly darker pixel becomes the brightest."""
    image, reference = frame(24, 32), frame(24, 32, seed=1).astype(kind)
    settings = config(24, 32, reference='difference', mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    difference = np.clip((image.astype(float) - reference.astype(float)) / 255 + 0.5, 0, 1)
    wanted = ((difference - (0.4, 0.5, 0.6)) / (0.1, 0.2, 0.3)).transpose(2, 0, 1)
    before = reference.copy()
    np.testing.assert_allclose(normalise(image, reference, settings), wanted, atol=1e-5)
    np.testing.assert_array_equal(reference, before)


def test_no_contact_is_the_middle_of_the_range():
    """A frame equal to its reference must be exactly neutral, whatever the image."""
    image = frame(24, 32)
    values = normalise(image, image, config(24, 32, reference='difference'))
    np.testing.assert_allclose(values, 0, atol=1e-6)


@pytest.mark.parametrize('reference', (None, frame(32, 24), frame(24, 31), frame(24, 32)[:, :, 0], frame(1, 1)))
def test_a_missing_or_misshaped_reference_is_refused(reference):
    """A checkpoint that needs a reference run without one, or numpy broadcasting a wrong one."""
    with pytest.raises(ValueError, match=r'reference is .* needs a no-contact reference of \(24, 32, 3\)'):
        normalise(frame(24, 32), reference, config(24, 32, reference='difference'))


def test_a_reference_is_ignored_where_none_is_used():
    """A checkpoint trained on whole images given differences."""
    image = frame(24, 32)
    np.testing.assert_array_equal(normalise(image, frame(24, 32, seed=1), config(24, 32)),
                                  normalise(image, None, config(24, 32)))


@pytest.mark.parametrize('image', (frame(48, 64), frame(32, 24), frame(24, 32)[:, :, 0]))
def test_a_frame_that_was_not_fitted_is_refused(image):
    """A raw frame given to the network: it takes any multiple of 16, but was trained on one size."""
    with pytest.raises(ValueError, match=r'frame is .*must be fitted to \(24, 32, 3\)'):
        normalise(image, None, config(24, 32))


@pytest.mark.parametrize('reference', ('difference', 'none'))
@pytest.mark.parametrize('crop', ('center', 'none'))
@pytest.mark.parametrize('layout', ('plain', 'backwards', 'gaps', 'backwards with gaps'))
@pytest.mark.parametrize('size', ((240, 320), (320, 240), (480, 640), (96, 128), (128, 96), (60, 50)))
def test_the_fast_way_is_the_slow_way(size, layout, crop, reference):
    """A turn, crop or exchange of channels put elsewhere for speed that changes the input.

    The tolerance is that of float32: grey levels are the same to the last bit, values within 2e-6 of up to 5.
    """
    settings = config(96, 128, orientation='match', crop=crop, reference=reference, mean=(0.4, 0.5, 0.6),
                      std=(0.1, 0.12, 0.15))
    seen = [frame(*size), frame(*size, seed=1)]
    if 'gaps' in layout:
        seen = [np.concatenate((picture, np.full((size[0], 7, 3), 255, np.uint8)), axis=1)[:, :-7] for picture in seen]
    if 'backwards' in layout:
        seen = [np.array(picture[:, :, ::-1])[:, :, ::-1] for picture in seen]
        assert seen[0].strides[2] < 0
    image, empty = seen
    fitted = [fit(picture, settings) for picture in seen]
    assert all(picture.flags.c_contiguous for picture in fitted)
    got = normalise(*fitted, settings)
    np.testing.assert_allclose(got, slow_input(image, empty, settings), rtol=0, atol=2e-6)


def test_normalise_into_a_place():
    """An input written beside its place in the batch, or a reference that is laid out otherwise taken for another."""
    image, empty = frame(24, 32), frame(24, 32, seed=1).astype(np.float32)
    settings = config(24, 32, reference='difference', mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    batch = np.full((3, 3, 24, 32), np.nan, np.float32)
    planar = np.ascontiguousarray(empty.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert normalise(image, planar, settings, batch[1]).base is not None
    assert np.isnan(batch[0]).all() and np.isnan(batch[2]).all()
    np.testing.assert_array_equal(batch[1], normalise(image, empty, settings))


@pytest.mark.parametrize(('reference', 'views'), (('difference', 1), ('none', 1), ('difference', 3)))
def test_motion_is_the_formula_in_three_more_channels(reference, views):
    """The motion from the wrong image, wrapped, scaled as the difference to the reference, or in the colours' place."""
    image, empty, *previous = (frame(24, 32, seed=i) for i in range(2 + views))
    previous = np.concatenate(previous, axis=2)
    settings = config(24, 32, reference=reference, motion_interval=0.08, motion_views=views, motion_std=0.05)
    batch = np.full((2, 3 + 3 * views, 24, 32), np.nan, np.float32)
    got = normalise(image, empty, settings, batch[1], previous)
    still = dataclasses.replace(settings, motion_interval=0.0)
    np.testing.assert_array_equal(got[:3], normalise(image, empty, still))
    wanted = (np.clip((np.tile(image.astype(float), views) - previous) / 255 + 0.5, 0, 1) - 0.5) / 0.05
    np.testing.assert_allclose(batch[1, 3:], wanted.transpose(2, 0, 1), atol=1e-4)
    assert np.isnan(batch[0]).all()
    assert not normalise(image, empty, settings, previous=np.tile(image, views))[3:].any()


@pytest.mark.parametrize('previous', (None, frame(24, 31), np.empty((24, 32, 0), np.uint8),
                                      np.zeros((24, 32, 6), np.uint8)))
def test_a_missing_image_before_is_refused(previous):
    """A checkpoint with motion whose motion is always 0."""
    with pytest.raises(ValueError, match=r'previous is .* needs earlier frames of \(24, 32, 3\)'):
        normalise(frame(24, 32), None, config(24, 32, motion_interval=0.08), previous=previous)
