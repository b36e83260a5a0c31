"""touchbench end to end on made-up touches: controls beside every score, and what it refuses."""

import json
import re

import cv2
import numpy as np
import pytest
from toy_clips import write_grasps, write_video
from toy_objects import write_presses_of_objects
from toy_outputs import toy_checkpoint
from toy_presses import write_presses

from vit_tactile_ros import touchbench
from vit_tactile_ros.evaluation.touchbench.tasks import TASKS
from vit_tactile_ros.inference.touch_events import STATES
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


def test_two_checkpoints_are_compared_at_the_same_block(tmp_path, checkpoint, capsys):
    """A gain over hand-made features where that over another checkpoint was asked for, or over another block of it."""
    write_presses_of_objects(tmp_path / 'data')
    flags = ['--data', str(tmp_path / 'data'), '--tasks', 'roughness', '--folds', '2', '--seeds', '1', '--methods',
             'handmade', 'checkpoint', '--checkpoint', str(checkpoint), '--against', str(checkpoint)]
    assert touchbench.main([*flags, '--metrics', 'accuracy', 'log_loss']) == 0
    tasks = json.loads(capsys.readouterr().out.splitlines()[-1])['tasks']
    assert list(tasks) == ['roughness', 'roughness, log_loss']
    for task in tasks.values():
        results = {result['method']: result for result in task['results']}
        assert list(results) == ['against, block 1', 'against, block 2', 'handmade', 'checkpoint, block 1',
                                 'checkpoint, block 2']
        for block in (1, 2):
            ours, theirs = results[f'checkpoint, block {block}'], results[f'against, block {block}']
            assert ours['score'] == theirs['score'] and ours['controls'] == theirs['controls']
            assert list(ours['gain'].values()) == [0, 0, 0] and theirs['gain'] is None
    (right, chance), (loss, constant) = (
        (task['results'][2]['score']['value'], task['chance']) for task in tasks.values())
    assert 0 <= right <= 1 and loss > 0 and constant == pytest.approx(-np.log(chance), abs=1e-3)


def test_contact_frame_by_frame(tmp_path, checkpoint, capsys):
    """Touches in the middle are found by their level, and not where only the border is shown."""
    lines, folder = ['clip,first,last'], tmp_path / 'data' / 'gelsight_clips'
    folder.mkdir(parents=True)
    for clip in range(3):
        images = [np.full((48, 64, 3), 100, np.uint8) for _ in range(40)]
        for image in images[10 + clip:30]:
            cv2.circle(image, (32, 24), 8, (160, 150, 140), -1)
        write_video(folder / f'{clip}.avi', images)
        lines.append(f'{clip}.avi,{10 + clip},29')
    (folder / 'contacts.csv').write_text('\n'.join(lines) + '\n')
    code = touchbench.main(['--data', str(tmp_path / 'data'), '--tasks', 'contact', '--checkpoint', str(checkpoint)])
    output, error = capsys.readouterr()
    assert code == 0, error
    task = json.loads(output.splitlines()[-1])['tasks']['contact']
    handmade, alone, gated = task['results']
    assert (handmade['method'], handmade['score']['value']) == ('handmade', 1.0)
    assert handmade['controls']['border'] == 0.5 and task['groups'] == 3
    assert 'border' in alone['controls'] and 'border' in gated['controls']
    counts = task['details'][gated['method']]['contacts']
    assert counts['n'] == 3


def test_slip_of_grasps(tmp_path, checkpoint, capsys):
    """Grasps of equal length that look alike at rest: motion tells them apart, a still frame and the length do not."""
    folder = tmp_path / 'data' / 'gelsight_slip'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def images(_number, slips):
        wide = cv2.blur(rng.integers(0, 256, (48, 128, 3)).astype(np.uint8), (5, 5))
        for n in range(30):
            shift = 3 * min(n - 9, 20 - n) if slips and 10 <= n < 20 else 0  # there and back
            yield wide[:, shift:shift + 64]

    write_grasps(folder, images, 24)
    states = tmp_path / 'states.safetensors'
    save_checkpoint(states, toy_checkpoint(exits=(1, 2), names=STATES))
    code = touchbench.main(['--data', str(tmp_path / 'data'), '--tasks', 'slip', '--seeds', '1', '--checkpoint',
                            str(checkpoint), '--slip_checkpoint', str(states)])
    output, error = capsys.readouterr()
    assert code == 0, error
    task = json.loads(output.splitlines()[-1])['tasks']['slip']
    handmade, *others = task['results']
    assert (task['items'], task['groups'], handmade['method']) == (24, 12, 'handmade')
    assert handmade['score']['value'] > 0.9
    assert max(handmade['controls'][name] for name in ('still', 'length')) < 0.8
    assert len(others) == 4 and all(set(one['controls']) == {'still', 'length'} for one in others)


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
