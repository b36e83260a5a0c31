"""Masked touches: what is hidden stays hidden, the loss is that of its definition, and `fit` learns it and resumes."""

import dataclasses

import numpy as np
import pytest
import torch
from toy_training import CONFIG, PREPROCESSING, Colours, fit_toy

from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import UNLABELLED, ModelConfig, ViTTactile, load_checkpoint
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.loop import Stopped
from vit_tactile_ros.training.masked import (
    FLOOR,
    MaskedPatches,
    MaskedViT,
    Masking,
    draw_shown,
    without_hidden,
)
from vit_tactile_ros.training.objective import Place

ONE_CLASS = dataclasses.replace(CONFIG, num_classes=1)
WIDE = dataclasses.replace(ONE_CLASS, image_size=(64, 96), stem='convolution')  # 24 patches, whose stem sees across
SETTINGS = TrainingConfig(batch_size=16, epochs=3, lr=3e-3, ema=0.9, precision='float32')


def masked(seed: int = 0, config: ModelConfig = ONE_CLASS) -> MaskedViT:
    torch.manual_seed(seed)
    return MaskedViT(config)


def train(output=None, frames=None, validation=None, config=SETTINGS, **others):
    objective = MaskedPatches(Masking(hidden=0.5), ONE_CLASS, PREPROCESSING, config.seed)
    return fit_toy(output, masked(), frames or Colours(36), validation, config, class_names=UNLABELLED,
                   objective=objective, augment=AugmentConfig.none(), **others)


def equal(first, second):
    first, second = first.state_dict(), second.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_is_that_of_its_definition():
    """Patches that are shown or untouched counted, or the mean over all patches of a batch instead of an image's."""
    model, place = masked(config=WIDE), Place(1, 2, 8)
    images = torch.zeros(3, 3, 64, 96)
    images[0, :, :40, :40] = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    images[1, 1, 16:32] = 1.0  # the third shows no touch
    objective = MaskedPatches(Masking(hidden=0.75, touched=5.0), WIDE, PREPROCESSING, seed=7)
    drawn = objective.outputs(model, model, images, place)
    losses = objective.losses(drawn, torch.zeros(3))
    wanted = []
    for block in range(2):
        errors = []
        for row in range(3):
            order = np.random.default_rng((7, 1, 2, 8 + row)).permutation(24)
            found = []
            for patch in order[6:]:
                y, x = 16 * (patch // 6), 16 * (patch % 6)
                pixels = images[row, :, y:y + 16, x:x + 16]
                cells = pixels.reshape(3, 2, 8, 2, 8).mean(dim=(2, 4))
                # Most of each channel is 0, so no change of the light is subtracted.
                if cells.abs().max() * 255 * 0.1 <= 5.0:
                    continue
                centred = pixels - pixels.mean()
                target = centred / (centred.square().mean() + (FLOOR / 25.5) ** 2).sqrt()
                found.append((drawn.predicted[block][row, patch].view(3, 16, 16) - target).square().mean())
            errors.append(torch.stack(found).mean() if found else torch.zeros(()))
        wanted.append(torch.stack(errors).mean())
        assert errors[0] > 0 and errors[1] > 0 and errors[2] == 0
    torch.testing.assert_close(losses, torch.stack(wanted))


def test_the_network_does_not_see_what_is_hidden():
    """The convolutions of the stem reach across the edges of the patches: loss would fall by reading the answer."""
    model = masked(config=WIDE).eval()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    shown = draw_shown(24, 6, 0, Place(0, 0, 0), 2)
    others = without_hidden(images, shown, 16)
    assert others.count_nonzero() == 2 * 6 * 3 * 16 * 16
    others = torch.where(others == 0, torch.randn_like(images), images)
    for first, second in zip(model.reconstruct(images, shown), model.reconstruct(others, shown), strict=True):
        assert first.shape == (2, 24, 3 * 16 * 16) and torch.equal(first, second)
    others[0, :, 16 * (shown[0, 0] // 6):][:, :16, 16 * (shown[0, 0] % 6):][:, :, :16] += 1  # one that is shown
    assert not torch.equal(model.reconstruct(images, shown)[1][0], model.reconstruct(others, shown)[1][0])


def test_the_mask_of_an_example_depends_on_its_place_alone():
    """Another mask in another process, or the same one for every example or epoch."""
    whole = draw_shown(48, 12, 3, Place(2, 5, 0), 16)
    assert torch.equal(whole[8:], draw_shown(48, 12, 3, Place(2, 5, 8), 8))
    assert (whole.diff(dim=1) > 0).all() and len({tuple(row.tolist()) for row in whole}) == 16
    assert not torch.equal(whole, draw_shown(48, 12, 3, Place(3, 5, 0), 16))
    counts = torch.bincount(draw_shown(48, 12, 0, Place(0, 0, 0), 2000).flatten(), minlength=48)
    assert counts.min() > 400 and counts.max() < 600  # 500 of each patch, standard deviation 19


@pytest.mark.parametrize('hidden', (0.0, 1.0, -0.1, 1.5, float('nan')))
def test_a_mask_of_nothing_or_everything_is_refused(hidden):
    with pytest.raises(UserError, match=f'hidden is {hidden}; must be above 0 and below 1'):
        Masking(hidden=hidden)


@pytest.mark.parametrize(('hidden', 'shown'), ((0.01, 48), (0.995, 0)))
def test_a_mask_that_rounds_to_nothing_or_everything_is_refused(hidden, shown):
    with pytest.raises(UserError, match=f'hidden is {hidden}, which shows {shown} of the 48 patches'):
        Masking(hidden=hidden).shown(48)


def test_it_learns_to_draw_what_is_hidden(tmp_path):
    """The loss falls, hidden pixels of other images are explained, and the checkpoint has the trained trunk."""
    seen = []
    average = train(tmp_path, Colours(48), Colours(30, seed=1), dataclasses.replace(SETTINGS, epochs=20, lr=1e-2),
                    on_epoch=lambda epoch, metrics: seen.append(metrics))
    assert seen[-1]['loss'] < 0.6 * seen[0]['loss']
    assert seen[-1]['explained_block_2'] > 0.4 > seen[0]['explained_block_2']
    checkpoint = load_checkpoint(tmp_path / 'checkpoint.safetensors', UNLABELLED)
    assert checkpoint.provenance.metrics['explained_block_2'] == seen[-1]['explained_block_2']
    assert type(average) is ViTTactile and not average.training
    for name, tensor in average.state_dict().items():
        if '.classify.' not in name:
            torch.testing.assert_close(checkpoint.model.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    before = masked().state_dict()
    assert not any(torch.equal(before[name], tensor) for name, tensor in average.state_dict().items()
                   if name.endswith(('project.weight', 'mlp.0.weight')))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    """Other masks after the stop, or a decoder that is not saved."""
    asked = 0

    class Interrupted(Colours):
        def __getitem__(self, index):
            nonlocal asked
            asked += 1
            if asked == 60:  # in the second epoch
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(Stopped, match='holds the last complete epoch, 1:'):
        train(tmp_path, Interrupted(36))
    assert equal(train(tmp_path), train())


def test_patches_are_hidden_by_chance_only():
    with pytest.raises(UserError, match='token_threshold must be 0 to pre-train'):
        MaskedViT(dataclasses.replace(WIDE, token_threshold=0.1))
