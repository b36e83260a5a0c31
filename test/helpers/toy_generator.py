"""A generator of the shape of tactile-mnist's, with few and random weights, and an installed package that holds it."""

from __future__ import annotations

import numpy as np


def toy_weights(seed=0, widths=(2, 3, 4)):
    """The file's arrays; the real widths are 64, 128 and 256."""
    rng = np.random.default_rng(seed)
    narrow, middle, wide = widths
    sizes = {'1': (narrow, 3, 7), '4': (middle, narrow, 3), '7': (wide, middle, 3), '19': (wide, middle, 3),
             '22': (middle, narrow, 3), '26': (3, narrow, 7)}
    sizes |= {f'{n}.conv_block.{part}': (wide, wide, 3) for n in range(10, 19) for part in (1, 5)}
    found = {}
    for name, (first, second, side) in sizes.items():
        scale = 1 / np.sqrt(second * side * side)
        found[f'model.{name}.weight'] = scale * rng.standard_normal((first, second, side, side))
        # of a transposed convolution, the second is the number of outputs
        outputs = second if name in ('19', '22') else first
        found[f'model.{name}.bias'] = 0.1 * rng.standard_normal(outputs)
    return {name: value.astype(np.float32) for name, value in found.items()}


def install(folder, monkeypatch, weights=None):
    """A package tactile_mnist in the folder with these weights, default: none; the path of the weights."""
    path = folder / 'tactile_mnist' / 'resources' / 'cycle_gan_tactile_mnist_v0.npz'
    path.parent.mkdir(parents=True)
    (folder / 'tactile_mnist' / '__init__.py').write_text("raise RuntimeError('its code must not run')")
    if weights is not None:
        np.savez(path, **weights)
    monkeypatch.syspath_prepend(folder)
    return path


def plain_generator(depth):
    """A `simulator.generated.Generator` that is easy to predict: a grey image, brighter where it is pressed in."""
    return np.repeat(100 + 80 * depth[..., None], 3, axis=2).astype(np.float32)
