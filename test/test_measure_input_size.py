"""The command that compares image sizes, on images of a made-up folder."""

import csv
import json

import cv2
import numpy as np
import pytest
from measure_input_size import main
from toy_outputs import toy_checkpoint
from toy_touches import write_csv

from vit_tactile_ros.data.simulated import TASKS
from vit_tactile_ros.model import save_checkpoint


def test_every_size_is_judged_on_the_same_images(tmp_path, capsys):
    """Labels of objects taken for classes, or a size whose times are those of another one."""
    write_csv(tmp_path / 'labels.csv', [{'image': f'{name}.png', 'reference': 'reference.png', 'object': name,
                                         'press': 0} for name in ('ball', 'key')])
    with (tmp_path / 'shapes.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([('object', 'press', 'shape'), ('ball', '', 'sphere'), ('key', '', 'unknown')])
    balls = tmp_path / 'balls'
    balls.mkdir()
    for name in ('reference', 'press_0', 'press_1', 'press_2'):
        cv2.imwrite(str(balls / f'{name}.png'), np.full((48, 64, 3), 90, np.uint8))
    write_csv(balls / 'presses.csv', [{'image': f'press_{number}.png'} for number in range(3)])
    checkpoint = tmp_path / 'toy.safetensors'
    save_checkpoint(checkpoint, toy_checkpoint(exits=(1, 2), names=TASKS['shapes']))
    main(['--touches', str(tmp_path), '--shapes', str(tmp_path / 'shapes.csv'), '--balls', str(balls), '--checkpoint',
          str(checkpoint), '--image_size', '32', '32', '--image_size', '48', '64', '--size', '6', '--rounds', '3',
          '--engine', 'torch'])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found) == [f'{size}, {kept} patches' for size in ('32x32', '48x64') for kept in ('all', 'some')]
    for row in found.values():
        assert {name: row[name][3] for name in ('simulated', 'household', 'household, border only', 'balls')} == {
            'simulated': 6, 'household': 2, 'household, border only': 2, 'balls': 3}
        assert all(0 <= value <= 1 for value in row['household'][:3])
        assert row['balls'][0] in (0, 1), 'all presses look the same'
    assert found['32x32, all patches']['time, full depth'][0] == 1
    assert found['48x64, some patches']['time, exits'][1] > 0


def test_other_classes_are_refused(tmp_path, capsys):
    """Simulated touches of shapes, whose class numbers were compared with those of other classes."""
    save_checkpoint(tmp_path / 'toy.safetensors', toy_checkpoint(exits=(1, 2), names=('nothing', 'nut')))
    with pytest.raises(SystemExit):
        main(['--touches', 'no', '--shapes', 'no', '--checkpoint', str(tmp_path / 'toy.safetensors')])
    assert 'are nothing, nut; must be those of the simulated touches: no_contact' in capsys.readouterr().err
