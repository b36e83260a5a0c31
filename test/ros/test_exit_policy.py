"""Who decides when an image exits; no node around it."""

from __future__ import annotations

import pytest

from vit_tactile_ros.model import Calibration, DropBound
from vit_tactile_ros.ros.exit_policy import NO_DROP, ExitPolicy, PolicyError

CALIBRATED = Calibration(tau=0.7, drops=(DropBound(0.001, 0.95, (1.0, 1.0)), DropBound(0.005, 0.95, (0.9, 0.8)),
                                         DropBound(0.02, 0.95, (0.0, 0.0))), num_samples=1000)


def in_force(policy: ExitPolicy, calibration: Calibration = CALIBRATED):
    return policy.in_force(calibration, 3)


def set_drop(policy: ExitPolicy, drop: float) -> ExitPolicy:
    return policy.after({'max_accuracy_drop': drop}, in_force(policy).shown)


def test_the_checkpoint_decides_where_nothing_is_set():
    policy = ExitPolicy.at_start(None, NO_DROP)
    assert policy.source == 'checkpoint'
    assert in_force(policy).thresholds == (0.7, 0.7)
    assert in_force(policy).shown == {'tau': 0.7, 'max_accuracy_drop': NO_DROP}


@pytest.mark.parametrize(('tau', 'source', 'thresholds'), [
    (None, 'checkpoint', (0.7, 0.7)), (0.5, 'tau', (0.5, 0.5)), ([1, 0.25], 'tau', (1.0, 0.25))])
def test_taken_back_it_is_as_before(tau, source, thresholds):
    """The bound's thresholds stayed in force as if the user had chosen them."""
    policy = ExitPolicy.at_start(tau, NO_DROP)
    for drop in (0.005, 0.02):
        policy = set_drop(policy, drop)
        assert policy.source == 'max_accuracy_drop'
    policy = set_drop(policy, NO_DROP)
    assert policy.source == source
    assert in_force(policy).thresholds == thresholds


def test_tau_ends_a_bound_for_good():
    policy = set_drop(ExitPolicy(0.5), 0.005).after({'tau': 1}, {'tau': [0.9, 0.8], 'max_accuracy_drop': 0.005})
    assert (policy.source, in_force(policy).thresholds) == ('tau', (1.0, 1.0))
    assert in_force(set_drop(set_drop(policy, 0.005), NO_DROP)).thresholds == (1.0, 1.0)


def test_both_at_once_are_refused_unless_they_are_what_is_shown():
    """Parameters that are saved and loaded again name both, and change nothing."""
    policy = set_drop(ExitPolicy(0.5), 0.005)
    shown = in_force(policy).shown
    assert shown == {'tau': [0.9, 0.8], 'max_accuracy_drop': 0.005}
    assert policy.after(shown, shown) == policy
    for given in ({'tau': 0.9, 'max_accuracy_drop': 0.005}, {'tau': [0.9, 0.8], 'max_accuracy_drop': 0.02}):
        with pytest.raises(PolicyError, match='give only one of them'):
            policy.after(given, shown)


def test_both_at_the_start_are_refused_until_one_is_set():
    policy = ExitPolicy.at_start(0.5, 0.005)
    with pytest.raises(PolicyError, match=r'tau is 0.5 and max_accuracy_drop is 0.005; give only one'):
        in_force(policy)
    assert in_force(policy.after({'tau': 0.6}, {})).thresholds == (0.6, 0.6)
    assert in_force(policy.after({'max_accuracy_drop': 0.02}, {})).thresholds == (0.0, 0.0)
    assert in_force(policy.after({'max_accuracy_drop': NO_DROP}, {})).thresholds == (0.5, 0.5)


def test_the_thresholds_of_a_bound_are_said():
    """With max_accuracy_drop, tau became 0 without a trace in the log."""
    assert in_force(ExitPolicy(max_accuracy_drop=0.02)).notes == (
        'max_accuracy_drop 0.02: tau is 0, 0, so every image exits at the first exit at the latest; the bound does not '
        'include errors of the gate',)
    assert 'max_accuracy_drop 0.005: tau is 0.9, 0.8; the' in in_force(ExitPolicy(max_accuracy_drop=0.005)).notes[0]
    assert not in_force(ExitPolicy(0.5)).notes


def test_the_next_stricter_bound_is_named():
    result = in_force(ExitPolicy(max_accuracy_drop=0.019))
    assert result.thresholds == (0.9, 0.8) and result.max_accuracy_drop == 0.019
    assert 'the next stricter one, 0.005, is used' in result.notes[0] and not result.warnings
    result = in_force(ExitPolicy(max_accuracy_drop=0.001))
    assert result.thresholds == (1.0, 1.0) and 'could not be guaranteed' in result.warnings[0] and not result.notes


@pytest.mark.parametrize(('policy', 'calibration', 'reason'), [
    (ExitPolicy(max_accuracy_drop=0.0005), CALIBRATED, 'not for 0.0005 or less'),
    (ExitPolicy(max_accuracy_drop=0.01), Calibration(), 'not calibrated'),
    (ExitPolicy([0.5, 0.5, 0.5, 0.5]), CALIBRATED, 'tau has 4 values'),
])
def test_what_a_checkpoint_does_not_allow(policy, calibration, reason):
    with pytest.raises(PolicyError, match=reason):
        in_force(policy, calibration)
