"""Simulated touches that are told apart by their whole imprint."""

import cv2
import numpy as np
import pytest
import torch

from vit_tactile_ros.data.simulated import IMPRINT_UNTOUCHED_SHARE, TASKS, SimulatedTouches, draw_shape
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import (
    GELSIGHT,
    IMPRINT_NAMES,
    SensorUnit,
    sample_imprint,
    sample_imprint_example,
)
from vit_tactile_ros.simulator.height_map import PX_MM, SIZE
from vit_tactile_ros.simulator.imprints import imprint_map


@pytest.mark.parametrize('name', IMPRINT_NAMES[1:])
def test_every_class_is_a_finite_surface_that_varies_and_is_seen(name):
    one, other = imprint_map(name, 1).copy(), imprint_map(name, 2)
    assert np.isfinite(one).all() and 0.2 < np.ptp(one[100:-100, 100:-100])
    assert np.abs(one - other).max() > 0.02
    rng = np.random.default_rng(3)
    unit = SensorUnit(GELSIGHT, rng, variation=0.0)
    contact = sample_imprint(name, GELSIGHT, rng)
    assert 0.001 < (unit.surface(contact) > 0.1).mean() < 0.95


def test_the_number_of_bumps_is_that_of_the_class():
    for count in range(2, 7):
        tips = imprint_map(f'bumps_{count}', 7) < 0.1
        assert cv2.connectedComponents(tips.astype(np.uint8))[0] - 1 == count


def test_sizes_and_pitches_are_those_of_the_class():
    middle = SIZE // 2
    for name, diameter in (('disc_small', 2.6), ('disc_medium', 4.4), ('disc_large', 7.5)):
        seen = (imprint_map(name, 5)[middle] < 0.4).sum() * PX_MM
        assert seen == pytest.approx(diameter, rel=0.15)
    for name, pitch in (('ridges_fine', 0.8), ('ridges_medium', 1.3), ('ridges_coarse', 2.1)):
        profile = imprint_map(name, 5)[middle - 60:middle + 60, middle]
        crests = ((profile[1:-1] < profile[:-2]) & (profile[1:-1] <= profile[2:])).sum()
        assert crests == pytest.approx(120 * PX_MM / pitch, abs=1.5)


def test_an_unknown_class_is_named():
    with pytest.raises(ValueError, match="class_name is 'lace'; must be one of disc_small"):
        sample_imprint('lace', GELSIGHT, np.random.default_rng(0))


def test_examples_are_a_function_of_seed_and_index_and_units_differ():
    preprocessing = PreprocessingConfig(image_size=(48, 64), reference='difference')
    touches, again = (SimulatedTouches(6, preprocessing, 11, task='imprints') for _ in range(2))
    for index in range(3):
        assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
                   for a, b in zip(touches[index], again[index], strict=True))
    other = SimulatedTouches(6, preprocessing, 1_000_011, task='imprints')
    assert not torch.equal(touches[0][1], other[0][1])
    assert not torch.equal(touches[0][1], touches[1][1])


def test_every_class_is_drawn_equally_often_except_untouched():
    assert TASKS['imprints'] == IMPRINT_NAMES and len(set(IMPRINT_NAMES)) == len(IMPRINT_NAMES) == 52
    drawn = [draw_shape(np.random.default_rng(i), 'imprints') for i in range(3000)]
    counts = np.array([drawn.count(name) for name in IMPRINT_NAMES])
    assert counts[0] / 3000 == pytest.approx(IMPRINT_UNTOUCHED_SHARE, abs=0.03)
    assert counts[1:].min() > 25 and counts[1:].max() < 90


def test_an_example_has_the_index_of_its_class_and_its_reference_has_no_imprint():
    image, reference, label = sample_imprint_example(np.random.default_rng(1), 'H', [GELSIGHT])
    assert label == IMPRINT_NAMES.index('H') and image.shape == reference.shape and image.dtype == np.uint8
    assert np.abs(image.astype(float) - reference).max() > 20
    assert sample_imprint_example(np.random.default_rng(1), 'no_contact', [GELSIGHT])[2] == 0
