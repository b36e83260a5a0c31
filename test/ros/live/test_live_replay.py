"""A bag through the real node over DDS: the same results as the offline replay, with superseded images counted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from live_nodes import TIMEOUT
from toy_bags import write_bag

from vit_tactile_ros.ros.live.replay import _Session


def test_live_equals_offline(tmp_path, tiny_checkpoint):
    """Two sensors at twice the speed of the recording; the reference is the mean of the first images in both."""
    bag = write_bag(tmp_path / 'b', {'left': [None] * 30, 'right': [None] * 30}, 'mcap')
    ended = subprocess.run(
        [sys.executable, '-m', 'vit_tactile_ros.replay', str(bag), '--live', '--speed', '2', '--checkpoint',
         str(tiny_checkpoint), '--tau', '0.4', '--output', str(tmp_path / 'o')],
        capture_output=True, text=True, timeout=2 * TIMEOUT)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    live = json.loads(ended.stdout.splitlines()[-1])['live'][0]
    assert live['sent'] == 60 and live['answered'] + live['superseded'] == 60
    # The first five of each are waited for, whatever else the machine does.
    assert 10 <= live['common'] <= live['answered']
    assert live['class_differs'] == live['exit_differs'] == 0 and live['probability_difference'] < 1e-5


@pytest.mark.parametrize(('limit', 'first', 'lowest', 'highest', 'tests'), [
    (10.0, 1.0, 9.0, 10.0, 9), (0.3, 1.0, 0.27, 0.3, 7), (1e-6, 1.0, None, None, 7), (1e6, 1.0, 64.0, 64.0, 7)])
def test_search_for_the_highest_speed(monkeypatch, limit, first, lowest, highest, tests):
    """Doubled or halved until one speed is kept up with and another is not, then between these."""
    monkeypatch.setattr(_Session, '_play', lambda _, speed, *__: {'superseded_share': 0.01 if speed < limit else 0.5})
    session = object.__new__(_Session)
    found, trials = session._highest_speed(first, session._play(first)['superseded_share'])
    assert found is lowest if lowest is None else lowest <= found <= highest
    assert trials[0]['speed'] == first and len(trials) == tests
