"""Augmentation: frame and reference stay a pair, every variation is what its name says, and nothing else varies."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from vit_tactile_ros.data.augment import Augment, _Draw, to_input
from vit_tactile_ros.data.augment_config import AUGMENTATIONS, AugmentConfig
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.training.inputs import Inputs

NONE = AugmentConfig.none()
SIZE = (48, 64)


def only(**changes) -> Augment:
    return Augment(dataclasses.replace(NONE, **changes))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int, seed: int = 0, low: int = 0, high: int = 256) -> torch.Tensor:
    return torch.randint(low, high, (batch, *SIZE, 3), generator=generator(seed), dtype=torch.uint8)


def flat(batch: int, level: int) -> torch.Tensor:
    return torch.full((batch, *SIZE, 3), level, dtype=torch.uint8)


def blob(batch: int, row: int = 24, column: int = 32, colour=(200, 200, 200), background: int = 100,
         reach: int = 3) -> torch.Tensor:
    image = flat(batch, background)
    image[:, row - reach:row + reach, column - reach:column + reach] = torch.tensor(colour, dtype=torch.uint8)
    return image


def centre(planes: torch.Tensor) -> torch.Tensor:
    """Centre of mass (x, y) in px of every picture, of what differs from its corner."""
    weight = (planes - planes[..., :1, :1]).abs().sum(1)
    total = weight.sum((1, 2))
    x = (weight.sum(1) * torch.arange(SIZE[1])).sum(1) / total
    y = (weight.sum(2) * torch.arange(SIZE[0])).sum(1) / total
    return torch.stack((x, y), 1)


def test_none_changes_nothing():
    frames, references = pictures(5), pictures(5, seed=1)
    frame, reference = Augment(NONE)(frames, references, generator())
    assert frame.dtype == torch.float32 and frame.shape == (5, 3, *SIZE) and frame.is_contiguous()
    assert torch.equal(frame, frames.permute(0, 3, 1, 2).float())
    assert torch.equal(reference, references.permute(0, 3, 1, 2).float())


@pytest.mark.parametrize('name', AUGMENTATIONS)
def test_every_preset(name):
    """In range, reproducible, and the pictures that came in are left alone."""
    augment = Augment(AUGMENTATIONS[name]())
    frames, references = pictures(9), pictures(9, seed=1)
    before = frames.clone(), references.clone()
    frame, reference = augment(frames, references, generator(3))
    again, _ = augment(frames, references, generator(3))
    other, _ = augment(frames, references, generator(4))
    assert torch.equal(frame, again) and (name == 'none' or not torch.equal(frame, other))
    for planes in (frame, reference):
        assert torch.isfinite(planes).all() and planes.min() >= 0 and planes.max() <= 255
    assert torch.equal(frames, before[0]) and torch.equal(references, before[1])


@pytest.mark.parametrize('name', AUGMENTATIONS)
@pytest.mark.parametrize('batch', [1, 2, 3])
def test_small_batches(name, batch):
    """Shares of a batch that round to nothing or to all of it."""
    for seed in range(10):
        frame, _ = Augment(AUGMENTATIONS[name]())(pictures(batch), pictures(batch, 1), generator(seed))
        assert frame.shape == (batch, 3, *SIZE)


def test_pictures_of_a_batch_vary_on_their_own():
    frames = pictures(1).expand(6, -1, -1, -1)
    frame, _ = Augment(AugmentConfig())(frames, frames, generator())
    assert all((frame[a] - frame[b]).abs().mean() > 1 for a in range(6) for b in range(a))


def test_the_host_decides_how_many_get_what():
    """A question to the GPU, whose answer the host waits for: drawn by `luck`, the other draws are left as they are."""
    augment, frames = Augment(AugmentConfig.other_gel()), pictures(8)
    first, _ = augment(frames, pictures(8, 1), generator(3), generator(5))
    again, _ = augment(frames, pictures(8, 1), generator(3), generator(5))
    assert torch.equal(first, again)
    drawn, luck = generator(3), generator(5)
    chosen = _Draw(8, drawn, torch.device('cpu'), luck).chosen(0.3)[0]
    assert not torch.equal(luck.get_state(), generator(5).get_state())
    alone = generator(3)
    assert torch.equal(torch.randperm(8, generator=alone)[:len(chosen)], chosen)
    assert torch.equal(drawn.get_state(), alone.get_state())


def test_nothing_is_copied_from_the_host():
    """Constants made anew for every batch: each copy to a GPU waits for it."""
    preprocessing = PreprocessingConfig(image_size=SIZE, reference='difference', std=(0.1,) * 3)
    augment, frames = Augment(dataclasses.replace(AugmentConfig.other_gel(), swap=1.0)), pictures(8)
    to_input(*augment(frames, frames, generator()), preprocessing)
    copied = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            name = getattr(func, '__name__', '')
            by_list = name == '__getitem__' and isinstance(args[1], tuple) and any(isinstance(a, list) for a in args[1])
            if by_list or name in ('tensor', 'as_tensor', 'new_tensor', 'from_numpy', 'item'):
                copied.append(func)
            return func(*args, **(kwargs or {}))

    with Watch():
        to_input(*augment(frames, frames, generator()), preprocessing)
    assert not copied


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
def test_the_gpu_is_never_waited_for():
    device = torch.device('cuda')
    inputs = Inputs(AugmentConfig.other_gel(), PreprocessingConfig(image_size=SIZE, reference='difference'), device, 0)
    frames = pictures(20).to(device)
    inputs(frames, frames, 0, 0, 0)
    torch.cuda.set_sync_debug_mode('error')
    try:
        inputs(frames, frames, 0, 1, 0)
    finally:
        torch.cuda.set_sync_debug_mode('default')


GEOMETRY = dict(shift=0.1, rotation_deg=30.0, scale=0.2, flip=0.5)


def test_frame_and_reference_share_their_geometry():
    """A reference turned otherwise than its frame: the whole background would look like contact."""
    frames = pictures(8)
    frame, reference = only(**GEOMETRY)(frames, frames, generator())
    torch.testing.assert_close(frame, reference, atol=1e-3, rtol=0)
    assert (frame - frames.permute(0, 3, 1, 2)).abs().mean() > 10


def test_flips():
    frames = pictures(40)
    frame, _ = only(flip=0.5)(frames, frames, generator())
    planes = frames.permute(0, 3, 1, 2).float()
    kinds = []
    for got, own in zip(frame, planes):
        distances = [(got - own.flip(axes)).abs().max() for axes in ((), (2,), (1,), (1, 2))]
        kinds.append(int(np.argmin(distances)))
        assert min(distances) < 0.1
    assert set(kinds) == {0, 1, 2, 3}


def test_shift_is_a_share_of_the_size():
    frames = blob(60)
    frame, _ = only(shift=0.1)(frames, frames, generator())
    moved = centre(frame) - centre(frames.permute(0, 3, 1, 2).float())
    largest = moved.abs().max(0).values
    assert 5 < largest[0] < 6.5 and 3.7 < largest[1] < 4.9  # a tenth of 64 and 48 px
    assert moved.mean(0).abs().max() < 1.5


def test_rotation_keeps_shapes():
    """A turn made in the unit square would squash the picture by its aspect ratio."""
    frames = blob(60, column=52)  # 20 px right of the middle
    frame, _ = only(rotation_deg=45)(frames, frames, generator())
    offset = centre(frame) - torch.tensor([31.5, 23.5])
    distance = offset.norm(dim=1)
    inside = offset[:, 1].abs() < 15  # the others are cut by the border
    assert inside.sum() > 20
    torch.testing.assert_close(distance[inside], torch.full_like(distance[inside], 20.0), atol=0.7, rtol=0)
    turned = torch.rad2deg(torch.atan2(offset[:, 1], offset[:, 0]))
    assert turned.abs().max() < 46 and turned.min() < -20 and turned.max() > 20


def test_scale_is_the_magnification():
    frames = blob(60, reach=8)
    frame, _ = only(scale=math.log(1.5))(frames, frames, generator())
    area = (frame[:, 0] > 150).sum((1, 2)) / 256
    assert 0.38 < area.min() < 0.6 and 1.8 < area.max() < 2.3


def test_shear_moves_the_frame_and_not_the_reference():
    """Dots that are already in the picture come apart from their places in the reference."""
    frames = blob(60)
    frame, reference = only(shear=0.03)(frames, frames, generator())
    torch.testing.assert_close(reference, frames.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)
    moved = (centre(frame) - centre(reference)).norm(dim=1)
    assert 0.3 < moved.median() < 4 and moved.max() > 2


COLOUR = dict(hue_deg=180.0, swap=0.5, mixing=0.1, contrast=0.5, uneven=0.3)


def test_colour_changes_the_difference_only():
    """No contact stays no contact, however strange the lights."""
    frames = pictures(8)
    frame, reference = only(**COLOUR)(frames, frames, generator())
    planes = frames.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(frame, planes, atol=1e-3, rtol=0)
    torch.testing.assert_close(reference, planes, atol=1e-3, rtol=0)


def test_hue_turns_about_grey():
    """A grey change stays as grey; a third of a turn hands red's place on to another channel."""
    background = flat(200, 100)
    grey, _ = only(hue_deg=180.0)(flat(200, 120), background, generator())
    torch.testing.assert_close(grey, torch.full_like(grey, 120), atol=1e-3, rtol=0)
    red = background.clone()
    red[..., 0] += 30
    turned, _ = only(hue_deg=180.0)(red, background, generator())
    difference = turned[:, :, 0, 0] - 100
    torch.testing.assert_close(difference.sum(1), torch.full((200,), 30.0), atol=1e-2, rtol=0)
    torch.testing.assert_close(difference.norm(dim=1), torch.full((200,), 30.0), atol=1e-2, rtol=0)
    assert set(difference.argmax(1).tolist()) == {0, 1, 2}
    still, _ = only(hue_deg=20.0)(red, background, generator())
    assert ((still[:, :, 0, 0] - 100).argmax(1) == 0).all()


def test_swap_exchanges_channels():
    background = flat(40, 100)
    red = background.clone()
    red[..., 0] += 30
    frame, _ = only(swap=0.5)(red, background, generator())
    kinds = {tuple((row - 100).round().tolist()) for row in frame[:, :, 0, 0]}
    assert kinds == {(30, 0, 0), (0, 30, 0)}


def test_contrast_is_the_gain_of_the_difference():
    frame, reference = only(contrast=math.log(2))(flat(300, 140), flat(300, 100), generator())
    gain = (frame - reference)[:, 0, 0, 0] / 40
    assert 0.49 < gain.min() < 0.55 and 1.8 < gain.max() < 2.01
    assert (reference == 100).all()


def test_uneven_gain_is_slow():
    frame, reference = only(uneven=0.3)(flat(50, 140), flat(50, 100), generator())
    gain = (frame - reference) / 40
    assert 0.2 < gain.std() < 0.4 and gain.mean() == pytest.approx(1, abs=0.1)
    assert (gain[..., 1:] - gain[..., :-1]).abs().max() < 0.15


def test_brightness_and_tone_keep_the_difference():
    frames, references = flat(100, 110), flat(100, 100)
    frame, reference = only(brightness=0.2, tone=0.2)(frames, references, generator())
    torch.testing.assert_close(frame - reference, torch.full_like(frame, 10), atol=1e-3, rtol=0)
    level = reference[:, :, 0, 0]
    assert level.min() > 100 * math.exp(-0.4) * 0.87 and level.max() < 100 * math.exp(0.4) * 1.13
    assert level.std() > 10 and (level.max(1).values - level.min(1).values).mean() > 5


def test_drift_is_slow_and_of_the_frame_only():
    frames = flat(200, 100)
    frame, reference = only(drift=3.0)(frames, frames, generator())
    assert torch.equal(reference, torch.full_like(reference, 100))
    drift = frame - 100
    assert 2 < drift.std() < 4 and abs(drift.mean()) < 0.5
    assert (drift[..., 1:] - drift[..., :-1]).abs().max() < 2


def test_noise():
    frames = flat(64, 128)
    frame, reference = only(noise=6.0)(frames, frames, generator())
    assert torch.equal(reference, torch.full_like(reference, 128))
    std = frame.std((1, 2, 3))
    assert std.min() < 1 and 5 < std.max() < 6.5 and std.mean() == pytest.approx(3, abs=0.6)
    noise = frame - 128
    assert abs(float((noise[..., 1:] * noise[..., :-1]).mean() / (noise ** 2).mean())) < 0.05


def test_blur_is_of_both():
    frames = pictures(20)
    frame, reference = only(blur=1.0)(frames, frames, generator())
    torch.testing.assert_close(frame, reference)
    planes = frames.permute(0, 3, 1, 2).float()
    assert (frame.std((1, 2, 3)) < planes.std((1, 2, 3))).all()
    even, _ = only(blur=1.0)(flat(4, 77), flat(4, 77), generator())
    torch.testing.assert_close(even, torch.full_like(even, 77))
    half, _ = only(blur=0.5)(frames, frames, generator())
    assert int(((half - planes).abs().amax((1, 2, 3)) > 1).sum()) == 10


def test_markers_are_dark_dots_on_both():
    frames = flat(40, 150)
    frame, reference = only(markers=0.5)(frames, frames, generator())
    torch.testing.assert_close(frame, reference)
    dotted = reference.amin((1, 2, 3)) < 140
    assert int(dotted.sum()) == 20 and (reference <= 150).all()
    covered = (reference[dotted][:, 0] < 130).float().mean((1, 2))
    assert 0.03 < covered.min() and covered.max() < 0.6  # dots on a lattice, not a black gel


def test_markers_move_with_the_shear():
    """Light and dark pairs in the difference, as real dots show them, but no change of their number."""
    frames = flat(40, 150)
    frame, reference = only(markers=1.0, shear=0.02)(frames, frames, generator())
    difference = frame - reference
    assert (difference.amax((1, 2, 3)) > 15).float().mean() > 0.8
    assert (difference.amin((1, 2, 3)) < -15).float().mean() > 0.8
    assert difference.mean().abs() < 2


def test_erasing_markers_fills_dots_and_keeps_touch():
    """What is coloured is shading of a contact; only what is dark in all channels is a dot."""
    dots = blob(10, 24, 32, (30, 30, 30), 120, reach=1)
    frame, _ = only(erase_markers=1.0)(dots, dots, generator())
    torch.testing.assert_close(frame, torch.full_like(frame, 120), atol=1, rtol=0)
    for touch in (blob(10, 24, 32, (60, 180, 120), 120, reach=1), blob(10, 24, 32, (30, 30, 30), 120, reach=6)):
        frame, _ = only(erase_markers=1.0)(touch, touch, generator())
        torch.testing.assert_close(frame, touch.permute(0, 3, 1, 2).float(), atol=1, rtol=0)


def test_half_of_the_erased_get_other_markers():
    """A gel with other dots, not only one with more of them or none."""
    dots = blob(40, 24, 32, (30, 30, 30), 120, reach=1)
    _, reference = only(erase_markers=0.5, markers=0.5)(dots, dots, generator())
    rows, columns = slice(22, 26), slice(30, 34)
    elsewhere = reference.clone()
    elsewhere[:, :, rows, columns] = 120
    other_dots, own_dot = elsewhere.amin((1, 2, 3)) < 110, reference[:, 0, 23:25, 31:33].amax((1, 2)) < 40
    kinds = list(zip(other_dots.tolist(), own_dot.tolist()))
    assert kinds.count((False, True)) == 10  # untouched: their own dot only
    assert kinds.count((False, False)) == 10  # erased
    assert len([own for other, own in kinds if other]) == 20


@pytest.mark.parametrize('preprocessing', [
    PreprocessingConfig(image_size=SIZE, reference='difference', mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)),
    PreprocessingConfig(image_size=SIZE, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)),
    PreprocessingConfig(image_size=SIZE, reference='difference', std=(0.1, 0.2, 0.3), motion_interval=0.08),
    PreprocessingConfig(image_size=SIZE, reference='difference', motion_interval=0.08, motion_views=3),
], ids=['difference', 'plain', 'motion', 'views'])
def test_to_input_is_normalise(preprocessing):
    """The training's and the live node's arithmetic: one formula, written twice."""
    frames, references = pictures(3), pictures(3, seed=1)
    if preprocessing.motion_interval:
        frames = torch.cat((frames, *(pictures(3, seed=2 + i) for i in range(preprocessing.motion_views))), dim=3)
    wanted = np.stack([normalise(f[..., :3], r, preprocessing, previous=f[..., 3:])
                       for f, r in zip(frames.numpy(), references.numpy())])
    frame, reference = Augment(NONE)(frames, references, generator())
    before = frame.clone()
    got = to_input(frame, reference, preprocessing)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-5)
    assert torch.equal(frame, before)


@pytest.mark.parametrize(('field', 'value', 'right'), [
    ('shift', -0.1, 'at least 0'), ('noise', float('nan'), 'finite'), ('flip', 1.5, 'between 0 and 1'),
    ('tone', 2.0, 'between 0 and 1'), ('marker_pitch', (0.2, 0.1), 'two increasing'),
    ('marker_pitch', (0.0, 0.1), 'two increasing'), ('marker_darkness', (0.5, 1.5), 'two increasing'),
])
def test_wrong_settings(field, value, right):
    with pytest.raises(ValueError, match=f'{field} is .*{right}'):
        AugmentConfig(**{field: value})


@pytest.mark.parametrize(('frames', 'references'), [
    (pictures(2), pictures(3)), (pictures(2).permute(0, 3, 1, 2), pictures(2).permute(0, 3, 1, 2)),
    (pictures(1)[0], pictures(1)[0])])
def test_wrong_shapes(frames, references):
    with pytest.raises(ValueError, match=r'both must be \(B, h, w, 3\)'):
        Augment(NONE)(frames, references, generator())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_gpu_gives_the_same_pictures():
    """With a generator of the CPU; the GPU's own gives others, as good."""
    frames, references = pictures(8), pictures(8, seed=1)
    augment = Augment(AugmentConfig())
    cpu = augment(frames, references, generator())
    augment.to('cuda')
    gpu = augment(frames.cuda(), references.cuda(), generator())
    for a, b in zip(cpu, gpu):
        torch.testing.assert_close(a, b.cpu(), atol=0.05, rtol=0)
    own, _ = augment(frames.cuda(), references.cuda(), torch.Generator('cuda').manual_seed(0))
    assert own.is_cuda and torch.isfinite(own).all()


def test_the_frame_before_varies_with_its_frame():
    """Another shift, light or colour for one of them: motion that the sensor never shows. Noise is each one's own."""
    augment = AugmentConfig.other_gel()
    frames, before, references = pictures(16), pictures(16, seed=2), pictures(16, seed=1)
    for config in (augment, dataclasses.replace(augment, noise=0.0)):
        alone, alone_reference = Augment(config)(frames, references, generator())
        both, reference = Augment(config)(torch.cat((frames, before), dim=3), references, generator())
        # As without motion: the same random numbers, so a network without it is trained as before.
        assert torch.equal(both[:, :3], alone) and torch.equal(reference, alone_reference)
    twin, _ = Augment(config)(before, references, generator())
    torch.testing.assert_close(both[:, 3:], twin)
    still, _ = only(noise=6.0)(torch.cat((frames, frames), dim=3), references, generator())
    noise = still - frames.repeat(1, 1, 1, 2).permute(0, 3, 1, 2)
    now, then = (noise[:, part].flatten(1) for part in (slice(3), slice(3, 6)))
    inside = ((frames > 30) & (frames < 225)).permute(0, 3, 1, 2).flatten(1)  # not clipped
    for a, b, kept in zip(now, then, inside):
        a, b = a[kept], b[kept]
        assert abs(float(a.std() / b.std()) - 1) < 0.05 and abs(float(torch.corrcoef(torch.stack((a, b)))[0, 1])) < 0.05
