"""The bound on touches of known classes that are reported as unknown."""

import dataclasses

import numpy as np
import pytest
import torch
from toy_outputs import ToyFrames, toy_checkpoint

from vit_tactile_ros.evaluation.false_unknown import (
    can_be_bounded,
    known_touches,
    predicted_unknown,
    shift,
    shift_for,
    shifted,
)
from vit_tactile_ros.evaluation.outputs import ExitOutputs, collect_outputs

NAMES = ('no_contact', 'ball', 'edge', 'unknown')


def outputs(size: int, seed: int) -> ExitOutputs:
    """Two exits that take a tenth or more of the known touches for unknown."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size)
    logits = 2.5 * np.eye(4)[labels] + rng.normal(size=(2, size, 4))
    return ExitOutputs(logits.astype(np.float32), labels, NAMES, (1, 2), (0.5, 1.0))


def false_share(found: ExitOutputs) -> float:
    """At any exit."""
    return predicted_unknown(found)[:, known_touches(found)].any(axis=0).mean()


def test_the_bound_holds_for_touches_that_it_was_not_chosen_on():
    """A threshold at the plain quantile breaks it in about half of the draws."""
    rest = outputs(40_000, 1000)
    held = [false_share(shifted(rest, shift_for(outputs(600, seed), 0.02, 0.95))) <= 0.02 for seed in range(100)]
    assert np.mean(held) >= 0.88  # 95 % expected; 3 standard deviations below
    assert false_share(rest) > 0.02
    # It is not kept by reporting nothing as unknown.
    kept = shifted(rest, shift_for(outputs(600, 0), 0.02, 0.95))
    assert predicted_unknown(kept)[:, kept.labels == 3].mean() > 0.5


def test_a_bound_that_holds_already_changes_nothing():
    assert shift_for(outputs(2000, 0), 0.5, 0.95) == 0.0


def test_too_few_samples_show_no_bound():
    few = outputs(60, 0)
    assert known_touches(few).sum() < 59  # 0.95 ** 59 is 0.0485
    assert shift_for(few, 0.05, 0.95) is None
    assert shift_for(outputs(200, 0), 0.05, 0.95) is not None


def test_only_with_the_class_and_with_touches_of_others():
    found = outputs(50, 0)
    assert can_be_bounded(found)
    assert not can_be_bounded(dataclasses.replace(found, class_names=('no_contact', 'ball', 'edge', 'other')))
    assert not can_be_bounded(found.subset(np.flatnonzero((found.labels == 0) | (found.labels == 3))))


@pytest.mark.parametrize('added', (False, True))
def test_the_network_predicts_as_the_shifted_outputs(added):
    """With added exits, a shift that adds up from exit to exit."""
    checkpoint = toy_checkpoint(names=NAMES)
    checkpoint = dataclasses.replace(checkpoint, model=checkpoint.model.changed(added_exits=added))
    before = collect_outputs(checkpoint.model, ToyFrames(), checkpoint.preprocessing, class_names=NAMES)
    shift(checkpoint.model, NAMES, -1.5)
    after = collect_outputs(checkpoint.model, ToyFrames(), checkpoint.preprocessing, class_names=NAMES)
    np.testing.assert_allclose(after.logits, shifted(before, -1.5).logits, atol=1e-5)
    assert not torch.equal(torch.from_numpy(after.logits), torch.from_numpy(before.logits))
