"""The command that measures touch events, on simulated streams and on a clip with contacts labelled by eye."""

import json
from pathlib import Path

from measure_touch_events import main
from real_data import real_data
from toy_outputs import toy_checkpoint

from vit_tactile_ros.inference.touch_events import STATES
from vit_tactile_ros.model import save_checkpoint

CONTACTS = Path(__file__).parent / 'helpers' / 'contacts_by_eye.csv'


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_simulated(capsys):
    """Seven seconds of each sensor: every touch found once, none invented."""
    main(['--seconds', '7', '--seeds', '1'])
    found = last_line(capsys)
    assert found['frames'] == 630 and found['labelled_touches'] >= 6
    assert found['found'] == found['labelled_touches'] and found['false'] == found['split'] == 0


def test_slip(tmp_path, capsys):
    """Two seconds of each sensor, with an untrained network: the slips are those of the labels, found or missed."""
    save_checkpoint(tmp_path / 'states.safetensors', toy_checkpoint(names=STATES, motion=0.08))
    main(['--slip', str(tmp_path / 'states.safetensors'), '--seconds', '2', '--seeds', '1', '--slip_threshold', '0.5'])
    found = last_line(capsys)
    assert found['frames'] == 180 and found['slips']['found'] + found['slips']['missed'] == (
        found['slips']['labelled_slips'])


def test_real_clip(tmp_path, capsys):
    contacts = tmp_path / 'contacts.csv'
    contacts.write_text('\n'.join(line for line in CONTACTS.read_text().splitlines()
                                  if line.startswith(('clip,', 'egg_1', 'avocado'))))
    main(['--clips', str(real_data('gelsight_clips')), '--contacts', str(contacts)])
    found = last_line(capsys)
    assert {k: found[k] for k in ('labelled_touches', 'found', 'split', 'missed', 'false')} == {
        'labelled_touches': 2, 'found': 2, 'split': 0, 'missed': 0, 'false': 0}
