"""The buffers of a padded batch, and one captured graph per stage that works on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vit_tactile_ros.inference.engines.backend import Backend
from vit_tactile_ros.model import ModelConfig, ViTTactile, exit_probabilities
from vit_tactile_ros.model.tokens import Kept


def padded_size(rows: int) -> int:
    """The smallest power of two that holds `rows`."""
    return 1 << (rows - 1).bit_length()


class Shape(NamedTuple):
    """What a set of graphs is for."""

    size: int  # padded number of images
    tokens: int  # that each image keeps


class KeptPatches:
    """Buffers for the patches that each image of a batch keeps, and their weights."""

    def __init__(self, backend: Backend, shape: Shape, dtype: torch.dtype) -> None:
        self.patches_host = backend.host_buffer(*shape, dtype=torch.int64)
        self.weights_host = backend.host_buffer(*shape).fill_(1.0)  # the padding
        self.patches = torch.zeros(*shape, dtype=torch.int64, device=backend.device)
        self.weights = torch.ones(*shape, dtype=dtype, device=backend.device)

    def load(self, kept: Kept) -> None:
        self.patches_host[:len(kept.patches)].copy_(kept.patches)
        self.weights_host[:len(kept.weights)].copy_(kept.weights)

    def upload(self) -> None:
        self.patches.copy_(self.patches_host, non_blocking=True)
        self.weights.copy_(self.weights_host, non_blocking=True)


class Buffers:
    """What the graphs of a padded batch size and a number of tokens read and write, always at the same addresses."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, hidden_dtype: torch.dtype, backend: Backend,
                 shape: Shape) -> None:
        device = backend.device
        size, tokens = shape
        exits, classes = len(config.exits), config.num_classes
        # Rounded on the host: half the bytes to copy.
        self.images_host = backend.host_buffer(size, config.channels, *config.image_size, dtype=dtype)
        self.images = torch.zeros(self.images_host.shape, dtype=dtype, device=device)
        self.kept = KeptPatches(backend, shape, dtype) if tokens < config.num_patches else None
        # Input and output of every stage: the stages run one after the other on one stream.
        self.hidden = torch.zeros(size, tokens, config.width, dtype=hidden_dtype, device=device)
        # What the next exit adds its own logits to, if it does.
        self.logits = torch.zeros(size, classes, dtype=hidden_dtype, device=device) if config.added_exits else None
        # Per exit: logits (C), probabilities (C).
        self.outputs = torch.zeros(exits, size, 2 * classes, device=device)
        self.outputs_host = backend.host_buffer(exits, size, 2 * classes)
        # One per exit: the device may not have read that of an earlier exit yet.
        self.rows_host = backend.host_buffer(exits, size, dtype=torch.int64)
        self.rows = torch.zeros(exits, size, dtype=torch.int64, device=device)

    # The copies from and to the host are part of the graphs: one launch instead of three.

    def upload(self) -> None:
        """The images and the patches that they keep; the beginning of the first graph."""
        self.images.copy_(self.images_host, non_blocking=True)
        if self.kept is not None:
            self.kept.upload()

    def read_back(self, index: int) -> None:
        """The outputs of an exit; the end of its graph."""
        self.outputs_host[index].copy_(self.outputs[index], non_blocking=True)


class Steps(Protocol):
    """A network as the work of its graphs."""

    dtype: torch.dtype  # of the images
    hidden_dtype: torch.dtype  # of what a stage passes to the next

    def on(self, buffers: Buffers, temperatures: Tensor) -> Callable[[int], None]:
        """A function that queues stage i on these buffers, from the images to the outputs on the host.

        temperatures: of the exits, (E,), on the device; they change between two runs.
        """


class TorchSteps:
    """The modules of the network, as they are."""

    def __init__(self, model: ViTTactile, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = self.hidden_dtype = dtype
        self._model = model.to(device, dtype)

    def on(self, buffers: Buffers, temperatures: Tensor) -> Callable[[int], None]:
        model, kept = self._model, buffers.kept

        def run(index: int) -> None:
            x, weights, before = buffers.hidden, None if kept is None else kept.weights, None
            if index == 0:
                buffers.upload()
                x = model.embed(buffers.images)
                if kept is not None:
                    x = x.gather(1, kept.patches.unsqueeze(2).expand(-1, -1, x.shape[2]))
            else:
                before = buffers.logits
            x, logits = model.stage_modules[index](x, weights, before)
            if index + 1 < len(model.stage_modules):
                buffers.hidden.copy_(x)
                if buffers.logits is not None:
                    buffers.logits.copy_(logits)
            # As `exit_probabilities`, whose temperature is a number.
            probabilities = exit_probabilities(logits.float() / temperatures[index])
            torch.cat((logits.float(), probabilities), dim=-1, out=buffers.outputs[index])
            buffers.read_back(index)
        return run


class Graphs:
    """The buffers of a shape and a captured graph for each stage."""

    def __init__(self, config: ModelConfig, steps: Steps, backend: Backend, shape: Shape, temperatures: Tensor) -> None:
        self.buffers = Buffers(config, steps.dtype, steps.hidden_dtype, backend, shape)
        # Kept, since a captured graph does not keep the tensors that a step works on.
        self._step = steps.on(self.buffers, temperatures)
        self.replay = [backend.capture(functools.partial(self._step, index)) for index in range(len(config.exits))]
