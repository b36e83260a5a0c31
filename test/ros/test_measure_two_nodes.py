"""The command that measures the nodes of shapes and slip side by side."""

import json
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[2] / 'tools'


def test_two_nodes_see_the_same_images(tiny_checkpoint):
    """A node whose results go to the topic of the other, or that is counted with the time of the other."""
    ended = subprocess.run([sys.executable, str(TOOLS / 'measure_two_nodes.py'), '--seconds', '1', '--skip_alone',
                            '--shapes', str(tiny_checkpoint), '--slip', str(tiny_checkpoint)], capture_output=True,
                           text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    both = found['shapes and slip']
    assert list(found) == ['shapes and slip'] and list(both) == ['sent', 'shapes', 'slip'] and both['sent'] == 30
    for row in (both['shapes'], both['slip']):
        assert 0 < row['results'] <= 30 and row['CPU s per 1,000'] > 0 and row['threads'] > 1 and row['MB'] > 50
