"""Small contacts: of every class, shown enlarged in training as on a sensor, and nothing else of the task changes."""

import dataclasses

import numpy as np
import pytest
import torch

from vit_tactile_ros.data import simulated
from vit_tactile_ros.data.simulated import TASKS, SimulatedTouches
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.inference.closer import look_closer
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import (
    CLASS_NAMES,
    GELSIGHT,
    UNKNOWN,
    Contact,
    SensorUnit,
    draw_small,
    sample_small_example,
)
from vit_tactile_ros.simulator.sampling import touched_radius
from vit_tactile_ros.simulator.small import BALL_MM, PIECES, sample_small, taut

PREPROCESSING = PreprocessingConfig(image_size=(96, 128), reference='difference', zoom_below=0.05, zoom_to=0.16)
SEED = 3


def test_every_class_is_drawn_and_tips_most_often():
    drawn = [draw_small(np.random.default_rng(i)) for i in range(1500)]
    share = {name: drawn.count(name) / len(drawn) for name in set(drawn)}
    assert set(share) == {*CLASS_NAMES[1:], UNKNOWN}
    assert 0.2 < share[UNKNOWN] < 0.3
    assert share['sphere'] > share['corner'] > 1.4 * max(share[name] for name in ('cylinder', 'edge', 'flat', 'ring'))


@pytest.mark.parametrize('name', [*CLASS_NAMES[1:], UNKNOWN])
def test_contacts_are_small(name):
    """None touches more than three tenths of the view's shorter side, which is 14 mm on this sensor."""
    for seed in range(20):
        config, contact = sample_small(name, GELSIGHT, np.random.default_rng(seed))
        if name == UNKNOWN:
            assert contact.class_name in PIECES
        else:
            assert contact.class_name == name
        if name in ('sphere', 'corner', 'flat', 'ring'):
            assert touched_radius(contact) < 0.3 * min(config.half_size_mm)
        if name == 'sphere':
            assert BALL_MM[0] <= contact.radius_mm <= BALL_MM[1] and config is GELSIGHT


def test_pieces_are_none_of_the_shapes():
    assert 'A' in PIECES and 'star_5' in PIECES
    assert not any(name.startswith(('disc', 'ring', 'ridges', 'dots', 'grid')) for name in PIECES)


def test_images_are_those_of_a_sharper_camera_and_are_repeated_from_a_seed():
    image, reference, class_id = sample_small_example(np.random.default_rng(4), 'corner', [GELSIGHT])
    assert image.shape == reference.shape and image.shape[1] in (512, 640)
    assert class_id == CLASS_NAMES.index('corner')
    np.testing.assert_array_equal(sample_small_example(np.random.default_rng(4), 'corner', [GELSIGHT])[0], image)
    assert sample_small_example(np.random.default_rng(4), UNKNOWN, [GELSIGHT])[2] == len(CLASS_NAMES)


def test_a_tauter_gel_leaves_a_tip_more_gradually():
    """The part of the image that a small ball changes is larger."""
    changed = []
    for times in (1, 3):
        unit = SensorUnit(taut(dataclasses.replace(GELSIGHT, markers=None), times), np.random.default_rng(0))
        ball = Contact('sphere', 0.3, radius_mm=0.4)
        touch, still = (unit.render(c, np.random.default_rng(1)).astype(float) for c in (ball, None))
        changed.append(int((np.abs(touch - still).max(axis=2) > 4).sum()))
    assert changed[1] > 1.3 * changed[0] > 0  # 882 and 598 px


def test_a_small_ball_is_shown_enlarged():
    """The cameras of the task shapes have too few px: 4 of 1,500 examples were enlarged."""
    image, reference, _ = sample_small_example(np.random.default_rng(SEED), 'sphere', [GELSIGHT])
    assert look_closer(image, fit(image, PREPROCESSING), fit(reference, PREPROCESSING), PREPROCESSING) is not None


def test_all_other_examples_are_those_of_shapes(monkeypatch):
    """Small contacts that were drawn instead of the next touches changed all the others."""
    assert TASKS['shapes_small'] == TASKS['shapes']
    plain, small = (SimulatedTouches(100, PREPROCESSING, 7, task=task) for task in ('shapes', 'shapes_small'))
    tried = []
    monkeypatch.setattr(SimulatedTouches, '_small', lambda self, index: tried.append(index))
    for index in range(8):
        (frame, reference, label), before = small[index], plain[index]
        assert torch.equal(frame, before[0]) and torch.equal(reference, before[1]) and label == before[2]
        assert (index in tried) == (label != 0)  # what is untouched stays so


def test_a_share_of_the_touches_is_small_and_tried_a_few_times(monkeypatch):
    touches, tried = SimulatedTouches(2000, PREPROCESSING, 7, task='shapes_small'), []
    plain = np.zeros((96, 128, 3), np.uint8)
    monkeypatch.setattr(simulated, 'sample_small_example',
                        lambda rng, name, sensors: tried.append(name) or (plain, plain, 1))
    drawn = 0
    for index in range(1000):
        tried.clear()
        assert touches._small(index) is None  # nothing to enlarge
        assert len(tried) in (0, simulated.SMALL_TRIES) and len(set(tried)) <= 1
        drawn += bool(tried)
    assert 0.2 < drawn / 1000 < 0.3


def test_the_task_needs_a_network_that_looks_closer():
    with pytest.raises(DataError, match='give --zoom_below 0.05'):
        SimulatedTouches(1, dataclasses.replace(PREPROCESSING, zoom_below=0.0), task='shapes_small')
