"""The command that measures balls, on a made-up sensor."""

import json

import cv2
import numpy as np
from measure_balls import RINGS, main, profile
from toy_outputs import toy_checkpoint
from toy_touches import write_csv

from vit_tactile_ros.data.simulated import TASKS
from vit_tactile_ros.model import save_checkpoint
from vit_tactile_ros.simulator import GELSIGHT, Contact, SensorUnit


def test_every_row_is_measured_and_a_taut_gel_falls_off_later(tmp_path, capsys):
    save_checkpoint(tmp_path / 'toy.safetensors', toy_checkpoint(exits=(1, 2), names=TASKS['shapes']))
    unit, rng = SensorUnit(GELSIGHT, np.random.default_rng(0)), np.random.default_rng(1)
    write_csv(tmp_path / 'presses.csv', [{'image': 'press.png'}])
    ball = Contact('sphere', 1.0, x_mm=2.0, y_mm=-1.0, radius_mm=2.0)
    for name, contact in (('press', ball), ('reference', None)):
        cv2.imwrite(str(tmp_path / f'{name}.png'), unit.render(contact, rng)[..., ::-1])
    main(['--presses', str(tmp_path), '--checkpoint', str(tmp_path / 'toy.safetensors'), '--count', '1'])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found) == ['profile', str(tmp_path / 'toy.safetensors')]
    profiles = found['profile']
    once, thrice = (profiles[f'ball of 0.4 mm, 1 mm deep, relaxed {n}'] for n in (1, 3))
    assert thrice[8] > 1.4 * once[8] and len(once) == RINGS
    # a press of 2 mm is that of the simulation, and wider than the tip
    np.testing.assert_allclose(profiles[tmp_path.name], profiles['ball of 2 mm, 1 mm deep, relaxed 1'], atol=0.15)
    assert np.argmax(profiles[tmp_path.name]) >= 7 > 5 > np.argmax(once)
    rows = found[str(tmp_path / 'toy.safetensors')]
    assert len(rows) == 1 + 3 * 5 * 2
    assert all(set(row) == {'first exit', 'last', 'default tau'} for row in rows.values())
    assert sum(rows['corner, relaxed 5']['last'].values()) == 1


def test_a_profile_is_centred_where_the_image_changes_its_sign():
    y, x = np.mgrid[:96, :128].astype(np.float32)
    slope = (x - 70) * np.exp(-((x - 70) ** 2 + (y - 40) ** 2) / 50)
    # the slope of a bump is largest one standard deviation, 5 px, from its top
    assert np.argmax(profile(np.stack([slope] * 3, axis=2))) in (4, 5)
