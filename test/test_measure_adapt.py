"""The command that measures adapting, on made-up clips and presses."""

import json

import cv2
import numpy as np
from measure_adapt import main
from toy_clips import write_video
from toy_outputs import toy_checkpoint
from toy_touches import write_csv

from vit_tactile_ros.data.simulated import TASKS
from vit_tactile_ros.model import save_checkpoint


def test_every_row_is_measured(tmp_path, capsys):
    """Rows of contact, contrast, temperature and simulated units; the gain is only for the contrasts below 18."""
    save_checkpoint(tmp_path / 'toy.safetensors', toy_checkpoint(exits=(1, 2), names=TASKS['shapes']))
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        images = [np.clip(100 + rng.normal(0, 1, (64, 64, 3)), 0, 255).astype(np.uint8) for _ in range(50)]
        for number, image in enumerate(images):
            cv2.circle(image, (30, 30), 12, (160, 140, 120), -1 if 24 <= number < 40 else 1)
        write_video(tmp_path / f'{name}.avi', images)
    (tmp_path / 'contacts.csv').write_text('clip,first,last\na.avi,24,39\nb.avi,24,39\n')
    (tmp_path / 'press').mkdir()
    write_csv(tmp_path / 'press' / 'presses.csv', [{'image': f'{n}.png'} for n in range(6)])
    for name, level in (('reference', 100), *((f'{n}', 150 + n) for n in range(6))):
        image = np.full((64, 64, 3), 100, np.uint8)
        cv2.circle(image, (30, 30), 12, (level, level, level), -1)
        cv2.imwrite(str(tmp_path / 'press' / f'{name}.png'), image)
    main(['--clips', str(tmp_path), '--contacts', str(tmp_path / 'contacts.csv'), '--presses', str(tmp_path / 'press'),
          '--units', '1', '--checkpoint', str(tmp_path / 'toy.safetensors')])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found) == ['contact, 2 clips', 'contact at 0.25 of the contrast', 'contact at 0.15 of the contrast',
                           'shapes', 'temperature', 'simulated units']
    assert set(found['contact, 2 clips']['adapted']) >= {'false', 'untouched that exit at the gate'}
    gains = {name: row['gain'] for name, row in found['shapes'].items()}
    assert gains['1 of the contrast, press'] == gains['0.4 of the contrast, press'] == 1.0
    assert gains['0.1 of the contrast, press'] == 3.0 and 'control: a gain of 3' in found['shapes'][
        '1 of the contrast, press']
