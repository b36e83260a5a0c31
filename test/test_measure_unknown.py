"""The command that measures touches by other objects, on images of a made-up folder."""

import csv
import json
from pathlib import Path

import pytest
from measure_unknown import LEAST_LEVELS, main
from toy_outputs import toy_checkpoint
from toy_touches import write_csv

from vit_tactile_ros.data.simulated import TASKS
from vit_tactile_ros.model import save_checkpoint


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six presses of three objects, one of them not judged by eye; the images are noise, far from their reference."""
    write_csv(tmp_path / 'labels.csv', [
        {'image': f'{object_}{press}.png', 'reference': 'reference.png', 'object': object_, 'press': press}
        for object_ in ('ball', 'key', 'nut') for press in (0, 1)])
    with (tmp_path / 'shapes.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([('object', 'press', 'shape'), ('ball', '', 'sphere'), ('key', '', 'unknown'),
                                    ('nut', 1, 'unknown')])
    return tmp_path


def test_every_image_that_was_judged_is_counted(folder, capsys):
    save_checkpoint(folder / 'toy.safetensors', toy_checkpoint(exits=(1, 2), names=TASKS['shapes']))
    asked = ['--touches', str(folder), '--shapes', str(folder / 'shapes.csv'), '--size', '40']
    assert main([*asked, '--checkpoint', str(folder / 'toy.safetensors')]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert LEAST_LEVELS < 50, 'noise is above it'
    assert found['images'] == {'unknown': 3, 'known': 2} and found['objects'] == {'unknown': 2, 'known': 1}
    assert found['simulated']['indenters'] > 0 and found['simulated']['unknown'] > 0
    row, by_object = found['unknown, block 2'], found['unknown, block 2, by object']
    assert {name: (shape, n) for name, (shape, _, n) in by_object.items()} == {
        'ball': ('sphere', 2), 'key': ('unknown', 2), 'nut': ('unknown', 1)}
    assert row['real known flagged'] == by_object['ball'][1] and 0 <= row['AUC'] <= 1
    assert row['real unknown flagged'] == pytest.approx((2 * by_object['key'][1] + by_object['nut'][1]) / 3, abs=0.01)
    assert 'softmax, block 1' in found


def test_a_missing_folder_is_one_line(folder, capsys):
    assert main(['--touches', str(folder / 'no'), '--shapes', str(folder / 'shapes.csv')]) == 2
    assert 'measure_unknown: ' in capsys.readouterr().err
