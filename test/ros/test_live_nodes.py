"""The tests' own nodes (test/helpers/live_nodes.py)."""

import sys

import live_nodes
import pytest
from live_nodes import NodeProcess


def test_a_node_that_hangs_is_killed(tmp_path, monkeypatch):
    """It went on, and disturbed the tests that followed."""
    node = NodeProcess('camera_node', tmp_path, python=(sys.executable, '-c', 'import time; time.sleep(1000)'))
    monkeypatch.setattr(live_nodes, 'TIMEOUT', 0.3)
    with pytest.raises(pytest.fail.Exception, match='did not end'):
        node.wait_for_end()
    assert node.process.poll() == -9
