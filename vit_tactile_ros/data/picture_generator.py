"""The generator of real-looking GelSight Mini images in the package tactile-mnist (MIT): its weights, run here.

Only the file with the weights is read, from the installed package; none of the package's code runs. The network (He et
al.'s residual blocks as in Johnson et al., 'Perceptual losses', and CycleGAN; 11.4 million parameters, 57 billion
multiply-adds an image) was learned from 153,600 real touches.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.arrays import read_arrays
from vit_tactile_ros.inference.runtime import Precision, computes_in_bfloat16

PACKAGE = 'tactile_mnist'
WEIGHTS = 'resources/cycle_gan_tactile_mnist_v0.npz'
INSTALL = 'pip install --no-deps tactile-mnist==0.13.0'  # its 13 dependencies are not needed for the weights

_STEM, _DOWN, _BLOCKS, _UP, _OUTPUT = 1, (4, 7), range(10, 19), (19, 22), 26  # numbers of the layers in the file


class PictureNetwork(nn.Module):
    """From (1, 3, H, W), the coordinates y and x and the height, all in -1 to 1, to an RGB image in -1 to 1.

    H and W: multiples of 4. Raises KeyError for weights that are missing.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers = [str(n) for n in (_STEM, *_DOWN, *_UP, _OUTPUT)]
        layers += [f'{n}.conv_block.{part}' for n in _BLOCKS for part in (1, 5)]
        self._name = {name: name.replace('.', '_') for name in layers}
        for name, own in self._name.items():
            for kind in ('weight', 'bias'):
                self.register_buffer(f'{own}_{kind}', weights[f'model.{name}.{kind}'])

    def _layer(self, apply: Callable[..., Tensor], values: Tensor, name: object, **settings: int) -> Tensor:
        own = self._name[str(name)]
        return apply(values, getattr(self, f'{own}_weight'), getattr(self, f'{own}_bias'), **settings)

    def _padded(self, values: Tensor, name: object, by: int) -> Tensor:
        return self._layer(functional.conv2d, functional.pad(values, (by,) * 4, mode='reflect'), name)

    def forward(self, values: Tensor) -> Tensor:
        normal, relu = functional.instance_norm, functional.relu
        values = relu(normal(self._padded(values, _STEM, 3)))
        for n in _DOWN:
            values = relu(normal(self._layer(functional.conv2d, values, n, stride=2, padding=1)))
        for n in _BLOCKS:
            inner = relu(normal(self._padded(values, f'{n}.conv_block.1', 1)))
            values = values + normal(self._padded(inner, f'{n}.conv_block.5', 1))
        for n in _UP:
            values = relu(normal(self._layer(functional.conv_transpose2d, values, n, stride=2, padding=1,
                                             output_padding=1)))
        return torch.tanh(self._padded(values, _OUTPUT, 3))


class PictureGenerator:
    """Calls the network: a `simulator.generated.Generator`. One thread; bfloat16 where the CPU computes in it.

    With OpenVINO 4 times as fast as with torch: 0.4 s an image on a CPU with AMX.
    """

    def __init__(self, weights: Mapping[str, Tensor], side_px: int = 256) -> None:
        network = PictureNetwork(weights).eval()
        places = np.linspace(-1, 1, side_px, dtype=np.float32)
        self._places = np.stack(np.meshgrid(places, places, indexing='ij'))
        self._untouched: NDArray[np.float32] | None = None
        self._run = _compiled(network, side_px)

    def __call__(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Grey levels, (side_px, side_px, 3) RGB, of the depth as a share of `PRESS_MM`, (side_px, side_px)."""
        if self._places.shape[1:] != depth.shape:
            raise ValueError(f'depth has shape {depth.shape}; must be {self._places.shape[1:]}')
        if depth.any():
            return self._draw(depth)
        if self._untouched is None:
            self._untouched = self._draw(depth)
        return self._untouched.copy()

    def _draw(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        drawn = self._run(np.concatenate([self._places, 1 - 2 * depth[None].astype(np.float32)])[None])
        return np.ascontiguousarray((drawn[0].transpose(1, 2, 0) + 1) * np.float32(127.5))


def _compiled(network: PictureNetwork, side_px: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    example = torch.zeros(1, 3, side_px, side_px)
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # kept; OpenVINO lets subnormal numbers be zero in its threads, which numpy would warn of later
    try:
        import openvino as ov

        from vit_tactile_ros.inference.engines.openvino import compile_graphs, infer, settings_for
    except ModuleNotFoundError:
        def with_torch(values: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return network(torch.from_numpy(values)).numpy()
        return with_torch
    with torch.inference_mode():  # its check would draw the image twice more, and import torch.distributed
        traced = torch.jit.trace(network, example, check_trace=False)
    graph = ov.convert_model(traced, example_input=example)
    graph.reshape(list(example.shape))
    precision: Precision = 'bfloat16' if computes_in_bfloat16(torch.device('cpu')) else 'float32'
    request, = compile_graphs([graph], settings_for(precision, threads=1))
    return lambda values: infer(request, values)[0].astype(np.float32)


def generator_file() -> Path:
    """The weights in the installed package; raises UserError if it is not installed or lacks them."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UserError(f'generated images need the weights in the package tactile-mnist, which is not installed: '
                        f'{INSTALL}')
    path = Path(found.origin).parent / WEIGHTS
    if not path.is_file():
        raise UserError(f'{path} is missing, which tactile-mnist 0.13.0 has: {INSTALL}')
    return path


def load_weights(path: Path) -> dict[str, Tensor]:
    """All weights of the file, by name; raises UserError naming the file if it is damaged or of another network."""
    try:
        weights = {name: torch.from_numpy(values) for name, values in read_arrays(path).items()}
        PictureNetwork(weights)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}; {INSTALL}') from error
    except KeyError as error:
        raise UserError(f'{path} has no {error}; it must be that of tactile-mnist 0.13.0: {INSTALL}') from error
    return weights


def picture_generator() -> PictureGenerator:
    """The generator of this process; raises UserError as `generator_file` and `load_weights` do."""
    return _of_process(os.getpid())


@functools.lru_cache(maxsize=1)
def _of_process(_process: int) -> PictureGenerator:
    # not shared with processes that fork: OpenVINO's threads exist only in the process that started them
    return PictureGenerator(load_weights(generator_file()))


def generator_key() -> str:
    """A name of the weights and of this code that changes with them."""
    return hashlib.sha256(generator_file().read_bytes() + Path(__file__).read_bytes()).hexdigest()
