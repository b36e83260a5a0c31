"""Two views of a touch: what is contrasted with what, and that `fit` learns it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from toy_training import CONFIG, Colours, fit_toy

from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import UNLABELLED, ViTTactile, load_checkpoint
from vit_tactile_ros.training.batches import shuffled
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.views import TEMPERATURE, DescribingViT, TwoViews, contrast, pairs

ONE_CLASS = dataclasses.replace(CONFIG, num_classes=1)
AUGMENT = AugmentConfig.none()


class Recorded(Colours):
    """Three recordings of one colour each, one after the other."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__(size, seed)
        order = np.argsort(self.labels, kind='stable')
        self.frames, self.references, self.labels = self.frames[order], self.references[order], self.labels[order]


def test_the_loss_is_that_of_its_definition():
    """Another image of the same recording counted as another touch, or a row found by itself."""
    descriptions = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    recordings = torch.tensor([4, 4, 7, 7, 4, 4, 9, 9])
    wanted = []
    for row in range(8):
        partner = row + 1 if row % 2 == 0 else row - 1
        similar = {other: float(descriptions[row] @ descriptions[other]) / TEMPERATURE for other in range(8)
                   if other == partner or recordings[other] != recordings[row]}
        wanted.append(-math.log(math.exp(similar[partner]) / sum(map(math.exp, similar.values()))))
    assert float(contrast(descriptions, recordings)) == pytest.approx(np.mean(wanted), rel=1e-5)
    assert float(contrast(descriptions, torch.zeros(8))) == 0  # nothing to differ from


def test_pairs_are_of_one_recording_and_near():
    groups = np.repeat([0, 1, 2], (50, 1, 49))
    found = pairs(shuffled(100, 3), groups, 4, 3)(2).reshape(-1, 2)
    assert found.shape == (50, 2) and len(set(found[:, 0])) == 50
    assert np.array_equal(groups[found[:, 0]], groups[found[:, 1]])
    assert abs(found[:, 0] - found[:, 1]).max() <= 4 and len(set(found[:, 0] - found[:, 1])) == 9
    assert np.array_equal(found.ravel(), pairs(shuffled(100, 3), groups, 4, 3)(2))
    same = pairs(shuffled(100, 3), groups, 0, 3)(2).reshape(-1, 2)
    assert np.array_equal(same[:, 0], same[:, 1]) and np.array_equal(same[:, 0], found[:, 0])


@pytest.mark.parametrize('batch_size', (2, 7))
def test_a_batch_without_pairs_to_compare_is_refused(batch_size):
    with pytest.raises(UserError, match=f'batch_size is {batch_size}; must be even and at least 4'):
        TwoViews(AUGMENT, batch_size, 0)


def test_it_learns_which_images_show_the_same(tmp_path):
    """The loss falls, the second view of other images is found, and the checkpoint has the trained trunk."""
    seen, frames = [], Recorded(48)
    config = TrainingConfig(batch_size=16, epochs=6, lr=3e-3, ema=0.9, precision='float32')
    torch.manual_seed(0)
    average = fit_toy(tmp_path, DescribingViT(ONE_CLASS), frames, Recorded(30, seed=1), config, class_names=UNLABELLED,
                      objective=TwoViews(AUGMENT, config.batch_size, config.seed), augment=AUGMENT,
                      order=pairs(shuffled(len(frames), 0), frames.labels, 2, 0),
                      on_epoch=lambda epoch, metrics: seen.append(metrics))
    assert seen[-1]['loss'] < 0.5 * seen[0]['loss']
    assert seen[-1]['found_block_2'] == 1
    checkpoint = load_checkpoint(tmp_path / 'checkpoint.safetensors', UNLABELLED)
    assert checkpoint.provenance.metrics['found_block_1'] == seen[-1]['found_block_1']
    assert type(average) is ViTTactile and not average.training
    for name, tensor in average.state_dict().items():
        if '.classify.' not in name:
            torch.testing.assert_close(checkpoint.model.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
