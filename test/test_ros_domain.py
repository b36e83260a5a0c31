"""The ROS domain of each process that tests."""

from __future__ import annotations

import os

from ros_domain import claimed_domain


def test_no_two_processes_share_one():
    """It was the last two digits of the process number: two test runs deactivated one another's nodes."""
    domains = [os.environ['ROS_DOMAIN_ID'], *(claimed_domain() for _ in range(3))]
    assert len(set(domains)) == 4 and all(1 <= int(domain) <= 100 for domain in domains)
