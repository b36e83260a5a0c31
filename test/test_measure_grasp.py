"""The closed loop of a simulated gripper, and the law of the example that closes it."""

import json
import math

import measure_grasp
import pytest
from grip_law import BLIND, INTERRUPTED, LOST, ONSET, RELEASE, SLIP_BEGAN, SLIP_ENDED, GripLaw

from vit_tactile_ros.inference.touch_events import EventKind


def run(capsys, *arguments):
    measure_grasp.main(list(arguments))
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_objects_are_kept_if_slip_is_reported(capsys):
    """Three grasps: all kept by the true state, and none without tightening."""
    found = run(capsys, '--by', 'truth', 'never', 'firm', '--grasps', '3')
    assert found['truth']['kept'] == found['truth']['reported'] == found['firm']['kept'] == 3
    assert found['never']['kept'] == 0 and found['never']['slid_before_mm'] > found['truth']['slid_before_mm']
    assert found['truth']['force_over_needed'] < found['firm']['force_over_needed']


@pytest.fixture
def short(monkeypatch):
    """Grasps as short as the 2.5 s before evidence of slip and the pull allow."""
    monkeypatch.setattr(measure_grasp, 'CLOSES_S', 0.3)
    monkeypatch.setattr(measure_grasp, 'LASTS_S', 4.4)


@pytest.mark.usefixtures('short')
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
    """RELEASE opened the gripper; it is frequent on recorded grasps while the object is held. LOST let it tighten."""
    law.event(SLIP_BEGAN)
    law.result()
    force = law.step(0.05)
    law.event(kind)
    for _ in range(3):
        law.result()
        assert law.step(0.05) == force
    assert law.is_lost == (kind == LOST)
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
    force = law.force
    law.event(SLIP_ENDED)
    assert law.step(0.1) == law.step(0.1) == law.margin * force
    for _ in range(20):
        law.event(SLIP_BEGAN)
        law.event(SLIP_ENDED)
    assert law.force == law.largest_force


@pytest.mark.parametrize('before', [[], [SLIP_BEGAN, INTERRUPTED], [SLIP_BEGAN, LOST]])
def test_the_end_of_no_known_slip_changes_nothing(law, before):
    """It multiplied the force by the margin, whether a slip had begun or not."""
    for kind in (*before, SLIP_ENDED):
        law.event(kind)
    assert law.step(0.05) == law.holding_force


def test_a_held_up_controller_tightens_by_one_step_and_is_blind_as_long_as_it_was(law):
    """Its blindness counted at most 0.1 s per call."""
    law.event(SLIP_BEGAN)
    law.result()
    assert law.step(0.4) == pytest.approx(law.holding_force + 0.1 * law.tightening)
    assert law.step(0.2) == law.force == pytest.approx(law.holding_force + 0.1 * law.tightening)


def test_it_does_not_close_by_itself():
    law = GripLaw()
    for kind in (ONSET, SLIP_BEGAN, SLIP_ENDED, LOST):
        law.event(kind)
    assert law.step(0.05) == 0.0 and not law.is_lost


def test_nothing_is_lost_before_contact():
    """LOST is also reported while the gripper closes."""
    law = GripLaw()
    law.close()
    law.event(LOST)
    assert not law.is_lost
    law.event(ONSET)
    law.event(LOST)
    assert law.is_lost


def test_it_does_not_tighten_before_contact():
    """A slip reported while it was open made it tighten on the way to the object."""
    law = GripLaw()
    law.event(SLIP_BEGAN)
    law.close()
    law.result()
    assert law.step(0.05) == law.closing_force


@pytest.mark.parametrize('again', [lambda law: law.close(), lambda law: law.event(ONSET)], ids=['close', 'ONSET'])
def test_a_new_grasp_or_touch_does_not_slip(law, again):
    """A detector that restarts during a slip reports no end of it."""
    law.event(SLIP_BEGAN)
    again(law)
    law.result()
    assert law.step(0.05) == law.holding_force


@pytest.mark.parametrize('settings', [
    {'holding_force': 30.0}, {'closing_force': 5.0}, {'closing_force': 0.0}, {'holding_force': math.nan},
    {'largest_force': math.inf}, {'tightening': 0.0}, {'tightening': math.nan}, {'margin': 0.9}])
def test_settings_out_of_range(settings):
    """holding_force 30 with largest_force 20 commanded 30 N; NaN passed."""
    with pytest.raises(ValueError, match=f'{next(iter(settings))} (is )?{next(iter(settings.values())):g}'):
        GripLaw(**settings)
