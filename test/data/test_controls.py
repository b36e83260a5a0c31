"""Controls show everything but the touch."""

import numpy as np
import pytest
import torch
from toy_touches import write_csv

from vit_tactile_ros.data.controls import BorderOnly, references_as_images
from vit_tactile_ros.data.source import DataSource
from vit_tactile_ros.data.touches import DataError, load_touches
from vit_tactile_ros.foundation.errors import UserError


class OneTouch(torch.utils.data.Dataset):
    frame = torch.full((20, 40, 3), 200, dtype=torch.uint8)
    reference = torch.full((20, 40, 3), 90, dtype=torch.uint8)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.frame, self.reference, 3


def test_border_only_keeps_the_border_and_hides_the_rest():
    frame, reference, label = BorderOnly(OneTouch(), 0.1)[0]
    expected = np.full((20, 40, 3), 200)
    expected[2:18, 4:36] = 90
    assert (frame.numpy() == expected).all()
    assert (reference == 90).all()
    assert label == 3
    assert (OneTouch.frame == 200).all(), 'the dataset itself must stay as it is'


def test_border_only_knows_the_classes_as_far_as_its_frames_do():
    """Classes that can't be drawn equally often behind the control."""
    assert BorderOnly(OneTouch(), 0.1).labels is None
    frames = OneTouch()
    frames.labels = np.array([3])
    assert BorderOnly(frames, 0.1).labels.tolist() == [3]


@pytest.mark.parametrize('border', [0, 0.5, float('nan')])
def test_border_must_leave_something_to_hide(border):
    with pytest.raises(UserError, match='border is'):
        DataSource(border=border)


def test_references_take_the_place_of_the_images(tmp_path):
    rows = [{'image': f'{name}{i}.png', 'reference': f'r_{name}.png', 'label': name, 'group': f'{name}{i}'}
            for name in ('a', 'b') for i in range(2)]
    table = references_as_images(load_touches(write_csv(tmp_path / 'labels.csv', rows)))
    assert [touch.image.path.name for touch in table.touches] == ['r_a.png', 'r_a.png', 'r_b.png', 'r_b.png']
    assert all(touch.reference is None for touch in table.touches)
    assert table.labels.tolist() == [0, 0, 1, 1]


def test_without_references_there_is_no_such_control(tmp_path):
    rows = [{'image': f'{name}.png', 'label': name} for name in ('a', 'b')]
    with pytest.raises(DataError, match='has no reference'):
        references_as_images(load_touches(write_csv(tmp_path / 'labels.csv', rows)))


def test_controls_show_no_motion_inside():
    """The image before, whose middle shows the touch to a control that must not see it."""

    class Moving(OneTouch):
        def __getitem__(self, index):
            return torch.cat((self.frame, self.frame + 20), dim=2), self.reference, 3

    frame, _, _ = BorderOnly(Moving(), 0.1)[0]
    assert (frame[2:18, 4:36] == 90).all() and (frame[0, :, :3] == 200).all() and (frame[0, :, 3:] == 220).all()
