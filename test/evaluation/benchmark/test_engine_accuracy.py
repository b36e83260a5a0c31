"""What an engine costs in accuracy: the same touches, the same labels, the same rule."""

import numpy as np
import pytest
import torch
from toy_outputs import ToyFrames, toy_checkpoint, toy_outputs

from vit_tactile_ros.evaluation.benchmark.engine_accuracy import compare_accuracy, outputs_of_engines
from vit_tactile_ros.evaluation.outputs import collect_outputs
from vit_tactile_ros.inference.engines.eager import TorchRuntime


def test_the_same_outputs_as_in_calibration():
    """Images, labels or exits mixed up between batches; a last batch that is left out."""
    checkpoint, frames = toy_checkpoint(), ToyFrames(11)
    plain = TorchRuntime(checkpoint.model, torch.device('cpu'))
    for outputs in outputs_of_engines((plain, plain), frames, checkpoint, 11, 4):
        wanted = collect_outputs(checkpoint.model, frames, checkpoint.preprocessing)
        np.testing.assert_allclose(outputs.logits, wanted.logits, atol=1e-4)
        np.testing.assert_array_equal(outputs.labels, wanted.labels)
    other = toy_checkpoint()
    for parameter in other.model.parameters():
        parameter.data.mul_(0.9)
    pair = outputs_of_engines((plain, TorchRuntime(other.model, torch.device('cpu'))), frames, checkpoint, 11, 4)
    for outputs, model in zip(pair, (checkpoint.model, other.model), strict=True):
        wanted = collect_outputs(model, frames, checkpoint.preprocessing)
        np.testing.assert_allclose(outputs.logits, wanted.logits, atol=1e-4)
    assert len(outputs_of_engines((plain,), frames, checkpoint, 3, 4)[0]) == 3


def test_points_are_the_engines_minus_plain_torchs():
    """A wrong sign, or shares instead of points: an engine that loses accuracy would seem to gain it."""
    plain, engine = toy_outputs(1000), toy_outputs(1000)
    lost = np.flatnonzero(plain.right[2] & plain.right[0])[:30]
    for exit_index in (0, 2):
        engine.logits[exit_index, lost, engine.labels[lost]] = -100.0
    found = compare_accuracy(engine, plain, (0.0, 0.0), ())
    assert found['n'] == 1000 and found['exits']['3']['points'] == pytest.approx(-3.0)
    assert found['exits']['2']['points'] == 0 and found['other_class_share'] == pytest.approx(0.03)
    assert found['early']['accuracy'] == found['exits']['1']['accuracy']  # at tau 0 all leave there
    assert found['early']['points'] == pytest.approx(-3.0)
    assert found['early']['points_below_full'] == pytest.approx(
        100 * (plain.right[2].mean() - engine.right[0].mean()))
