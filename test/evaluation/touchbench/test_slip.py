"""Slip on recorded grasps: hand-made figures see motion, and the length of a clip is only a control."""

import numpy as np
import pytest
from toy_clips import write_grasps, write_video

from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.touchbench.slip import folds_of, motion_figures, read_grasps, slip_task


def grasp(length: int, slips: bool, seed: int = 0):
    """Images of a patch that moves for five frames in the middle, or not."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(60, 200, (40, 120, 3)).astype(np.uint8)
    for number in range(length):
        moved = 4 * int(np.clip(number - 8, 0, 5)) if slips else 0
        image = np.full((60, 80, 3), 100, np.uint8)
        image[10:50, 10:70] = texture[:, moved:moved + 60]
        yield image


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    return write_grasps(tmp_path_factory.mktemp('grasps'),
                        lambda number, slips: grasp(20 if slips else 26, slips, number))


def test_motion_and_its_controls(file, tmp_path):
    found = slip_task(file, tmp_path / 'none.safetensors', ('handmade',), (0, 1))
    result, = found.results
    assert (found.items, found.groups) == (12, 6) and result.score.value == 1
    assert result.controls['length'] == 1 and result.controls['still'] < 0.9


def test_objects_are_kept_apart(file):
    grasps = read_grasps(file)
    folds = folds_of(grasps.objects, 0)
    assert all(len(set(folds[grasps.objects == name])) == 1 for name in grasps.objects) and len(set(folds)) == 5


def test_figures_do_not_tell_the_length(tmp_path):
    """A longer clip of the same still grasp has the same figures, apart from noise of the codec."""
    figures = []
    for length in (20, 60):
        write_video(tmp_path / f'{length}.avi', grasp(length, slips=False))
        figures.append(motion_figures(tmp_path / f'{length}.avi')['motion'])
    assert np.allclose(*figures, atol=0.2)


def test_a_missing_clip_and_a_wrong_outcome_are_named(tmp_path):
    file = tmp_path / 'grasps.csv'
    file.write_text('grasp,object,outcome,finger,file\ng0,cup,slip,a,none.avi\n')
    with pytest.raises(DataError, match=r'none\.avi does not exist; must be a video'):
        slip_task(file, tmp_path / 'none.safetensors', ('handmade',), (0,))
    file.write_text('grasp,object,outcome,finger,file\ng0,cup,slipped,a,none.avi\n')
    with pytest.raises(DataError, match="line 2: outcome is 'slipped'; must be slip or stable"):
        read_grasps(file)
