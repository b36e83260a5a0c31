"""Measured times on a toy network: early exit is really run and timed."""

import time

import numpy as np
import pytest
from toy_outputs import toy_checkpoint

from vit_tactile_ros.evaluation.timing import measure_times, spread_sample
from vit_tactile_ros.inference.classifier import TactileClassifier


def test_times_follow_the_exits():
    """A speed-up that is modelled, or timed with stages that were not needed."""
    classifier = TactileClassifier(toy_checkpoint(), 'cpu', threads=1)
    for stage in classifier.runtime._model.stage_modules:
        stage.register_forward_hook(lambda *_: time.sleep(0.02))
    timing = measure_times(classifier, np.zeros((3, 3, 32, 32), np.float32), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)], 2)
    assert 0.02 <= timing.exits[0] < timing.exits[1] < timing.exits[2] and timing.exits[2] >= 0.06 <= timing.full
    assert timing.speed_up(0) > timing.speed_up(1) > timing.speed_up(2) and timing.speed_up(0) > 0.5
    assert timing.full / (1 + timing.speed_up(1)) == pytest.approx(timing.early[1]) and timing.early[1] >= 0.04
    assert (timing.images, timing.rounds) == (3, 2)


def test_sample_is_spread_over_the_confidences():
    """Images of one kind, whose exits are not those of the data."""
    confidence = np.random.default_rng(0).permutation(np.linspace(0, 1, 1000))
    chosen = np.sort(confidence[spread_sample(confidence, 10)])
    np.testing.assert_allclose(chosen, np.arange(0.05, 1, 0.1), atol=0.002)
    assert sorted(spread_sample(confidence[:4], 10)) == [0, 1, 2, 3]
