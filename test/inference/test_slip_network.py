"""The motion networks image by image: as in training, by the stamps of the images, and what a file must have."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.motion_figures import FIGURES, figures_of
from vit_tactile_ros.inference.slip_network import (
    FORMAT,
    LEAST_BINS,
    SlipDetector,
    load_slip_network,
    shipped_slip_network,
)
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
    np.testing.assert_allclose(np.stack([one.states for one in found]), logits, atol=2e-5)
    bins = figures.reshape(-1, 5, len(FIGURES))
    series = np.concatenate([bins.mean(axis=1), bins.max(axis=1)], axis=1)
    odds = np.mean([one.outputs(series) for one in trained[1:]], axis=0)
    first = 5 * LEAST_BINS  # a bin ends with the first image after it
    lost = np.array([one.lost for one in found])
    assert np.isnan(lost[:first]).all()
    np.testing.assert_allclose(lost[first::5], odds[LEAST_BINS - 1:-1], atol=2e-5)


def test_the_rate_of_the_camera_changes_little(file, maps):
    """60 images/s: the context of the network would be half as long; 12.5: twice as long."""
    network = load_slip_network(file)
    still = np.repeat(maps[:1], 240, axis=0)
    wanted = seen(network.detector(), still)[-1].states
    for step in (16_666_667, 33_333_333, 80_000_000):
        np.testing.assert_allclose(seen(network.detector(), still, step)[-1].states, wanted, atol=1e-4)
    assert seen(network.detector(), maps[:2], 10_000_000)[1] is not None  # too soon: the evidence of the one before
    one, other = network.detector(), network.detector()
    assert (seen(one, maps[:2], 10_000_000)[1].states == seen(other, maps[:1])[0].states).all()


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
                        ({'format': FORMAT, 'figures': json.dumps(FIGURES)}, "lacks the weights 'mean'")):
        save_file({'x': np.zeros(1, np.float32)}, tmp_path / 'x.safetensors', facts)
        with pytest.raises(UserError, match=told):
            load_slip_network(tmp_path / 'x.safetensors')


def test_only_states_have_one():
    assert shipped_slip_network(('no_contact', 'sphere')) is None
    assert shipped_slip_network(('no_contact', 'stable', 'slip')) is not None
