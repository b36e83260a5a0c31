"""The ROS domain of each process that tests."""

from __future__ import annotations

import os
import subprocess
import sys

from ros_domain import claimed_domain

CLAIMS = 'from ros_domain import claimed_domain\nprint(*(claimed_domain() for _ in range(10)))'


def test_no_two_processes_share_one():
    """It was the last two digits of the process number: two test runs deactivated one another's nodes."""
    # The other one begins to look at the next numbers.
    own = {os.environ['ROS_DOMAIN_ID'], *(claimed_domain() for _ in range(10))}
    told = subprocess.run([sys.executable, '-c', CLAIMS], text=True, capture_output=True, check=True,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}).stdout
    theirs = set(told.split())
    assert len(own) == 11 and len(theirs) == 10 and not own & theirs
    assert all(1 <= int(domain) <= 100 for domain in own | theirs)
