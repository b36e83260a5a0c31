"""The bootstrap over touches against cases whose result is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vit_tactile_ros.evaluation.recordings.comparison import Estimate, Predictions, compare


def predictions(class_id, compute=1.0, time=0.01) -> Predictions:
    class_id = np.asarray(class_id)
    return Predictions(class_id, np.full(len(class_id), compute), np.full(len(class_id), time))


def toy(touches: int, frames: int, gain: float, seed: int = 0):
    """Touches of equal frames: A is right in half of them, B turns a share `gain` of the wrong ones right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, touches)
    right_a = rng.random(touches) < 0.5
    right_b = right_a | (rng.random(touches) < gain)
    a, b = np.where(right_a, labels, 3), np.where(right_b, labels, 3)
    return (*(np.repeat(x, frames) for x in (a, b, labels, np.arange(touches))), right_a, right_b)


@pytest.mark.parametrize('frames', [1, 25])
def test_interval_is_of_touches_not_frames(frames):
    """The interval of 200 touches: as wide as the binomial one, whatever the number of frames in each."""
    a, b, labels, touches, right_a, right_b = toy(200, frames, 0.4)
    found = compare(predictions(a), predictions(b), labels, touches, 4, resamples=4000).estimates['accuracy']
    gained = int((right_b & ~right_a).sum())
    low, high = (stats.binom.ppf(q, 200, gained / 200) / 200 for q in (0.025, 0.975))
    assert found.value == pytest.approx(gained / 200)
    assert found.low == pytest.approx(low, abs=0.008) and found.high == pytest.approx(high, abs=0.008)


def test_interval_covers_the_true_value():
    """Of 95 % intervals, more or fewer than about 95 % hold the true gain (0.5 * 0.4)."""
    held = 0
    for seed in range(300):
        a, b, labels, touches, *_ = toy(60, 3, 0.4, seed)
        found = compare(predictions(a), predictions(b), labels, touches, 4, resamples=400, seed=seed)
        held += found.estimates['accuracy'].low <= 0.2 <= found.estimates['accuracy'].high
    assert 0.90 <= held / 300 <= 0.98


def test_counts_and_estimates():
    """Every figure of a case that is small enough to count."""
    labels = np.array([0, 0, 0, 1, 1, -1])
    a, b = np.array([0, 0, 1, 1, 0, 0]), np.array([0, 1, 1, 1, 1, 1])
    side_a, side_b = predictions(a, 1.0, 0.010), predictions(b, 0.5, 0.004)
    found = compare(side_a, side_b, labels, np.array([7, 7, 7, 9, 9, -1]), 2, resamples=50)
    assert (found.frames, found.touches) == (5, 2)
    assert found.frame_counts == {'both_right': 2, 'only_a': 1, 'only_b': 1, 'both_wrong': 1}
    assert found.touch_counts == {'better_a': 1, 'better_b': 1, 'equal': 0}
    assert found.sign_p_value == 1.0
    values = {name: estimate.value for name, estimate in found.estimates.items()}
    assert values == pytest.approx({
        'agreement': 3 / 5, 'accuracy_a': 3 / 5, 'accuracy_b': 3 / 5, 'accuracy': 0.0,
        'balanced_accuracy': (-1 / 3 + 1 / 2) / 2, 'compute_a': 1.0, 'compute_b': 0.5, 'compute': -0.5,
        'latency_a': 0.010, 'latency_b': 0.004, 'latency': -0.006, 'latency_ratio': 0.4})
    assert {c: e.value for c, e in found.recalls.items()} == pytest.approx({0: -1 / 3, 1: 1 / 2})
    # A resample holds touch 7 twice, 9 twice, or both: these values and no others.
    assert found.estimates['accuracy'].low == pytest.approx(-1 / 3)
    assert found.estimates['accuracy'].high == pytest.approx(1 / 2)


def test_sign_test_over_touches():
    """Ten touches all better in B: chance 2 / 2^10, whatever the frames."""
    labels = np.repeat(np.zeros(10, np.int64), 4)
    found = compare(predictions(labels + 1), predictions(labels), labels, np.repeat(np.arange(10), 4), 2, resamples=20)
    assert found.sign_p_value == pytest.approx(2 / 2**10)


def test_without_labels():
    """Accuracies of frames that have no label; intervals without any touch."""
    unknown = np.full(4, -1)
    found = compare(predictions([0, 1, 1, 2]), predictions([0, 1, 2, 2], 0.5), unknown, unknown, 3)
    assert (found.frames, found.touches) == (4, 0)
    assert found.estimates['agreement'].value == 0.75 and np.isnan(found.estimates['agreement'].low)
    assert found.estimates['compute'].value == -0.5
    assert 'accuracy' not in found.estimates and not found.recalls and not found.frame_counts


def test_seeded_whatever_the_chunks(monkeypatch):
    """Results that change from run to run."""
    a, b, labels, touches, *_ = toy(50, 2, 0.3)
    first = compare(predictions(a), predictions(b), labels, touches, 4, resamples=300, seed=1)
    assert compare(predictions(a), predictions(b), labels, touches, 4, resamples=300, seed=1) == first
    monkeypatch.setattr('vit_tactile_ros.evaluation.recordings.comparison._CHUNK', 1000)
    assert compare(predictions(a), predictions(b), labels, touches, 4, resamples=300, seed=1) == first
    assert compare(predictions(a), predictions(b), labels, touches, 4, resamples=300, seed=2) != first


def test_unequal_columns():
    with pytest.raises(ValueError, match=r'\[2, 3\] frames'):
        compare(predictions([0, 1]), predictions([0, 1, 1]), np.array([0, 1]), np.array([0, 1]), 2)


def test_times_count_where_both_sides_have_one():
    """A replay times every eighth frame or so: one NaN made all times of a comparison NaN."""
    labels, touches = np.zeros(6, np.int64), np.arange(6) // 2
    a, b = (Predictions(labels, np.ones(6), np.array(times)) for times in (
        [0.02, np.nan, 0.04, 0.9, np.nan, 0.03], [0.01, 0.7, 0.02, np.nan, np.nan, 0.03]))
    found = compare(a, b, labels, touches, 2).estimates
    assert found['latency_a'].value == pytest.approx(0.03) and found['latency_b'].value == pytest.approx(0.02)
    assert found['latency_ratio'].value == pytest.approx(2 / 3) and found['latency'].low < found['latency'].high


def test_a_class_of_one_touch_has_no_interval():
    """Every draw of a single touch is the same: an interval of no width, which looked exact."""
    labels = np.array([0, 0, 1, 1, 1])
    found = compare(predictions(labels), predictions([0, 1, 1, 1, 1]), labels, np.array([0, 0, 1, 2, 3]), 2)
    assert found.recalls[0].value == -0.5 and np.isnan(found.recalls[0].low) and np.isnan(found.recalls[0].high)
    assert found.recalls[1].low == found.recalls[1].high == 0.0


def test_an_estimate_as_text():
    assert Estimate(0.5, 0.25, 0.75).text() == '0.500 (0.250 to 0.750)'
    assert Estimate(0.5, -0.25, 0.75).text('{:+.1f}'.format) == '+0.5 (-0.2 to +0.8)'
    assert Estimate(0.5).text() == '0.500 (-)'
