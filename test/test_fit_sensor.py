"""fit_sensor end to end on toy presses: what it writes, says and refuses."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from toy_presses import KNOWN, write_presses

from vit_tactile_ros import fit_sensor
from vit_tactile_ros.simulator import SensorUnit, load_sensor, save_sensor


@pytest.fixture
def flags(tmp_path):
    write_presses(tmp_path, 8)
    return ['--presses', str(tmp_path / 'presses.csv'), '--reference', str(tmp_path / 'reference.png'),
            '--output', str(tmp_path / 'mine.json'), '--rounds', '1']


def save_table(path):
    table = np.zeros((20, 20, 6))
    table[1:, :, 5] = 30 * np.cos(np.linspace(0, 2 * np.pi, 20))
    np.savez(path, bins=20, grad_r=table, grad_g=-table, grad_b=table)


def test_the_command_writes_a_sensor_that_looks_like_the_presses(flags, tmp_path):
    """The command as a user gives it: a sensor file that renders, a picture, a table and JSON last."""
    save_table(tmp_path / 'table.npz')
    done = subprocess.run(
        [sys.executable, '-m', 'vit_tactile_ros.fit_sensor', *flags, '--table', str(tmp_path / 'table.npz'),
         '--picture', str(tmp_path / 'plots' / 'fit.png'), '--name', 'toy', '--source', 'Rendered, no licence needed.'],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['presses'] == 8 and result['clipped_radii'] == 0
    errors = {(e['part'], e['model'], e['geometry']): e for e in result['errors']}
    geometries = {'labelled', 'shifted', 'refined'}
    for part in ('train', 'held-out'):
        for model in ('fitted', 'table'):
            assert {geometry for p, m, geometry in errors if (p, m) == (part, model)} == geometries
    ours, nothing = errors['held-out', 'fitted', 'refined'], errors['held-out', 'no model', 'any']
    assert ours['presses'] == 2 and ours['disc_pixels'] == nothing['disc_pixels'] > 400
    assert ours['disc'] < 3 < nothing['disc'] / 5
    said = ' '.join(done.stdout.split())
    assert 'held-out' in said and 'table was probably calibrated on all presses' in said

    config = load_sensor(tmp_path / 'mine.json')
    assert (config.name, config.height, config.width, config.mm_per_px) == ('toy', 96, 128, KNOWN.mm_per_px)
    assert config.source.startswith('Rendered, no licence needed. Lights') and '6 of 8 presses' in config.source
    reference = SensorUnit(config, np.random.default_rng(0), variation=0).reference.astype(int)
    real = cv2.imread(str(tmp_path / 'reference.png'))[..., ::-1]
    assert np.abs(cv2.blur(reference - real, (9, 9))).mean() < 4
    picture = cv2.imread(str(tmp_path / 'plots' / 'fit.png'))
    assert picture is not None and picture.shape[1] > 1000


def test_lights_from_a_table(tmp_path, capsys):
    """For a sensor of which no presses are known; the picture's size is the base's unless said."""
    save_table(tmp_path / 'table.npz')
    flags = ['--from_table', str(tmp_path / 'table.npz'), '--output', str(tmp_path / 'mine.json'), '--base', 'digit',
             '--table_size', '120', '160']
    assert fit_sensor.main(flags) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result['table_error'] < 0.6 * result['no_model_error']
    config, base = load_sensor(tmp_path / 'mine.json'), load_sensor('digit')
    assert (config.height, config.width, config.name) == (160, 120, 'mine')
    assert config.half_size_mm == pytest.approx(base.half_size_mm)
    assert 'table.npz' in config.source and config.lights != base.lights and config.glows == base.glows


def test_another_resolution_shows_the_same_gel(flags, tmp_path, monkeypatch):
    assert fit_sensor.main([*flags, '--scale', '2', '--lights', '2', '--positive_colours']) == 0
    config = load_sensor(tmp_path / 'mine.json')
    assert (config.height, config.width) == (192, 256) and config.half_size_mm == pytest.approx(KNOWN.half_size_mm)
    assert len(config.lights) == 2 and min(level for light in config.lights for level in light.rgb) >= 0
    assert [path.name for path in tmp_path.glob('.*')] == []


@pytest.mark.parametrize('more, message', [
    (['--from_table', 'x.npz'], 'either --presses or --from_table'),
    (['--output', 'mine.txt'], 'mine.txt; must end in .json'),
    (['--lights', '0'], '--lights is 0'),
    (['--rounds', '0'], '--rounds is 0'),
    (['--scale', '100'], '--scale is 100.0'),
])
def test_wrong_arguments(flags, more, message, capsys):
    with pytest.raises(SystemExit) as exit:
        fit_sensor.main([*flags, *more])
    assert exit.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize('more, message', [
    (['--base', 'gelsigth'], 'gelsigth: no such sensor'),
    (['--table', 'missing.npz'], 'missing.npz cannot be read as a table'),
    (['--hold_out', '1.5'], 'hold_out is 1.5'),
    (['--reference', 'gone.png'], 'gone.png cannot be read: No such file'),
])
def test_wrong_data_leaves_the_old_file_whole(flags, tmp_path, more, message, capsys):
    save_sensor(tmp_path / 'mine.json', KNOWN)
    assert fit_sensor.main([*flags, *more]) == 2
    assert message in capsys.readouterr().err
    assert load_sensor(tmp_path / 'mine.json') == KNOWN
