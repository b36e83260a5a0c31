"""The command that measures several sensors on one node."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from measure_many_sensors import FRAMES, main, rendered

TOOL = Path(__file__).parents[2] / 'tools' / 'measure_many_sensors.py'


def test_two_sensors(tiny_checkpoint):
    """Images that are in no counter, or results of one sensor counted for the other."""
    ended = subprocess.run([sys.executable, str(TOOL), '--sensors', '2', '--rate', '10', '--seconds', '2',
                            '--checkpoint', str(tiny_checkpoint)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    (found,) = json.loads(ended.stdout.splitlines()[-1])
    assert found['sent'] == 40 and 20 <= found['received'] <= 40
    assert found['unaccounted'] == found['rejected'] == found['pending'] == 0
    assert found['results received'] == found['classified'] == found['received'] - found['superseded']
    assert 0 <= found['fairness'] <= 1 and 0 < found['ms']['p50'] <= found['ms']['p99']


def test_most_images_are_untouched():
    """A share of untouched images that is not reached."""
    assert len(rendered(0.0)) == FRAMES
    touched = 0.2 * len(rendered(0.8))
    assert FRAMES / 2 < touched < FRAMES and 0.4 * len(rendered(0.6)) == pytest.approx(touched, abs=1)


def test_one_sensor_has_no_fairness(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['--sensors', '1'])
    assert ended.value.code == 2 and 'must be at least 2' in capsys.readouterr().err
