"""An object that a gripper holds: it slips below the force that its load needs, and no longer above it."""

import numpy as np
import pytest

from vit_tactile_ros.simulator import GELSIGHT, STATE_NAMES, GrippedObject


def states(force_of, seconds=6.0, seed=0):
    """(contact, state) 50 times a second; force_of: of the time and the state before."""
    held = GrippedObject(GELSIGHT, np.random.default_rng(seed))
    found = [(None, 'no_contact')]
    for i in range(int(50 * seconds)):
        found.append(held.at(i / 50, force_of(i / 50, found[-1][1])))
    return found[1:]


def test_an_open_gripper_touches_nothing():
    assert {state for _, state in states(lambda t, state: 0.0)} == {'no_contact'}


@pytest.mark.parametrize('seed', range(3))
def test_it_slips_unless_it_is_held_firmly_enough(seed):
    """A weak grip loses the object, a firm one does not slip, and one that tightens on slip ends the slip."""
    weak = states(lambda t, state: 1.5, seed=seed)
    assert 'slip' in {state for _, state in weak} and weak[-1] == (None, 'no_contact')
    firm = states(lambda t, state: 12.0, seed=seed)
    assert 'slip' not in {state for _, state in firm} and firm[-1][1] == 'stable'
    forces = [3.0]

    def tighten(t, state):
        forces.append(min(forces[-1] + (0.7 if state == 'slip' else 0.0), 20.0))
        return forces[-1]

    tightened = states(tighten, seed=seed)
    assert {state for _, state in tightened} == set(STATE_NAMES)
    assert 'slip' not in {state for _, state in tightened[-50:]} and 3.0 < forces[-1] < 20.0
    assert tightened[-1][0].depth_mm > next(c for c, _ in tightened[55:] if c).depth_mm  # pressed deeper


def test_after_it_has_opened_it_holds_the_next_object():
    found = states(lambda t, state: 0.0 if 2.0 < t < 2.5 else 5.0, seconds=4.0)
    touches = [contact is not None for contact, _ in found]
    assert touches[90] and not any(touches[110:125 + 29]) and touches[170]
    assert found[90][0].x_mm != found[170][0].x_mm


def test_forces_that_no_gripper_has():
    found = states(lambda t, state: 1e9 if t < 1.0 else -5.0, seconds=2.0)
    assert found[48][0].depth_mm < GELSIGHT.gel.max_depth_mm and found[-1][0] is None
