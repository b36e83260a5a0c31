"""The generator of tactile-mnist: our forward pass, and what is said where its weights are missing."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from toy_generator import install, toy_weights

from vit_tactile_ros.data import picture_generator
from vit_tactile_ros.data.picture_generator import (
    PictureGenerator,
    PictureNetwork,
    generator_file,
    load_weights,
)
from vit_tactile_ros.foundation.errors import UserError


def tensors(weights):
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def convolved(values, weights, name, stride=1):
    weight, bias = weights[f'model.{name}.weight'].astype(float), weights[f'model.{name}.bias']
    side = weight.shape[2]
    height, width = (n - side + 1 for n in values.shape[1:])
    total = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for y in range(side):
        for x in range(side):
            total += np.einsum('oi,ihw->ohw', weight[:, :, y, x], values[:, y:y + height, x:x + width])
    return total[:, ::stride, ::stride]


def enlarged(values, weights, name):
    """Twice as large: each value is added to the output, times the kernel, around its place."""
    weight, bias = weights[f'model.{name}.weight'].astype(float), weights[f'model.{name}.bias']
    _, height, width = values.shape
    total = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for y in range(3):
        for x in range(3):
            total[:, y:y + 2 * height:2, x:x + 2 * width:2] += np.einsum('io,ihw->ohw', weight[:, :, y, x], values)
    return total[:, 1:-1, 1:-1] + bias[:, None, None]


def normal(values):
    return (values - values.mean(axis=(1, 2), keepdims=True)) / np.sqrt(values.var(axis=(1, 2), keepdims=True) + 1e-5)


def padded(values, by, mode='reflect'):
    return np.pad(values, ((0, 0), (by, by), (by, by)), mode=mode)


def plain(values, weights):
    """The network in plain numpy, written from the description of its layers."""
    values = np.maximum(normal(convolved(padded(values, 3), weights, '1')), 0)
    for name in ('4', '7'):
        values = np.maximum(normal(convolved(padded(values, 1, 'constant'), weights, name, stride=2)), 0)
    for n in range(10, 19):
        inner = np.maximum(normal(convolved(padded(values, 1), weights, f'{n}.conv_block.1')), 0)
        values = values + normal(convolved(padded(inner, 1), weights, f'{n}.conv_block.5'))
    for name in ('19', '22'):
        values = np.maximum(normal(enlarged(values, weights, name)), 0)
    return np.tanh(convolved(padded(values, 3), weights, '26'))


def test_the_network_is_the_plain_one():
    weights = toy_weights()
    values = np.random.default_rng(1).uniform(-1, 1, (3, 16, 24))
    with torch.inference_mode():
        found = PictureNetwork(tensors(weights))(torch.from_numpy(values[None].astype(np.float32)))[0].numpy()
    assert found.shape == (3, 16, 24)
    np.testing.assert_allclose(found, plain(values, weights), atol=1e-4)


@pytest.mark.parametrize('has_openvino', (True, False))
def test_a_generator_gives_grey_levels_of_the_depth(monkeypatch, has_openvino):
    if has_openvino:
        pytest.importorskip('openvino')
    else:
        monkeypatch.setitem(sys.modules, 'openvino', None)
    weights = toy_weights()
    generator = PictureGenerator(tensors(weights), side_px=32)
    depth = np.zeros((32, 32), np.float32)
    untouched = generator(depth)
    depth[8:20, 4:16] = 0.9
    places = np.linspace(-1, 1, 32)
    inputs = np.stack([*np.meshgrid(places, places, indexing='ij'), 1 - 2 * depth])
    expected = 127.5 * (plain(inputs, weights) + 1).transpose(1, 2, 0)
    assert np.abs(generator(depth) - expected).mean() < (4 if has_openvino else 0.1)  # OpenVINO may use bfloat16
    assert np.abs(expected - untouched).mean() > 10
    untouched[:] = 0
    assert generator(np.zeros_like(depth)).any(), 'a caller has changed the kept image'
    with pytest.raises(ValueError, match=r'shape \(16, 16\); must be \(32, 32\)'):
        generator(depth[:16, :16])


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='tactile-mnist, which is not installed: pip install --no-deps tactile-mnist'):
        generator_file()


def test_only_the_weights_of_the_package_are_read(tmp_path, monkeypatch):
    """Its `__init__` would import a renderer and data sets."""
    path = install(tmp_path, monkeypatch, toy_weights())
    assert generator_file() == path
    assert set(load_weights(path)) == set(toy_weights())


def test_a_package_without_the_weights_is_refused(tmp_path, monkeypatch):
    path = install(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=f'{path.name} is missing, which tactile-mnist 0.13.0 has'):
        generator_file()


def test_damaged_and_foreign_weights_are_refused(tmp_path):
    path = tmp_path / 'weights.npz'
    weights = toy_weights()
    np.savez(path, **weights)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match=r'weights\.npz cannot be read'):
        load_weights(path)
    del weights['model.7.bias']
    np.savez(path, **weights)
    with pytest.raises(UserError, match=r"has no 'model\.7\.bias'"):
        load_weights(path)


def test_the_real_weights_show_a_square_where_it_is_pressed_in():
    """A mixed-up axis or sign would show it elsewhere, or not at all."""
    if importlib.util.find_spec(picture_generator.PACKAGE) is None:
        pytest.skip('tactile-mnist is not installed: its weights are optional')
    generator = PictureGenerator(load_weights(generator_file()))
    depth = np.zeros((256, 256), np.float32)
    untouched = generator(depth)
    depth[60:100, 140:200] = 1.0
    change = np.abs(generator(depth) - untouched).max(axis=2)
    assert change[50:110, 130:210].max() > 25
    change[40:120, 120:220] = 0
    assert change.max() < 12
