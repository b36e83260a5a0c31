"""Temperatures and thresholds on toy exits with known statistics."""

import numpy as np
import pytest
from toy_outputs import toy_outputs

from vit_tactile_ros.evaluation.calibration import (
    LEAST_TAU,
    LEVELS,
    TEMPERATURES,
    calibrate,
    candidates,
    choose_tau,
    find_path,
    fit_temperatures,
    lowest_tau,
    measure_drop,
    split_samples,
)
from vit_tactile_ros.evaluation.metrics import expected_calibration_error
from vit_tactile_ros.evaluation.outputs import choose_exits
from vit_tactile_ros.evaluation.resampling import check_promise
from vit_tactile_ros.foundation.errors import UserError


@pytest.mark.parametrize('scale', (0.5, 1.0, 3.0))
def test_temperatures_undo_a_scale(scale):
    """A temperature fitted to something else than the likelihood, or its inverse."""
    assert fit_temperatures(toy_outputs(8000, scale=scale)) == pytest.approx((scale,) * 3, rel=0.08)


def test_few_correct_samples_make_no_prediction_certain():
    """The temperature at the end of its range, and a confidence of 1.0 on all later images."""
    outputs = toy_outputs(600)
    right = outputs.subset(np.flatnonzero(outputs.right.all(axis=0))[:18])
    temperatures = fit_temperatures(right)
    assert min(temperatures) > 2 * TEMPERATURES[0]
    confidence = right.probabilities(temperatures).max(axis=2).mean(axis=1)
    assert ((confidence > 0.8) & (confidence < 0.99)).all()


def test_calibration_repairs_the_confidence():
    """Stored temperatures that do not make confidence equal accuracy."""
    outputs = toy_outputs(6000, scale=3.0)
    calibration = calibrate(outputs)
    new = toy_outputs(6000, seed=1, scale=3.0)
    for i in range(3):
        before, after = (expected_calibration_error(new.probabilities(t)[i].max(axis=1), new.right[i])
                         for t in ((), calibration.temperatures))
        assert after < 0.03 < before
        assert calibration.ece[i] == pytest.approx(after, abs=0.02)


@pytest.mark.parametrize(('size', 'is_enough'), [(19, False), (20, True), (39, True)])
def test_calibrate_and_check_need_as_many_samples(size, is_enough):
    """A part that calibrate accepted was refused by --check, which calibrates half of it."""
    outputs = toy_outputs(size)
    for run in (lambda: calibrate(outputs), lambda: check_promise(outputs, [0.05], rounds=3)):
        if is_enough:
            run()
        else:
            with pytest.raises(UserError, match='there are 19 samples; must be at least 20'):
                run()


def test_drop_is_counted_in_pairs():
    """Accuracies compared instead of predictions: the test needs the samples that lost and gained."""
    confidences = np.array([[0.9, 0.9, 0.9, 0.1], [1.0] * 4], np.float32)
    right = np.array([[True, False, False, True], [False, True, True, True]])
    drop = measure_drop(confidences, right, (0.5,))
    assert (drop.worse, drop.better, drop.num_samples) == (2, 1, 4)
    assert drop.mean == 0.25


def test_looser_bounds_give_lower_thresholds():
    """Bounds in reverse order."""
    drops = calibrate(toy_outputs(4000)).drops
    taus = [d.tau[0] for d in drops]
    assert taus == sorted(taus, reverse=True) and taus[0] == 1.0 > taus[-1]
    assert [d.max_accuracy_drop for d in drops] == sorted(d.max_accuracy_drop for d in drops)
    assert len({d.tau for d in drops}) > 2 and all(len(d.tau) == 2 for d in drops)


def test_the_thresholds_test_sees_no_sample_that_fitted():
    """Temperatures fitted to the samples that test the thresholds: the bound would not be valid."""
    fit, test = split_samples(1001, seed=0)
    assert sorted([*fit, *test]) == list(range(1001)) and 0.2 < len(fit) / 1001 < 0.3
    assert calibrate(toy_outputs(1001)).num_samples == len(test)


def test_too_few_samples_turn_early_exit_off():
    """A bound without evidence."""
    drop = choose_tau(toy_outputs(200), 0.001)
    assert drop.tau == (1.0, 1.0) and not drop.is_shown
    with pytest.raises(ValueError, match='there are 10 samples; must be at least 20'):
        calibrate(toy_outputs(10))


def test_recommended_tau_is_that_of_a_shown_bound():
    """Early exit off by default although another bound could be verified."""
    outputs = toy_outputs(600)
    calibration = calibrate(outputs, (0.001, 0.02, 0.05), recommend=0.005)
    shown = [d for d in calibration.drops if d.is_shown]
    assert not calibration.drops[0].is_shown and shown
    fit, test = (outputs.subset(i) for i in split_samples(600, 0))
    bound = shown[0].max_accuracy_drop
    assert calibration.tau == choose_tau(test, bound, temperatures=calibration.temperatures).tau[0]


@pytest.mark.parametrize('recommend', [0.0001, 0.001, 0.005, 0.03, 0.9])
def test_the_recommended_tau_is_found_without_testing_every_bound(recommend):
    """Each bound was tested a second time, with one threshold for all exits, though one of them is used."""
    outputs, bounds = toy_outputs(600), (0.001, 0.02, 0.04, 0.05)
    calibration = calibrate(outputs, bounds, recommend=recommend)
    _, test = (outputs.subset(i) for i in split_samples(600, 0))
    tested = [choose_tau(test, bound, temperatures=calibration.temperatures) for bound in bounds]
    shown = [d for d in tested if d.is_shown]
    wanted = ([d for d in shown if d.max_accuracy_drop <= recommend][-1:] or shown[:1])[0].tau[0]
    assert calibration.tau == max(wanted, LEAST_TAU)


def test_one_exit_alone():
    """A network without early exits, whose calibration has no threshold to choose."""
    outputs = toy_outputs(300)
    single = type(outputs)(outputs.logits[2:], outputs.labels, outputs.class_names, (3,), (1.0,))
    calibration = calibrate(single)
    assert len(calibration.temperatures) == 1 and calibration.drops[0].tau == () and calibration.tau == 1.0


def test_lowest_tau_obeys_its_own_samples():
    """The table of `sweep` needs the drop on validation, without a guarantee."""
    outputs = toy_outputs(2000)
    confidences = outputs.probabilities().max(axis=2)
    tau = lowest_tau(outputs, 0.004, ())
    assert measure_drop(confidences, outputs.right, tau).mean <= 0.004
    found = candidates(3, find_path(outputs, ()))
    assert measure_drop(confidences, outputs.right, found[found.index(tau) + 1]).mean > 0.004


def test_thresholds_fall_together_to_the_floor_of_each_exit():
    """A list that rises, or that starts at thresholds which few samples can verify."""
    path = [(0.7, 0.4), (0.5, 0.4), (0.0, 0.1)]
    found = candidates(3, path)
    assert found[0] == (LEVELS[0],) * 2 and found[-1] == (0.0, 0.0)
    assert [found.index(tau) for tau in path] == sorted(found.index(tau) for tau in path)
    # It stopped at the last entry, above the lowest level, and skipped the levels between two entries.
    assert max(high[i] - low[i] for high, low in zip(found, found[1:], strict=False) for i in (0, 1)) < 0.13
    assert all(a >= b for high, low in zip(found, found[1:], strict=False) for a, b in zip(high, low, strict=True))
    assert candidates(3) == [(level,) * 2 for level in dict.fromkeys(LEVELS)] and candidates(1) == []


def test_an_exit_that_is_much_worse_gets_a_higher_threshold():
    """One threshold for all exits, which sends images past a good exit because a bad one is as confident."""
    outputs = toy_outputs(4000)
    logits = outputs.logits.copy()
    logits[0, ::3] = logits[0, ::3, ::-1]  # a third of the predictions of the first exit is about anything
    logits[2] = logits[1]
    worse = type(outputs)(logits, outputs.labels, outputs.class_names, outputs.exits, outputs.compute_shares)
    fit, test = (worse.subset(i) for i in split_samples(4000, 0))
    found = [choose_tau(test, 0.02, path=path).tau for path in ((), find_path(fit, ()))]
    shared, own = (test.spent(choose_exits(test.scores(), tau))[1] for tau in found)
    assert found[1][0] > found[1][1] and own < shared - 0.02


def test_the_bound_holds_on_resampled_data():
    """At 90 % confidence, at least 9 of 10 calibrations keep the bound (here 60, 3 standard errors)."""
    for check in check_promise(toy_outputs(1500), (0.01, 0.02, 0.05), confidence=0.9, rounds=60):
        assert check.kept >= 60 * 0.9 - 3 * (60 * 0.9 * 0.1) ** 0.5
        assert len(check.drops) == 60 and 0 < check.compute_share < 1 and check.shown > 30
