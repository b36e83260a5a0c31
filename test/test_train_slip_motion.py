"""train_slip_motion.py end to end on toy grasps: folds, weights that the node reads, and no step twice."""

import json

import cv2
import numpy as np
import pytest
from toy_clips import write_grasps
from train_slip_motion import labels_of, main

from vit_tactile_ros.evaluation.touchbench.slip import read_grasps
from vit_tactile_ros.evaluation.touchbench.untouched import recurring_references
from vit_tactile_ros.inference.slip_network import load_slip_network
from vit_tactile_ros.inference.touch_events import STATES
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.training.slip_motion import NO_LABEL

GEL = np.full((60, 80, 3), 100, np.uint8)


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """Twelve grasps of six objects, in 60 frames each: an object of its own colour, which is gone after a second."""
    def images(number, slips):
        for frame in range(60):
            image = GEL.copy()
            if not slips or frame < 25:
                cv2.circle(image, (40, 30), 22, (30, 250 - 20 * (number // 2), 30 + 40 * (number // 2)), -1)
            yield image

    return write_grasps(tmp_path_factory.mktemp('grasps'), images)


def test_what_recurs_in_grasps_of_several_objects_is_the_gel(file):
    """A reference that contains an object, because most images of its clip do."""
    for reference in recurring_references(read_grasps(file), PreprocessingConfig(image_size=(96, 128))):
        assert np.abs(reference - 100).max() < 4


def test_train(file, tmp_path, capsys):
    arguments = ['--grasps', str(file), '--cache', str(tmp_path / 'cache'), '--streams', '1', '--seconds', '8',
                 '--steps', '2', '--creeping', '1', '--creeping_steps', '2', '--grasp_steps', '12', '--seeds', '1']
    main(arguments)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found['length']['balanced'] == 0.5  # all clips have the same length
    assert found['lost']['auc'] > 0.9  # learnt in twelve steps: the gel is empty at the end
    assert [row['found'] for row in found['curve_0']] == sorted((r['found'] for r in found['curve_0']), reverse=True)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / 'cache').iterdir()}
    assert len(kept) == 10  # maps of the grasps and of two streams, two networks, and five folds
    main([*arguments, '--output', str(tmp_path / 'weights.safetensors')])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])['lost'] == found['lost']
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(load_slip_network(tmp_path / 'weights.safetensors').lost) == 3


def test_slow_slides_are_slips_and_their_begin_has_no_label():
    states = np.array([STATES.index(name) for name in ('stable', 'moving', 'slip', 'no_contact', 'stable', 'stable')])
    found = labels_of(states, np.array([1, 1, -1, 1, -1, 0]))
    assert found.tolist() == [*[STATES.index(name) for name in ('slip', 'slip', 'slip', 'no_contact')], NO_LABEL, 1]
