"""touchbench end to end on made-up touches: controls beside every score, and what it refuses."""

import json
import re

import cv2
import pytest
from toy_objects import write_presses_of_objects
from toy_outputs import toy_checkpoint
from toy_presses import write_presses

from vit_tactile_ros import touchbench
from vit_tactile_ros.evaluation.touchbench.tasks import TASKS
from vit_tactile_ros.model import save_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(tmp_path / 'toy.safetensors', toy_checkpoint(exits=(1, 2), names=('no_contact', 'sphere')))
    return tmp_path / 'toy.safetensors'


def test_every_score_has_its_controls_beside_it(tmp_path, checkpoint, capsys):
    """A score alone does not tell whether a method sees the touch or recognises the recording."""
    write_presses_of_objects(tmp_path / 'data')
    (tmp_path / 'data' / 'gelsight_calibration' / 'one').mkdir(parents=True)
    write_presses(tmp_path / 'data' / 'gelsight_calibration' / 'one')
    code = touchbench.main(['--data', str(tmp_path / 'data'), '--tasks', 'shape', 'roughness', '--folds', '2',
                            '--seeds', '1', '--checkpoint', str(checkpoint), '--output', str(tmp_path / 'out')])
    output, error = capsys.readouterr()
    assert (code, error) == (0, '')
    found = json.loads(output.splitlines()[-1])['tasks']
    assert (found['roughness']['items'], found['roughness']['groups'], found['shape']['items']) == (16, 8, 8)
    blocks = ['checkpoint, block 1', 'checkpoint, block 2']
    assert [r['method'] for r in found['roughness']['results']] == ['handmade', 'pixels', *blocks]
    assert [r['method'] for r in found['shape']['results']] == blocks
    for task in found.values():
        for result in task['results']:
            assert result['controls'] and result['score']['low'] is not None
            control = ', '.join(f'{name} {value:.3f}' for name, value in result['controls'].items())
            assert re.search(rf'{result["method"]} +{result["score"]["value"]:.3f} .* {control} ', output)
    assert [set(task['results'][0]['controls']) for task in found.values()] == [{'border', 'reference'}, {'border'}]
    assert cv2.imread(str(tmp_path / 'out' / 'touchbench.png')).std() > 5


def test_absent_data_is_explained(tmp_path, capsys):
    assert touchbench.main(['--data', str(tmp_path), '--tasks', 'bumps']) == 2
    error = capsys.readouterr().err
    assert f'{tmp_path}/gelsight_touches/labels.csv does not exist' in error and 'clear-nus/octopi' in error
    (tmp_path / 'gelsight_clips').mkdir()
    assert touchbench.main(['--data', str(tmp_path), '--tasks', 'contact']) == 2
    assert 'contacts.csv does not exist; the task contact needs the contacts' in capsys.readouterr().err
    assert touchbench.main(['--data', str(tmp_path), '--tasks', 'shape', '--methods', 'pixels']) == 2
    assert 'tasks are shape, which have no method pixels' in capsys.readouterr().err


def test_the_list_has_everything_that_a_task_needs(capsys):
    assert touchbench.main(['--list']) == 0
    output = capsys.readouterr().out
    assert all(getattr(task, part) in output for task in TASKS.values()
               for part in ('question', 'data', 'cut', 'split', 'metric', 'controls'))
