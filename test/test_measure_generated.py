"""The tool that looks at generated touches, with a generator of our own."""

import json

import cv2
import measure_generated
from measure_generated import main
from toy_generator import plain_generator
from toy_outputs import toy_checkpoint

from vit_tactile_ros.data.simulated import TASKS
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import save_checkpoint


def test_the_sheet_and_the_rows_have_every_class(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measure_generated, 'picture_generator', lambda: plain_generator)
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint(exits=(1, 2), names=TASKS['shapes']))
    assert main(['--count', '1', '--sheet', str(tmp_path / 'sheet.png'), '--checkpoint', str(path)]) == 0
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape == (10 * 180, 7 * 240, 3)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found['images']['of'] == 10 + found['images']['not shown']
    rows = found[str(path)]
    assert set(rows) == {'generated', 'simulated', 'untouched'}
    assert set(rows['generated']['block 2']) == {'all', *TASKS['shapes'][1:]}
    assert set(rows['untouched']['block 1']) == {'all', 'no_contact'}


def test_a_missing_package_is_an_error_of_the_user(capsys, monkeypatch):
    def missing():
        raise UserError('not installed')
    monkeypatch.setattr(measure_generated, 'picture_generator', missing)
    assert main([]) == 2
    assert 'measure_generated: not installed' in capsys.readouterr().err
