"""The tool that measures what exits are worth."""

import json

import numpy as np
import pytest
import torch
from measure_exits import at_cost, entropy, exits_at, learned, main, margin, measure, own, shared

from vit_tactile_ros.evaluation.outputs import ExitOutputs
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Checkpoint, ModelConfig, PreprocessingConfig, ViTTactile, save_checkpoint
from vit_tactile_ros.simulator import IMPRINT_NAMES


def outputs(seed, size=400):
    """Three exits, of which each is better than the one before, and the first is confident where it is right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size)
    logits = rng.standard_normal((3, size, 4)).astype(np.float32)
    for exit_index, strength in enumerate((1.0, 2.0, 4.0)):
        logits[exit_index, np.arange(size), labels] += strength
    return ExitOutputs(logits, labels, tuple('abcd'), (1, 2, 4), (0.25, 0.5, 1.0))


def test_scores_of_certain_and_uncertain_predictions():
    probabilities = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1]])
    assert margin(probabilities) == pytest.approx([1, 0, 0.3])
    assert entropy(probabilities) == pytest.approx([1, 0, 0.182], abs=0.001)


def test_exits_that_take_longer_than_the_last_are_off():
    """Times measured beside other work: IndexError."""
    validation, costs = outputs(0), np.array([1.2, 1.1, 1.0])
    scores = validation.scores()
    found = own(scores, np.ones_like(validation.right), costs)
    assert found == [(1.0, 1.0)]
    assert set(exits_at(scores, at_cost(found, scores, costs, 0.4))) == {2}


@pytest.mark.parametrize('make', (shared, own))
def test_thresholds_are_the_first_within_the_cost(make):
    validation, costs = outputs(0), np.array([0.25, 0.5, 1.0])
    scores = validation.scores()
    found = make(scores, validation.right, costs)
    for limit in (0.3, 0.5, 0.7):
        place = found.index(at_cost(found, scores, costs, limit))
        spent = [costs[exits_at(scores, tau)].mean() for tau in found[max(place - 1, 0):place + 1]]
        assert spent[-1] <= limit and (place == 0 or spent[0] > limit)
    assert at_cost(found, scores, costs, 0.1) == found[-1]


def test_figures_are_those_of_the_outputs():
    validation, test = outputs(0), outputs(1)
    found = measure(validation, test, (0.001, 0.002, 0.004), 2.0)
    np.testing.assert_allclose(found['accuracy'], test.right.mean(axis=1), atol=1e-4)
    assert found['accuracy'] == sorted(found['accuracy']) and found['cost'] == [0.25, 0.5, 1.0]
    for figures in found['scores'].values():
        assert all(0.5 < area < 1 for area in figures['auroc'])
        for kind in ('one threshold', 'one for each exit'):
            worse, better = figures[kind]['worse, better']
            assert figures[kind]['points lost'] == pytest.approx(100 * (worse - better) / 400, abs=0.01)
            assert figures[kind]['cost'] < 0.56 and sum(figures[kind]['rates']) == pytest.approx(1, abs=0.01)
    probabilities = validation.probabilities()
    assert learned(probabilities, validation.right, probabilities)[-1].min() == 1


def test_one_exit_has_nothing_to_compare_with(tmp_path):
    config = ModelConfig(num_classes=len(IMPRINT_NAMES), image_size=(32, 48), width=48, depth=2, exits=(2,),
                         feature_map_dim=16)
    path = tmp_path / 'checkpoint.safetensors'
    save_checkpoint(path, Checkpoint(ViTTactile(config).eval(), PreprocessingConfig((32, 48), 'difference'),
                                     IMPRINT_NAMES))
    with pytest.raises(UserError, match='has one exit, after block 2'):
        main([str(path), '--size', '60'])


def test_a_checkpoint_is_measured_from_end_to_end(tmp_path, capsys):
    torch.manual_seed(0)
    config = ModelConfig(num_classes=len(IMPRINT_NAMES), image_size=(32, 48), width=48, depth=2, exits=(1, 2),
                         feature_map_dim=16)
    path = tmp_path / 'checkpoint.safetensors'
    save_checkpoint(path, Checkpoint(ViTTactile(config).eval(), PreprocessingConfig((32, 48), 'difference'),
                                     IMPRINT_NAMES))
    main([str(path), '--size', '60', '--images', '3', '--splits', '2', '--rendered', str(tmp_path / 'rendered')])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])[str(path)]
    assert set(found['halves']) == set(found['scores'])
    assert found['touches'] == 60 and len(found['accuracy']) == 2 and found['times as fast, measured'] > 0
