"""The command that measures contact frame by frame, on simulated clips."""

import json

import numpy as np
from measure_contact import main
from toy_clips import write_video

from vit_tactile_ros.simulator import GELSIGHT, SensorUnit, sample_contact


def test_two_clips(tmp_path, capsys):
    """A clear press is seen at once, untouched frames are not called touched, and both references are used."""
    rows = ['clip,first,last']
    for name, seed in (('ring', 1), ('sphere', 2)):
        rng = np.random.default_rng(seed)
        unit = SensorUnit(GELSIGHT, np.random.default_rng(0))  # one sensor: the references differ by noise
        contact = sample_contact(name, GELSIGHT, rng, depth_fraction=0.9)
        images = [unit.render(contact if 12 <= number < 24 else None, rng) for number in range(30)]
        write_video(tmp_path / f'{name}.avi', [image[:, :, ::-1] for image in images])
        rows.append(f'{name}.avi,12,23')
    (tmp_path / 'contacts.csv').write_text('\n'.join(rows))
    main(['--clips', str(tmp_path), '--contacts', str(tmp_path / 'contacts.csv'), '--tau', '0.5'])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    missed, false, contacts = found.values()
    # Two frames beside the begin and the end are not judged: 6 touched and 14 untouched ones remain in each clip.
    assert sum(level['n'] for level in missed.values()) == 2 * 6 and not any(v['share'] for v in missed.values())
    assert false['own'] == {'share': 0, 'n': 2 * 14} and false['0 to 1.5 off'] == {'share': 0, 'n': 2 * 2}
    assert contacts == {'n': 2, 'unnoticed': [], 'frames late, median and p90': [0, 0]}
    main(['--clips', str(tmp_path), '--contacts', str(tmp_path / 'contacts.csv'), '--tau', '0.5', '--events'])
    missed, false, contacts = json.loads(capsys.readouterr().out.splitlines()[-1]).values()
    assert not any(v['share'] for v in missed.values()) and false == {'own': {'share': 0, 'n': 2 * 14}}
    assert contacts['n'] == 2 and contacts['frames late, median and p90'] == [1, 1]  # ONSET needs a second frame
