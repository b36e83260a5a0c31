"""Patches that are dropped: the touch stays, the rest is represented, and no image depends on its batch."""

import pytest
import torch
from test_vit import KINDS, small_model

from vit_tactile_ros.model import ModelConfig
from vit_tactile_ros.model.tokens import (
    Group,
    choose_tokens,
    kept_shares,
    patch_differences,
    token_counts,
    touched_images,
)

SIZE = (96, 128)  # 6 x 8 patches
THRESHOLD = 0.1


def touched(patches, value=1.0) -> torch.Tensor:
    """Images (len(patches), 3, 96, 128), each with these patches touched, the rest 0."""
    images = torch.zeros(len(patches), 3, *SIZE)
    for image, numbers in zip(images, patches, strict=True):
        for number in numbers:
            row, column = divmod(number, 8)
            image[1, 16 * row:16 * row + 16, 16 * column:16 * column + 16] = value
    return images


def kept(images) -> list[set[int]]:
    found: list[set[int]] = [set(range(48)) for _ in images]
    for group in choose_tokens(images, 16, THRESHOLD):
        for row, patches in zip(group.rows.tolist(), group.kept.patches if group.kept else []):
            found[row] = set(patches.tolist())
    return found


def test_touched_patches_and_the_grid_are_kept():
    """A touch that is dropped can't be recognised."""
    wanted = [set(), {0}, {0, 1, 2, 8, 9, 10, 16, 17, 18, 24, 25}, set(range(20))]
    for found, patches in zip(kept(touched(wanted)), wanted, strict=True):
        assert patches <= found
        assert {9, 12, 15, 33, 36, 39} <= found, 'every third patch in both directions'
        assert len(found) == min(count for count in token_counts(48) if count >= len(patches | {9, 12, 15, 33, 36, 39}))


def test_a_change_of_light_is_no_touch_and_a_large_one_keeps_everything():
    """All patches computed because the light changed a little; or a wide touch taken for light."""
    assert [len(found) for found in kept(touched([range(48)] * 3, value=0.07))] == [12] * 3
    assert [len(found) for found in kept(touched([range(48)], value=0.5))] == [48]
    wide = set(range(40))
    assert wide <= kept(touched([wide]))[0]


def test_the_weights_count_every_patch_once():
    """A dropped patch that nothing stands for changes the mean of a head."""
    images = touched([set(), {0, 9}, set(range(12)), {9, 12, 15, 33, 36, 39}])
    for group in choose_tokens(images, 16, THRESHOLD):
        torch.testing.assert_close(group.kept.weights.sum(dim=1), torch.full((len(group.rows),), 48.0))
        for row, patches, weights in zip(group.rows.tolist(), group.kept.patches.tolist(), group.kept.weights.tolist()):
            if row == 1:
                assert weights[patches.index(9)] == 1, 'a touched patch of the grid stands only for itself'


@pytest.mark.parametrize('queries', (0, 2))
@pytest.mark.parametrize('attention', KINDS)
@torch.inference_mode()
def test_equal_tokens_with_weights_are_one_token(attention, queries):
    """A weight that counts in one place and not in another: attention, its divisor, or the means of the head."""
    model = small_model(attention, queries=queries)
    for stage in model.stage_modules if queries else ():
        stage.head.queries.normal_()
    tokens = torch.randn(2, 4, 48)
    repeated = tokens[:, [0, 1, 1, 1, 2, 3, 3]]
    weights = torch.tensor([1.0, 3.0, 1.0, 2.0]).expand(2, 4)
    for stage in model.stage_modules:
        torch.testing.assert_close(stage(tokens, weights)[1], stage(repeated)[1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize('added', (False, True))
@torch.inference_mode()
def test_no_image_depends_on_its_batch(added):
    """Live, two sensors are classified together; replay must give each the same result as alone."""
    model = small_model(image_size=SIZE, token_threshold=THRESHOLD, added_exits=added)
    images = touched([set(), range(30), {0, 1, 2}, range(12), {5}, range(48)]) + 0.01 * torch.randn(6, 3, *SIZE)
    assert len(choose_tokens(images, 16, THRESHOLD)) > 2
    together = list(model.stages(images))
    for number, image in enumerate(images):
        for batch, alone in zip(together, model.stages(image[None]), strict=True):
            torch.testing.assert_close(batch[number], alone[0], atol=1e-5, rtol=1e-4)
    stages = model.stages(images)
    next(stages)
    for index, rows in ((1, [4, 1, 5]), (2, [2, 0])):
        left = torch.tensor([4, 1, 5])[rows] if index == 2 else torch.tensor(rows)
        torch.testing.assert_close(stages.send(torch.tensor(rows)), together[index][left], atol=1e-5, rtol=1e-4)


def test_a_group_is_split_with_what_it_keeps():
    """More images than an engine takes at once: the patches of the first ones taken for the others."""
    images = touched([{number} for number in range(5)])
    (group,) = choose_tokens(images, 16, THRESHOLD)
    parts = group.split(2)
    assert [part.rows.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    for name in ('patches', 'weights'):
        assert torch.equal(torch.cat([getattr(part.kept, name) for part in parts]), getattr(group.kept, name))
    assert Group(torch.arange(3)).split(64)[0].kept is None


@torch.inference_mode()
def test_threshold_0_computes_all_patches():
    """Checkpoints from before must predict as before."""
    images = touched([set(), range(30)])
    (group,) = choose_tokens(images, 16, 0.0)
    assert group.kept is None
    differences, _ = patch_differences(images, 16, THRESHOLD)
    assert (differences[1] > THRESHOLD).sum() == 30


@pytest.mark.parametrize('size', [SIZE, (224, 224), (32, 48)])
def test_made_up_inputs_keep_each_number(size):
    """A warm-up that leaves a shape out: its first real image is slow."""
    config = ModelConfig(image_size=size, channels=6, token_threshold=THRESHOLD)
    images = touched_images(config)
    patches = size[0] * size[1] // 256
    shares = kept_shares(choose_tokens(images, 16, THRESHOLD), config)
    assert (shares * patches).tolist() == pytest.approx(token_counts(patches))
    assert len(touched_images(ModelConfig(image_size=size))) == 1


@pytest.mark.parametrize('changes', [{'token_threshold': -1.0}, {'token_threshold': float('nan')},
                                     {'token_threshold': 0.1, 'patch_size': 15, 'image_size': (30, 45)}])
def test_a_threshold_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match='^token_threshold is '):
        ModelConfig(**changes)
