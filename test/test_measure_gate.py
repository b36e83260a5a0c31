"""The command that measures the gate, on two real clips and on simulated single images."""

import json
from pathlib import Path

import cv2
import measure_gate
import numpy as np
from measure_gate import against_own_reference, at_the_gate, main
from real_data import real_data

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.simulator import GELSIGHT, SensorUnit, sample_contact

CONTACTS = Path(__file__).parent / 'helpers' / 'contacts_by_eye.csv'


def test_real_clips(tmp_path, capsys):
    """Most untouched frames exit at the gate, contacts that a person sees do not, first contact is seen at once."""
    contacts = tmp_path / 'contacts.csv'
    contacts.write_text('\n'.join(line for line in CONTACTS.read_text().splitlines()
                                  if line.startswith(('clip,', 'egg_1', 'mandarin'))))
    main(['--clips', str(real_data('gelsight_clips')), '--contacts', str(contacts), '--pairs', '2', '--rounds', '2'])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    untouched = found['gate']['untouched']
    assert untouched['gated'] > 0.85 * untouched['frames'] > 50
    assert all(row['gated'] == 0 for peak, row in found['gate']['touched'].items() if peak != '0-5')
    assert found['gate']['first contact, frames later'] == {'0': 2}


def test_single_images(tmp_path):
    """A clear press and an untouched image, each against the no-contact image of the same gel."""
    rng = np.random.default_rng(1)
    unit = SensorUnit(GELSIGHT, rng)
    press = sample_contact('sphere', GELSIGHT, rng, depth_fraction=0.9)
    for name, contact in (('press', press), ('untouched', None), ('reference', None)):
        cv2.imwrite(str(tmp_path / f'{name}.png'), unit.render(contact, rng)[:, :, ::-1])
    (tmp_path / 'labels.csv').write_text('image,reference\npress.png,reference.png\nuntouched.png,reference.png\n')
    found = against_own_reference(tmp_path, TactileClassifier(load_checkpoint(shipped_checkpoint()), threads=1))
    assert found['12-256'] == {'gated': 0, 'images': 1} and found['0-5'] == {'gated': 1, 'images': 1}
    assert found['missed at 12-256'] == {'network alone': 0, 'with the odds': 0, 'images': 1}
    assert sum(row['with the odds'] for key, row in found.items() if key.startswith('missed')) == 1


def test_the_peak_is_of_the_whole_image(monkeypatch):
    """The peak of a part, enlarged, minus whole images: every small contact would be a strong one."""
    y, x = np.mgrid[:480, :640]
    still = np.full((480, 640, 3), 110, np.uint8)
    bump = 60 * np.exp(-((y - 150)**2 + (x - 420)**2) / (2 * 10**2))
    clip = [(still, 'no_contact')] * 6 + [((still + bump[..., None]).astype(np.uint8), 'contact')]
    classifier = TactileClassifier(load_checkpoint(shipped_checkpoint()), threads=1)
    seen, peaks = [], measure_gate.peaks
    assert classifier.preprocessing.zoom_below > 0  # or nothing is shown
    monkeypatch.setattr(measure_gate, 'peaks', lambda frames, touched: seen.append(frames) or peaks(frames, touched))
    at_the_gate({'clip': clip}, classifier, 25.0)
    np.testing.assert_array_equal(seen[0], [fit(image, classifier.preprocessing) for image, _ in clip])
