"""The motion networks image by image: as in training, by the stamps of the images, and what a file must have."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from vit_tactile_ros.evaluation.touchbench.clips import message_of
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.motion_figures import FIGURES, MotionMaps, figures_of
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.slip_network import (
    FORMAT,
    LEAST_BINS,
    Convolutions,
    SlipDetector,
    load_slip_network,
    shipped_slip_network,
)
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.training.slip_motion import LostModel, SlipModel, Trained

STEP = 40_000_000  # ns


@pytest.fixture(scope='module')
def maps() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (100, 12, 12, 16)).astype(np.float32)


@pytest.fixture(scope='module')
def trained() -> list[Trained]:
    torch.manual_seed(0)
    ones = [(SlipModel(), len(FIGURES), 10.0), *((LostModel(), 2 * len(FIGURES), 5.0) for _ in range(2))]
    return [Trained(model.eval(), np.full(count, 0.5, np.float32), np.full(count, 0.7, np.float32), clip)
            for model, count, clip in ones]


@pytest.fixture(scope='module')
def file(trained, tmp_path_factory):
    tensors = {}
    for name, one in zip(('slip', 'lost0', 'lost1'), trained):
        tensors |= one.tensors(name)
    path = tmp_path_factory.mktemp('slip') / 'network.safetensors'
    save_file(tensors, path, {'format': FORMAT, 'figures': json.dumps(FIGURES)})
    return path


def seen(detector: SlipDetector, maps: np.ndarray, step: int = STEP, start: int = 10**9) -> list:
    return [detector.see(start + n * step, one) for n, one in enumerate(maps)]


def test_image_by_image_is_as_in_training(trained, file, maps):
    """Another padding at the start, order of the taps, or bins of other images."""
    found = seen(load_slip_network(file).detector(), maps)
    figures = figures_of(maps)
    logits = torch.from_numpy(trained[0].outputs(figures)).softmax(dim=1).numpy()
    context = 62  # images that the network looks back to, before which it is not used
    np.testing.assert_allclose(np.stack([one.states for one in found])[context:], logits[context:], atol=2e-5)
    assert all((one.states == 0.25).all() for one in found[:context])
    bins = figures.reshape(-1, 5, len(FIGURES))
    series = np.concatenate([bins.mean(axis=1), bins.max(axis=1)], axis=1)
    odds = np.mean([one.outputs(series) for one in trained[1:]], axis=0)
    first = 5 * LEAST_BINS  # a bin ends with the first image after it
    lost = np.array([one.lost for one in found])
    assert np.isnan(lost[:first]).all()
    np.testing.assert_allclose(lost[first::5], odds[LEAST_BINS - 1:-1], atol=2e-5)


def test_the_rate_of_the_camera_changes_little(file, maps):
    """50 images/s: the context of the network would be half as long; 12.5: twice as long."""
    network = load_slip_network(file)
    wanted = seen(network.detector(), maps)
    fast = seen(network.detector(), maps.repeat(2, axis=0), STEP // 2)
    np.testing.assert_array_equal([one.states for one in fast[::2]], [one.states for one in wanted])
    np.testing.assert_array_equal([one.lost for one in fast[::2]], [one.lost for one in wanted])
    assert np.ptp([one.states[0] for one in wanted[62:]]) > 0.01
    halved = seen(network.detector(), maps[::2], 2 * STEP)
    twice = seen(network.detector(), maps[::2].repeat(2, axis=0)[1:])  # the first one has none before it
    np.testing.assert_allclose([one.states for one in halved[32:]], [one.states for one in twice[64::2]], atol=1e-6)


def test_an_image_too_soon_costs_and_adds_nothing(file, monkeypatch):
    """At 100 images/s, three flows for each image that was then ignored, and old evidence counted three times."""
    computed = []
    monkeypatch.setattr(MotionMaps, 'update', lambda self, image, stamp, reference: computed.append(stamp) or np.full(
        (12, 12, 16), stamp / 1e9, np.float32))
    detector, image = load_slip_network(file).detector(), np.zeros((96, 128, 3), np.uint8)
    found = [detector.update(image, 10**9 + n * 10_000_000, image.astype(np.float32)) for n in range(300)]
    assert computed == [10**9 + n * 10_000_000 for n in range(0, 300, 3)]
    assert all((one.states == 0.25).all() for n, one in enumerate(found) if n % 3)
    assert all((one.states != 0.25).any() for one in found[186::3])


def test_a_new_reference_starts_again(file, monkeypatch):
    """Evidence of displacements from the reference before capture_reference."""
    monkeypatch.setattr(Convolutions, 'context', 0)
    images = [message_of(image) for image in np.random.default_rng(2).integers(90, 110, (12, 96, 128, 3), np.uint8)]
    network, config = load_slip_network(file), PreprocessingConfig(image_size=(96, 128), reference='difference')
    frames, fresh = (SensorFrames(Reference(1), config, slip_network=network) for _ in range(2))
    for n, image in enumerate(images[:8]):
        frames.update(image, 10**9 + n * STEP)
    frames.request_recapture()
    for n, image in enumerate(images[8:], 8):
        found, wanted = (one.update(image, 10**9 + n * STEP).slip for one in (frames, fresh))
        np.testing.assert_array_equal(found.states, wanted.states)


@pytest.mark.parametrize('after', [-STEP, 600_000_000])
def test_a_gap_starts_again(file, after):
    """Evidence from before an interruption, or before a stamp that went back."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (8, 96, 128, 3), np.uint8)
    reference = images[0].astype(np.float32)
    network = load_slip_network(file)
    detector, fresh = network.detector(), network.detector()
    for number, image in enumerate(images[:5]):
        detector.update(image, 10**9 + number * STEP, reference)
    for number, image in enumerate(images[5:]):
        stamp = 10**9 + 4 * STEP + after + number * STEP
        np.testing.assert_array_equal(detector.update(image, stamp, reference).states,
                                      fresh.update(image, stamp, reference).states)


def test_files_that_do_not_fit(tmp_path, file):
    with pytest.raises(UserError, match=r'none\.safetensors is not a readable \.safetensors file'):
        load_slip_network(tmp_path / 'none.safetensors')
    for facts, told in (({'format': 'vit_tactile'}, "has the format 'vit_tactile'; must be 'vit_tactile_motion'"),
                        ({'format': FORMAT, 'figures': '["speed"]'}, 'trained on other figures of the motion'),
                        ({'format': FORMAT}, 'the metadata figures are not JSON'),
                        ({'format': FORMAT, 'figures': '[['}, 'the metadata figures are not JSON'),
                        ({'format': FORMAT, 'figures': '7'}, 'trained on other figures of the motion'),
                        ({'format': FORMAT, 'figures': json.dumps(FIGURES)}, 'no network lost')):
        save_file({'x': np.zeros(1, np.float32)}, tmp_path / 'x.safetensors', facts)
        with pytest.raises(UserError, match=told):
            load_slip_network(tmp_path / 'x.safetensors')


@pytest.mark.parametrize(('name', 'values', 'told'), [
    ('slip.std', np.zeros(40, np.float32), 'std has values that are not finite, or of std not above 0'),
    ('lost1.convs.2.weight', np.full((24, 24, 3), np.nan, np.float32), r'convs\.2\.weight has values that are not'),
    ('slip.out.weight', np.zeros((3, 48), np.float32), r'has the shape \(3, 48\), float32; must be \(4, 48\)'),
    ('lost0.mean', np.zeros(40, np.float32), r'mean has the shape \(40,\), float32; must be \(80,\)'),
    ('slip.inp.bias', np.zeros((), np.float32), r'inp\.weight has the shape \(48, 40\), float32; must be \(1, 40\)'),
    ('slip.mean', None, "lacks the weights 'mean'"), ('slip.norms.1.bias', None, "lacks the weights 'norms.1.bias'")])
def test_weights_that_do_not_fit(tmp_path, file, name, values, told):
    """They loaded, and failed in the worker or made every probability NaN."""
    tensors = load_file(file) | ({} if values is None else {name: values})
    if values is None:
        del tensors[name]
    save_file(tensors, tmp_path / 'x.safetensors', {'format': FORMAT, 'figures': json.dumps(FIGURES)})
    with pytest.raises(UserError, match=told):
        load_slip_network(tmp_path / 'x.safetensors')


def test_only_states_have_one():
    assert shipped_slip_network(('no_contact', 'sphere')) is None
    assert shipped_slip_network(('no_contact', 'stable', 'slip')) is not None
