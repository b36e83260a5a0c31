"""The command that measures a latency budget under a step of load."""

import numpy as np
import pytest
from measure_load_step import LOADED, QUIET, labels, summary

from vit_tactile_ros.foundation.errors import RunError


def test_the_time_until_results_are_inside_again():
    """A node that is late for 2 s of 10 under load, and results of a frame compared with the class of another."""
    known = labels()
    rows = []
    for number in range(30 * 20):
        second = number / 30
        age, tau = (0.2, 0.9) if 5 <= second < 7 else (0.01, 0.5 if 7 <= second < 15 else 0.95)
        rows.append((1000 + second, age, tau, 4, known[number % len(known)]))
    found = summary(rows, 1005.0, 1015.0, 0.05)
    assert found['back inside, s'] == pytest.approx(2.0, abs=0.11)
    assert found[LOADED]['late'] == pytest.approx(0.2, abs=0.01) and found[LOADED]['right'] == 1
    assert found[QUIET]['late'] == 0 and found[QUIET]['tau'] == 0.95 and found[LOADED]['ms'][1] == 200
    assert len(set(known)) > 2 and np.mean([name == 'no_contact' for name in known]) < 0.5
    assert summary(rows, 1005.0, 1006.9, 0.05)['back inside, s'] is None


def test_phases_without_results():
    """A node that stops under load: the table of the other phases was lost with a traceback."""
    rows = [(1000 + number / 30, 0.01, 0.95, 4, 'sphere') for number in range(60)]
    found = summary(rows, 1010.0, 1020.0, 0.05)
    assert found[LOADED] == found['after the load'] == {'results': 0} and found[QUIET]['results'] > 0
    assert found['back inside, s'] is None
    with pytest.raises(RunError, match='0 results'):
        summary([], 1010.0, 1020.0, 0.05)
