"""A ROS domain for each process that tests, so that no other robot, demo or test run on the machine is heard."""

from __future__ import annotations

import os
import socket

DOMAINS = 100  # 1 to 100: the ports of higher ones are those that Linux gives to other programs

_claimed: list[socket.socket] = []  # the kernel lets go of their names when the process ends, however it ends


def claimed_domain() -> str:
    """The number of a domain that no other process has claimed, until this one ends."""
    for number in range(DOMAINS):
        domain = str(1 + (os.getpid() + number) % DOMAINS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f'\0vit_tactile_ros tests, ROS domain {domain}')
        except OSError:  # in use
            claim.close()
        else:
            _claimed.append(claim)
            return domain
    raise RuntimeError(f'all {DOMAINS} ROS domains of the tests are in use; end other test runs')
