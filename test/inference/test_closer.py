"""Looking closer at a small contact: one part of the image, whoever asks."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from toy_touches import write_csv

from vit_tactile_ros.data.frames import TouchFrames
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.closer import ZOOMS, find_spot, look_closer
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.model import PreprocessingConfig, load_checkpoint, shipped_checkpoint
from vit_tactile_ros.simulator import GELSIGHT, Contact, SensorUnit

PLAIN = PreprocessingConfig(image_size=(96, 128), reference='difference', orientation='match', crop='center')
ZOOMED = dataclasses.replace(PLAIN, zoom_below=0.05)


def gel(height=480, width=640):
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([100 + 30 * x, 110 + 20 * y, 120 - 20 * x], axis=2).astype(np.uint8)


def pressed(radius, at=(150, 420), height=480, width=640, strength=60.0):
    """A bright bump of this radius, px, on the gel."""
    y, x = np.mgrid[:height, :width]
    bump = strength * np.exp(-((y - at[0])**2 + (x - at[1])**2) / (2 * radius**2))
    return np.clip(gel(height, width) + bump[..., None], 0, 255).astype(np.uint8)


def closer_of(image, config=ZOOMED, reference=None):
    still = fit(gel(*image.shape[:2]), config) if reference is None else reference
    return look_closer(image, fit(image, config), still, config)


def test_a_small_contact_is_enlarged_and_a_large_one_is_not():
    small, large = closer_of(pressed(10)), closer_of(pressed(60))
    assert large is None and small is not None and small.zoom == 4.0
    assert small.image.shape == small.reference.shape == (96, 128, 3)
    assert small.image.dtype == small.reference.dtype == np.uint8
    # The part of the camera's image itself, not of the fitted one, with the contact in its middle.
    top, left, height, width = (round(share * side) for share, side in zip(small.box, (480, 640, 480, 640)))
    assert (height, width) == (120, 160) and abs(top - 90) <= 3 and abs(left - 340) <= 3
    np.testing.assert_array_equal(small.image, cv2.resize(pressed(10)[top:top + 120, left:left + 160], (128, 96),
                                                          interpolation=cv2.INTER_AREA))
    difference = small.image.astype(float) - small.reference
    y, x = np.unravel_index(difference.sum(axis=2).argmax(), (96, 128))
    assert abs(y - 48) <= 2 and abs(x - 64) <= 2
    assert np.abs(difference[:8]).max() <= 2  # beside the contact, the reference fits


def test_the_part_is_inside_the_image():
    corner = closer_of(pressed(24, at=(3, 636)))
    assert corner.box[0] == 0 and corner.box[1] + corner.box[3] == 1


@pytest.mark.parametrize(('shape', 'most'), [
    ((480, 640), 4.0), ((240, 320), 2.0), ((150, 200), 1.5), ((120, 160), None)])
def test_a_part_has_at_least_as_many_px_as_the_input(shape, most):
    """Enlarging what a small camera image does not show adds nothing, and the network was not measured on it."""
    scale = shape[0] / 480
    found = closer_of(pressed(28 * scale, (150 * scale, 420 * scale), *shape))
    assert (found.zoom if found else None) == most and (most is None or most in ZOOMS)


def test_a_speck_stays_as_it_is():
    """A glint enlarged to what is still smaller than any contact of the training: tissue became no_contact."""
    assert closer_of(pressed(1.5)) is None


@pytest.mark.parametrize(('radius', 'scale', 'most'), [(6, 1, 4.0), (10, 150 / 480, 1.5)])
def test_a_spot_that_no_zoom_makes_large_enough(radius, scale, most):
    """A part in which the contact is still smaller than any of the training: even 4 times larger, or as far as the
    camera's image allows."""
    image = pressed(radius * scale, (150 * scale, 420 * scale), round(480 * scale), round(640 * scale))
    spot = find_spot(fit(image, ZOOMED), fit(gel(*image.shape[:2]), ZOOMED))
    assert spot is not None and 0.4 * ZOOMED.zoom_below < most * spot.spread < ZOOMED.zoom_below
    assert closer_of(image) is None


def test_noise_light_and_faint_contacts_are_no_spots():
    """A grain of noise enlarged four times: an untouched gel would become a touch."""
    rng, still = np.random.default_rng(0), fit(gel(), PLAIN)
    noisy = np.clip(still + rng.normal(0, 4, still.shape), 0, 255).astype(np.uint8)
    assert find_spot(noisy, still) is None
    assert find_spot(still + np.uint8(30), still) is None
    assert closer_of(pressed(10, strength=10.0)) is None


def test_off_is_off():
    assert closer_of(pressed(10), PLAIN) is None
    with pytest.raises(UserError, match='zoom_below is 0.05; must be 0 for an input without a reference'):
        dataclasses.replace(ZOOMED, reference='none')
    with pytest.raises(UserError, match='0 for an input with motion'):
        dataclasses.replace(ZOOMED, motion_interval=0.08)
    with pytest.raises(ValueError, match='fitted is'):
        look_closer(gel(), gel(), gel(), ZOOMED)


def message(image):
    from types import SimpleNamespace
    return SimpleNamespace(height=len(image), width=image.shape[1], encoding='bgr8', is_bigendian=0,
                           step=image.shape[1] * 3, data=np.ascontiguousarray(image[:, :, ::-1]).tobytes())


@pytest.mark.parametrize('cache', [True, False])
@pytest.mark.parametrize('is_portrait', [False, True])
def test_live_and_training_see_the_same(tmp_path, cache, is_portrait):
    """A part of its own in each path: a network would be trained on other inputs than it gets."""
    images = {'small.png': pressed(10), 'large.png': pressed(60), 'r.png': gel()}
    if is_portrait:
        images = {name: np.ascontiguousarray(np.rot90(image, -1)) for name, image in images.items()}
    table = load_touches(write_csv(tmp_path / 'labels.csv', [
        {'image': name, 'label': name, 'reference': 'r.png'} for name in ('small.png', 'large.png')]))
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / name), image[:, :, ::-1])
    offline = TouchFrames(table, ZOOMED, cache)
    sensor = SensorFrames(Reference(fixed=fit(images['r.png'], ZOOMED)), ZOOMED, drift=0)
    for index, name in enumerate(('small.png', 'large.png')):
        live = sensor.update(message(images[name]), index)
        frame, reference, _ = offline[index]
        np.testing.assert_array_equal(frame.numpy(), live.image)
        np.testing.assert_array_equal(reference.numpy(), live.reference)
        assert (live.closer is not None) == (name == 'small.png')
        np.testing.assert_array_equal(live.whole_image, fit(images[name], ZOOMED))


def test_simulated_touches_are_enlarged_as_images_are(monkeypatch):
    rng = np.random.default_rng(1)
    config = dataclasses.replace(GELSIGHT, height=480, width=640, mm_per_px=GELSIGHT.mm_per_px / 2, markers=None)
    unit = SensorUnit(config, rng)
    image, still = unit.render(Contact('sphere', 1.0, radius_mm=0.4), rng), unit.reference
    monkeypatch.setattr('vit_tactile_ros.data.simulated.sample_example', lambda *_, **__: (image, still, 1))
    frame, reference, _ = SimulatedTouches(1, ZOOMED)[0]
    wanted = look_closer(image, fit(image, ZOOMED), fit(still, ZOOMED), ZOOMED)
    assert wanted is not None
    np.testing.assert_array_equal(frame.numpy(), wanted.image)
    np.testing.assert_array_equal(reference.numpy(), wanted.reference)


def test_motion_still_starts_from_the_shipped_shapes():
    """train --task states --init shipped refused: the input has motion, which the part around a contact has not."""
    from vit_tactile_ros.training.datasets import choose_preprocessing
    shipped = load_checkpoint(shipped_checkpoint())
    asked = dataclasses.replace(shipped, preprocessing=dataclasses.replace(shipped.preprocessing, zoom_below=0.05))
    found = choose_preprocessing(None, (96, 128), 'auto', asked, motion=0.08)
    assert found.motion_interval == 0.08 and found.zoom_below == 0
    assert choose_preprocessing(None, (96, 128), 'auto', asked).zoom_below == 0.05
    assert choose_preprocessing(None, (96, 128), 'auto', asked, zoom_below=0.0).zoom_below == 0
