"""The rule for slip of measure_slip.py that needs evidence for two seconds."""

import numpy as np
import pytest
from measure_slip import RATE, sustained


def test_evidence_must_last():
    """An alarm by a single frame, or by many frames in a long clip that are not together."""
    odds = np.full(10 * RATE, -1.0)
    odds[::10] = 9.0  # a tenth of the frames
    assert sustained(odds) == pytest.approx(0.0)
    odds[:] = -1.0
    odds[100:100 + 2 * RATE] = 2.0
    assert sustained(odds) == pytest.approx(2.0) and sustained(odds[90:200]) == pytest.approx(2.0)


def test_a_short_clip_is_judged_by_its_mean():
    """A window that is filled up beyond the end of a clip: its length would count."""
    assert sustained(np.array([1.0, 2.0, 6.0])) == pytest.approx(3.0)
