"""The closed loop of a simulated gripper, and the law of the example that closes it."""

import json

import pytest
from grip_law import BLIND, INTERRUPTED, LOST, ONSET, RELEASE, SLIP_BEGAN, SLIP_ENDED, GripLaw
from measure_grasp import main

from vit_tactile_ros.inference.touch_events import EventKind


def run(capsys, *arguments):
    main(list(arguments))
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_objects_are_kept_if_slip_is_reported(capsys):
    """Six grasps: all kept by the true state, and at most one without tightening; the same seeds give the same."""
    found = run(capsys, '--by', 'truth', 'never', 'firm', '--grasps', '6')
    assert found['truth']['kept'] == found['truth']['reported'] == found['firm']['kept'] == 6
    assert found['never']['kept'] <= 1 and found['never']['slid_before_mm'] > found['truth']['slid_before_mm']
    assert found['truth']['force_over_needed'] < found['firm']['force_over_needed']
    assert run(capsys, '--by', 'truth', '--grasps', '6')['truth'] == found['truth']


def test_with_the_shipped_detector(capsys):
    """One grasp, with images: the slip is reported, and the object kept."""
    found = run(capsys, '--by', 'shipped', '--grasps', '1')['shipped']
    assert found['kept'] == found['reported'] == 1 and found['false'] == 0


def test_kinds_are_those_of_the_message():
    assert {ONSET, RELEASE, INTERRUPTED, SLIP_BEGAN, SLIP_ENDED, LOST} == {
        EventKind[name] for name in ('ONSET', 'RELEASE', 'INTERRUPTED', 'SLIP_BEGAN', 'SLIP_ENDED', 'LOST')}


@pytest.fixture
def law():
    """Holds an object."""
    law = GripLaw()
    law.close()
    law.event(ONSET)
    return law


@pytest.mark.parametrize('kind', [RELEASE, LOST, INTERRUPTED])
def test_it_opens_only_when_asked(law, kind):
    """RELEASE opened the gripper; on recorded grasps it is frequent while the object is held."""
    law.event(SLIP_BEGAN)
    law.event(kind)
    law.result()
    if kind != LOST:
        assert law.step(0.05) == law.holding_force
    assert law.step(0.05) >= law.holding_force and law.is_lost == (kind == LOST)
    law.open()
    assert law.step(0.05) == 0.0 and not law.is_lost


def test_it_tightens_while_the_object_slips_and_results_arrive(law):
    law.event(SLIP_BEGAN)
    law.result()
    assert law.step(0.1) == pytest.approx(law.holding_force + 0.1 * law.tightening)
    force = law.step(BLIND)
    assert force == law.step(0.1) < law.largest_force, 'no result for BLIND s'
    law.result()
    assert law.step(0.1) > force
    law.event(SLIP_ENDED)
    assert law.step(0.1) == law.step(0.1) > law.margin * force
    for _ in range(20):
        law.event(SLIP_ENDED)
    assert law.force == law.largest_force


def test_it_does_not_close_by_itself():
    law = GripLaw()
    for kind in (ONSET, SLIP_BEGAN, SLIP_ENDED, LOST):
        law.event(kind)
    assert law.step(0.05) == 0.0 and not law.is_lost
