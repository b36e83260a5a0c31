"""Stored logits and the decisions from them: the same as those of the network, one by one or in a batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_outputs import NAMES, ToyFrames, toy_checkpoint, toy_outputs

from vit_tactile_ros.evaluation.cache import cached_outputs, fingerprint
from vit_tactile_ros.evaluation.outputs import collect_outputs, inputs_of
from vit_tactile_ros.evaluation.parts import Part
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Calibration, early_exit

TEMPERATURES = (1.7, 0.8, 1.1)


@pytest.fixture(scope='module')
def collected():
    checkpoint = toy_checkpoint()
    return checkpoint, collect_outputs(checkpoint.model, ToyFrames(), checkpoint.preprocessing, 'cpu', 16,
                                       class_names=NAMES)


@pytest.mark.parametrize('tau', (0.0, 0.4, 0.6, 1.0, (0.3, 0.6), (1.0, 0.0)))
def test_decide_is_early_exit(collected, tau):
    """A sweep that decides differently from the live node: another comparison, softmax or temperature."""
    checkpoint, outputs = collected
    frames = ToyFrames()
    inputs = torch.from_numpy(inputs_of(frames, checkpoint.preprocessing, range(len(frames))))
    limits = tau if isinstance(tau, tuple) else (tau, tau)
    with torch.inference_mode():
        wanted = early_exit(checkpoint.model.stages(inputs), limits, TEMPERATURES)
    exits, answers, confidence = outputs.decide(tau, TEMPERATURES)
    assert exits.tolist() == wanted.exit_index.tolist()
    assert answers.tolist() == wanted.probabilities.argmax(dim=1).tolist()
    np.testing.assert_allclose(confidence, wanted.probabilities.amax(dim=1).numpy(), atol=1e-5)


def test_the_taus_above_split_the_samples(collected):
    """With samples that all exit at one block, the test above would pass with any rule."""
    assert set(collected[1].decide(0.6, TEMPERATURES)[0].tolist()) == {0, 1, 2}


def test_decide_keeps_a_probability_of_one_at_tau_one():
    """Early exits at tau 1, because a float32 softmax reaches exactly 1."""
    outputs = toy_outputs(50, scale=100.0)
    assert (outputs.probabilities()[0].max(axis=1) == 1.0).any()
    assert set(outputs.decide(1.0)[0].tolist()) == {2}


def test_float32_threshold():
    """A tau that float32 rounds: numpy and torch must round it alike."""
    outputs = toy_outputs(200)
    for tau in outputs.probabilities()[0].max(axis=1)[:20].astype(float):
        def stages(logits=outputs.logits):
            rows = torch.arange(200)
            for one in torch.from_numpy(logits):
                kept = yield one[rows]
                rows = rows if kept is None else rows[kept]
        wanted = early_exit(stages(), (tau, tau), (1.0, 1.0, 1.0))
        assert outputs.decide(tau)[0].tolist() == wanted.exit_index.tolist()


def test_collecting_does_not_change_the_model():
    """Validation inside training that leaves the network in eval mode."""
    checkpoint = toy_checkpoint()
    checkpoint.model.train()
    collect_outputs(checkpoint.model, ToyFrames(8), checkpoint.preprocessing)
    assert checkpoint.model.training


def test_labels_without_a_class_are_refused():
    """A dataset with more classes than the network, silently counted as wrong predictions."""
    checkpoint = toy_checkpoint()
    with pytest.raises(ValueError, match=r'labels are 0 to \d+; must be 0 to 3'):
        collect_outputs(checkpoint.model, ToyFrames(40, classes=9), checkpoint.preprocessing)


def test_no_image_and_numbers_that_are_not_finite_are_refused():
    """Rates and accuracies would be NaN."""
    checkpoint = toy_checkpoint()
    with pytest.raises(ValueError, match='no image to evaluate'):
        collect_outputs(checkpoint.model, ToyFrames(0), checkpoint.preprocessing)
    next(checkpoint.model.parameters()).data.fill_(torch.nan)
    with pytest.raises(UserError, match='not finite: the checkpoint is unusable'):
        collect_outputs(checkpoint.model, ToyFrames(8), checkpoint.preprocessing)


def test_cache_depends_on_checkpoint_and_data(tmp_path):
    """Outputs of another network or other images, used by mistake."""
    frames, checkpoint = ToyFrames(), toy_checkpoint()
    part = Part(40, 'toys', 'toys 40', lambda: frames)
    first = cached_outputs(tmp_path, checkpoint, part)
    assert frames.reads == 40
    again = cached_outputs(tmp_path, checkpoint, part)
    assert frames.reads == 40
    np.testing.assert_array_equal(first.logits, again.logits)
    assert again.class_names == NAMES and again.exits == (1, 2, 3)
    # What calibrate writes changes no logit.
    calibrated = replace(checkpoint, calibration=Calibration(temperatures=(2.0, 2.0, 2.0)))
    assert fingerprint(calibrated) == fingerprint(checkpoint)
    cached_outputs(tmp_path, checkpoint, replace(part, key='toys of today'))
    assert frames.reads == 80
    other = toy_checkpoint()
    with torch.no_grad():
        other.model.stage_modules[2].head.classify.bias[0] += 1
    cached_outputs(tmp_path, other, part)
    assert frames.reads == 120


def test_a_damaged_cache_is_made_again(tmp_path):
    """A run killed while writing, after which nothing works until the user deletes a file."""
    frames, checkpoint = ToyFrames(), toy_checkpoint()
    part = Part(40, 'toys', 'toys 40', lambda: frames)
    cached_outputs(tmp_path, checkpoint, part)
    file, = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    cached_outputs(tmp_path, checkpoint, part)
    assert frames.reads == 80
