"""The test behind the bounds: its error rate by simulation, and its extremes by hand."""

import numpy as np
import pytest
from scipy import stats

from vit_tactile_ros.evaluation.risk import NUISANCE_ERROR, drop_p_value, samples_needed


@pytest.mark.parametrize(('n', 'bound', 'gain'), (
    (500, 0.01, 0.0), (500, 0.01, 0.005), (500, 0.02, 0.05), (2000, 0.005, 0.0), (2000, 0.005, 0.01), (300, 0.05, 0.3),
))
def test_a_drop_at_the_bound_is_accepted_at_most_as_often_as_stated(n, bound, gain):
    """A test that is only valid for many samples: the bound would be exceeded more often than stated."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, (gain + bound, gain, 1 - 2 * gain - bound), size=2000)
    accepted = np.mean([drop_p_value(int(w), int(b), n, bound) <= 0.05 for w, b, _ in draws])
    # Three standard errors of 2000 draws above 5 %.
    assert accepted <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_exact_probability_at_the_extreme():
    """Against every outcome counted: n is small enough to do so."""
    n, bound = 30, 0.2
    p = drop_p_value(1, 1, n, bound)

    def score(w, b):  # Tango's, with the restricted estimate found by search
        q = np.linspace(1e-6, (1 - bound) / 2 - 1e-6, 20001)
        like = w * np.log(q + bound) + b * np.log(q) + (n - w - b) * np.log(1 - 2 * q - bound)
        gain = q[like.argmax()]
        return (w - b - n * bound) / np.sqrt(n * (2 * gain + bound - bound**2))

    worst, limit = 0.0, stats.beta.isf(NUISANCE_ERROR, 3, n - 2)
    extreme = [(w, b) for w in range(n + 1) for b in range(n + 1 - w) if score(w, b) <= score(1, 1) + 1e-4]
    for rate in np.linspace(bound, limit, 60):
        cell = ((rate + bound) / 2, (rate - bound) / 2, 1 - rate)
        worst = max(worst, sum(stats.multinomial.pmf((w, b, n - w - b), n, cell) for w, b in extreme))
    assert p == pytest.approx(worst + NUISANCE_ERROR, rel=0.02)


def test_the_p_value_rises_with_the_loss():
    """A p-value that falls when one more sample gets worse."""
    values = [drop_p_value(worse, 5, 1000, 0.01) for worse in range(20)]
    assert all(a <= b + 1e-12 for a, b in zip(values, values[1:], strict=False))
    assert values[15] == 1.0  # the observed drop is the bound


@pytest.mark.parametrize(('bound', 'low'), ((0.001, 2994), (0.005, 598), (0.05, 59)))
def test_samples_needed(bound, low):
    """A number on which calibrate fails again; (1 - bound)^n below 5 % is the least for any test."""
    needed = samples_needed(bound, 0.05)
    assert low <= needed <= 1.02 * low + 1
    assert drop_p_value(0, 0, needed, bound) <= 0.05 < drop_p_value(0, 0, needed - 1, bound)


@pytest.mark.parametrize('arguments', (
    (-1, 0, 10, 0.1), (6, 5, 10, 0.1), (0, 0, 0, 0.1), (1, 1, 10, 0.0), (1, 1, 10, 1.0),
))
def test_impossible_counts_are_refused(arguments):
    """A share given for a count, or a bound in percent."""
    with pytest.raises(ValueError, match='must be'):
        drop_p_value(*arguments)
