"""A bag through the real node over DDS: the same results as the offline replay, with superseded images counted."""

from __future__ import annotations

import json
import subprocess
import sys

from live_nodes import TIMEOUT
from toy_bags import write_bag


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
