"""The command that measures the gate, on two real clips."""

import json
from pathlib import Path

from measure_gate import main
from real_data import real_data

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
