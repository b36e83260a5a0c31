"""Units whose images a generator draws: depth, reference, noise, and examples made of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toy_generator import plain_generator

from vit_tactile_ros.data import rendered, simulated
from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import Contact
from vit_tactile_ros.simulator.generated import (
    FRAME_NOISE,
    PRESS_MM,
    ContactNotShown,
    GeneratedUnit,
    generated_config,
    power_field,
    press_depth,
)

PREPROCESSING = PreprocessingConfig(image_size=(48, 64), reference='difference')
BALL = Contact('sphere', 0.8, x_mm=3.0, y_mm=-2.0, radius_mm=2.0)


def make_unit(seed=0, generator=plain_generator, **settings):
    return GeneratedUnit(generated_config(), np.random.default_rng(seed), generator=generator, **settings)


def test_the_depth_is_true_to_scale_behind_the_foremost_point():
    depth = press_depth(np.array([[0.4, 0.3, 0.0, -0.1, -1.0]], np.float32))
    np.testing.assert_allclose(depth, [[1, 1 - 0.1 / PRESS_MM, 1 - 0.4 / PRESS_MM, 1 - 0.8 / PRESS_MM, 0]], atol=1e-6)
    assert not press_depth(np.full((2, 2), -0.1, np.float32)).any()


def test_a_deep_contact_is_flattened_to_what_the_generator_shows():
    depth = press_depth(np.array([[1.0, 0.5, 0.0]], np.float32))
    np.testing.assert_allclose(depth, [[1, 1 - 0.25 / PRESS_MM, 1 - 0.5 / PRESS_MM]], atol=1e-6)


def test_touch_and_reference_differ_where_the_contact_is_and_nowhere_else():
    """A reference of another unit would differ everywhere, by the pattern and the offset."""
    unit = make_unit()
    change = unit.render(BALL, np.random.default_rng(1)).astype(float) - unit.reference
    assert change.shape == (240, 320, 3)
    row, column = np.unravel_index(change.sum(axis=2).argmax(), change.shape[:2])
    assert abs((column - unit.centre_px[0]) * unit.mm_per_px - BALL.x_mm) < 1.2
    assert abs((row - unit.centre_px[1]) * unit.mm_per_px - BALL.y_mm) < 1.2
    assert change.max() > 50
    far = np.hypot(unit.x_mm - BALL.x_mm, unit.y_mm - BALL.y_mm) > 3
    assert abs(change[far].mean()) < 0.2
    assert change[far].std() < 3 * np.sqrt(2) * 255 * FRAME_NOISE


def test_units_differ_and_a_nominal_one_is_the_picture_of_the_generator():
    a, b, nominal = make_unit(0), make_unit(1), make_unit(0, variation=0)
    assert np.abs(a.background - b.background).mean() > 1
    np.testing.assert_allclose(nominal.background, 100, atol=1e-3)


def test_frame_noise_is_new_in_each_frame_and_as_strong_as_measured():
    unit, rng = make_unit(), np.random.default_rng(2)
    images = np.stack([unit.render(None, rng).astype(float) for _ in range(12)])
    loud = GeneratedUnit(dataclasses.replace(generated_config(), noise=2.5), rng, generator=plain_generator)
    assert loud.noise == 255 * FRAME_NOISE  # training draws the noise of the simulator's cameras at random
    assert 0.7 * 255 * FRAME_NOISE < images.std(axis=0).mean() < 1.5 * 255 * FRAME_NOISE  # rounding adds 0.3


def test_a_field_has_unit_variance_and_alike_channels():
    fields = np.stack([power_field((60, 80), 1.4, np.random.default_rng(seed)) for seed in range(20)])
    assert np.abs(fields.std(axis=(2, 3)) - 1).max() < 0.4
    correlation = [np.corrcoef(field.reshape(3, -1))[0, 1] for field in fields]
    assert abs(np.mean(correlation) - 0.3) < 0.1


def test_a_contact_that_the_generator_does_not_show_is_refused():
    """It would be an untouched image labelled as a touch."""
    unit = make_unit(generator=lambda depth: np.full((256, 256, 3), 100, np.float32))
    with pytest.raises(ContactNotShown, match='sphere changes by 0.0 grey levels'):
        unit.render(BALL, np.random.default_rng(0))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(simulated, 'picture_generator', lambda: plain_generator)
    monkeypatch.setattr(rendered, 'generator_key', lambda: 'toy')


def test_the_share_of_the_examples_is_generated_and_the_others_stay_the_same(toy, monkeypatch):
    units = []
    monkeypatch.setattr(simulated, 'GeneratedUnit', lambda *a, **k: units.append(1) or GeneratedUnit(*a, **k))
    plain, mixed = ([*SimulatedTouches(24, PREPROCESSING, 3, generated=share)] for share in (0.0, 0.25))
    changed = [i for i in range(24) if not (plain[i][0] == mixed[i][0]).all()]
    assert len(changed) == len(units)
    assert 2 <= len(units) <= 12
    assert [one[2] for one in plain] == [one[2] for one in mixed]
    again = SimulatedTouches(24, PREPROCESSING, 3, generated=0.25)[changed[0]]
    assert (again[0] == mixed[changed[0]][0]).all()


def test_a_contact_that_is_never_shown_comes_from_the_simulator(monkeypatch):
    flat = np.full((256, 256, 3), 100, np.float32)
    monkeypatch.setattr(simulated, 'picture_generator', lambda: lambda depth: flat)
    frame, reference, label = next(one for one in SimulatedTouches(20, PREPROCESSING, 3, generated=1.0) if one[2])
    assert np.abs(frame.numpy().astype(float) - reference.numpy()).max() > 5


def test_rendered_touches_are_kept_apart_by_their_share(toy, tmp_path, monkeypatch):
    touches = SimulatedTouches(2, PREPROCESSING, 3, generated=1.0)
    path = RenderedTouches(touches, tmp_path).path
    assert path != RenderedTouches(SimulatedTouches(2, PREPROCESSING, 3), tmp_path).path
    monkeypatch.setattr(rendered, 'generator_key', lambda: 'other weights')
    assert path != RenderedTouches(touches, tmp_path).path


def test_states_have_no_generated_images():
    with pytest.raises(DataError, match='generated is 0.5, which is for the tasks shapes'):
        SimulatedTouches(2, dataclasses.replace(PREPROCESSING, reference='none'), task='states', generated=0.5)
