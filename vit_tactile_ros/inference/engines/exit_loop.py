"""Early exit over prepared graphs: padding, the decision on the device, speculation, finished samples taken out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines.backend import Backend
from vit_tactile_ros.model import ExitResult, Hurry, ViTTactile, exit_score
from vit_tactile_ros.model.early_exit import Stages, exit_probabilities
from vit_tactile_ros.model.tokens import Group, Kept, run_stages

MAX_BATCH = 64
FORGETTING = 0.1  # weight of the newest batch in the running share of batches that end at an exit


def padded_size(rows: int) -> int:
    """The smallest power of two that holds `rows`."""
    return 1 << (rows - 1).bit_length()


class _Shape(NamedTuple):
    """What a set of graphs is for."""

    size: int  # padded number of images
    tokens: int  # that each image keeps


class _KeptPatches:
    """Buffers for the patches that each image of a batch keeps, and their weights."""

    def __init__(self, backend: Backend, shape: _Shape, dtype: torch.dtype) -> None:
        self.patches_host = backend.host_buffer(*shape, dtype=torch.int64)
        self.weights_host = backend.host_buffer(*shape).fill_(1.0)  # the padding
        self.patches = torch.zeros(*shape, dtype=torch.int64, device=backend.device)
        self.weights = torch.ones(*shape, dtype=dtype, device=backend.device)

    def load(self, kept: Kept) -> None:
        self.patches_host[:len(kept.patches)].copy_(kept.patches)
        self.weights_host[:len(kept.weights)].copy_(kept.weights)

    def take(self, embedded: Tensor) -> Tensor:
        """Part of the first graph."""
        self.patches.copy_(self.patches_host, non_blocking=True)
        self.weights.copy_(self.weights_host, non_blocking=True)
        return embedded.gather(1, self.patches.unsqueeze(2).expand(-1, -1, embedded.shape[2]))


class _Graphs:
    """Static buffers and one graph per stage for one padded batch size P and number of tokens N."""

    def __init__(self, model: ViTTactile, dtype: torch.dtype, backend: Backend, shape: _Shape, limits: Tensor,
                 temperatures: Tensor) -> None:
        config, device = model.config, backend.device
        size, tokens = shape
        exits, classes = len(config.exits), config.num_classes
        self.images_host = backend.host_buffer(size, config.channels, *config.image_size)
        self.images = torch.zeros(self.images_host.shape, device=device)
        self.kept = _KeptPatches(backend, shape, dtype) if tokens < config.num_patches else None
        # Input and output of every stage: the stages run one after the other on one stream.
        self.hidden = torch.zeros(size, tokens, config.width, dtype=dtype, device=device)
        # What the next exit adds its own logits to, if it does.
        self.logits = torch.zeros(size, classes, dtype=dtype, device=device) if config.added_exits else None
        # Per exit: logits (C), probabilities (C), 1 where the sample exits.
        self.outputs = torch.zeros(exits, size, 2 * classes + 1, device=device)
        self.outputs_host = backend.host_buffer(exits, size, 2 * classes + 1)
        # One per exit: the device may not have read that of an earlier exit yet.
        self.rows_host = backend.host_buffer(exits, size, dtype=torch.int64)
        self.rows = torch.zeros(exits, size, dtype=torch.int64, device=device)

        def work(index: int) -> Callable[[], None]:
            def run() -> None:
                # The copies from and to the host are part of the graph: one launch instead of three.
                if index == 0:
                    self.images.copy_(self.images_host, non_blocking=True)
                x = model.embed(self.images.to(dtype)) if index == 0 else self.hidden
                if index == 0 and self.kept:
                    x = self.kept.take(x)
                x, logits = model.stage_modules[index](x, self.kept and self.kept.weights,
                                                       self.logits if index else None)
                if index < exits - 1:
                    self.hidden.copy_(x)
                    if self.logits is not None:
                        self.logits.copy_(logits)
                logits = logits.float()
                probabilities = torch.softmax(logits / temperatures[index], dim=-1)
                reached = exit_score(probabilities).unsqueeze(-1) >= limits[index]
                self.outputs[index].copy_(torch.cat((logits, probabilities, reached.float()), dim=-1))
                self.outputs_host[index].copy_(self.outputs[index], non_blocking=True)
            return run

        self.replay = [backend.capture(work(index)) for index in range(exits)]


class ExitLoop:
    """Runs a network's stages over a backend; not thread-safe, one generator or call at a time."""

    def __init__(self, model: ViTTactile, dtype: torch.dtype, backend: Backend, speculate: bool | None = None) -> None:
        self._model, self._dtype, self._backend, self._speculate = model, dtype, backend, speculate
        self._exits = len(model.config.exits)
        self._classes = model.config.num_classes
        # Read by the graphs, so that a new tau needs no new graph. At the last exit every sample exits.
        with torch.inference_mode(False), backend.stream():
            self._limits = torch.zeros(self._exits, device=backend.device)
            self._temperatures = torch.ones(self._exits, device=backend.device)
        self._set: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        self._graphs: dict[_Shape, _Graphs] = {}
        self.ended = [0.0] * self._exits  # running share of the batches that reached an exit and ended there
        self.launched: list[tuple[int, int]] = []  # (exit, padded size) of the last batch, in order

    def prepare(self, size: int, tokens: int = 0) -> None:
        """Capture the graphs of a padded size and a number of tokens (0: all), unless they exist."""
        shape = _Shape(size, tokens or self._model.config.num_patches)
        if shape not in self._graphs:
            # Buffers of inference mode could not be written outside of it later.
            with torch.inference_mode(False), torch.no_grad(), self._backend.stream():
                self._graphs[shape] = _Graphs(self._model, self._dtype, self._backend, shape, self._limits,
                                              self._temperatures)

    def early_exit(self, images: Tensor, tau: Sequence[float], temperatures: Sequence[float],
                   hurry: Hurry | None = None, evidence: Tensor | None = None,
                   groups: Sequence[Group] | None = None) -> ExitResult:
        """As `decide`; float32 (B, channels, H, W) images in host memory, the result in host memory."""
        self._check(images)
        assert len(temperatures) == self._exits and len(tau) == self._exits - 1
        self._set_limits(tuple(tau), tuple(temperatures))
        known = None if evidence is None else evidence.numpy()
        groups = self._model.choose(images) if groups is None else groups
        parts = [part for group in groups for part in group.split(MAX_BATCH)]
        results = [self._one_batch(images, part, hurry, known) for part in parts]
        if len(results) == 1:
            return results[0]
        order = torch.cat([part.rows for part in parts]).argsort()
        return ExitResult(*(torch.cat(of_parts)[order] for of_parts in zip(
            *((r.logits, r.probabilities, r.exit_index, r.confidences) for r in results), strict=True)))

    def _one_batch(self, images: Tensor, group: Group, hurry: Hurry | None,
                   evidence: NDArray[np.float32] | None) -> ExitResult:
        """The images of the group; `hurry` and `evidence` know the places of all images."""
        numbers = group.rows.numpy()
        batch, classes = len(numbers), self._classes
        logits, probabilities = (np.zeros((batch, classes), np.float32) for _ in range(2))
        exit_index = np.zeros(batch, np.int64)
        confidences = np.full((batch, self._exits), np.nan, np.float32)
        still = np.ones(batch, bool)  # samples without a result
        places: NDArray[Any] = np.arange(batch)  # which sample each row of the padded batch is
        shape = self._load(images, group)
        waits = {0: (self._launch(0, shape), places, shape)}
        for index in range(self._exits):
            last = index == self._exits - 1
            ahead = not last and self._starts_ahead(index)
            if ahead:
                shape, places = self._compact(index + 1, shape, places, still)
                waits[index + 1] = (self._launch(index + 1, shape), places, shape)
            wait, rows, of_shape = waits[index]
            wait()
            output = self._graphs[of_shape].outputs_host[index].numpy()[:len(rows)]
            if evidence is not None:
                output = self._with_evidence(output, evidence[numbers[rows]], index)
            here = still[rows]
            confidences[rows[here], index] = exit_score(output[here, classes:2 * classes])
            exiting = here & (output[:, -1] > 0.5) if not last else here
            if hurry is not None and not last:
                for i in np.flatnonzero(here & ~exiting):
                    exiting[i] = hurry.at(index, confidences[rows[i], index],
                                          int(output[i, classes:2 * classes].argmax()), int(numbers[rows[i]]))
            exited = rows[exiting]
            logits[exited], probabilities[exited] = output[exiting, :classes], output[exiting, classes:2 * classes]
            exit_index[exited] = index
            still[exited] = False
            ends = not still.any()
            self.ended[index] += FORGETTING * (float(ends) - self.ended[index])
            if ends:
                break
            if not ahead:
                shape, places = self._compact(index + 1, shape, places, still)
                waits[index + 1] = (self._launch(index + 1, shape), places, shape)
        return ExitResult(torch.from_numpy(logits), torch.from_numpy(probabilities), torch.from_numpy(exit_index),
                          torch.from_numpy(confidences))

    def _with_evidence(self, output: NDArray[np.float32], evidence: NDArray[np.float32], index: int,
                       ) -> NDArray[np.float32]:
        """The outputs of an exit as they would be with these log likelihoods."""
        assert self._set is not None
        tau, temperatures = self._set
        logits = torch.from_numpy(output[:, :self._classes] + np.float32(temperatures[index]) * evidence)
        probabilities = exit_probabilities(logits, temperatures[index])
        limit = tau[index] if index < len(tau) and tau[index] < 1.0 else math.inf  # the last exit needs none
        reached = exit_score(probabilities).unsqueeze(-1) >= limit
        return cast(NDArray[np.float32], torch.cat((logits, probabilities, reached.float()), dim=-1).numpy())

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """Logits of each exit in turn, on the device; see `ViTTactile.stages`. At most 64 images."""
        self._check(images)
        if len(images) > MAX_BATCH:
            raise UserError(f'images are a batch of {len(images)}; must be at most {MAX_BATCH}')
        return self._stages(images, self._model.choose(images) if groups is None else groups)

    def _stages(self, images: Tensor, groups: Sequence[Group]) -> Stages:
        def run(index: int, state: tuple[_Shape, int]) -> tuple[tuple[_Shape, int], Tensor]:
            shape, count = state
            self._launch(index, shape)()
            # From the host's copy: the caller uses another stream.
            logits = self._graphs[shape].outputs_host[index, :count, :self._classes].clone()
            return state, logits.to(self._backend.device)

        def subset(index: int, state: tuple[_Shape, int], rows: Tensor) -> tuple[_Shape, int]:
            wanted = rows.cpu().numpy()
            return self._move(index, state[0], wanted), len(wanted)

        parts = [(group.rows, (self._load(images, group), len(group.rows))) for group in groups]
        yield from run_stages(parts, self._exits, run, subset)

    def _check(self, images: Tensor) -> None:
        wanted = (self._model.config.channels, *self._model.config.image_size)
        if images.ndim != 4 or images.shape[1:] != wanted or len(images) == 0:
            raise ValueError(f'images have shape {tuple(images.shape)}; must be (B, {", ".join(map(str, wanted))}) '
                             "with B at least 1 for engine 'cuda_graph'")

    def _set_limits(self, tau: tuple[float, ...], temperatures: tuple[float, ...]) -> None:
        if self._set == (tau, temperatures):
            return
        limits = [t if t < 1.0 else math.inf for t in tau] + [-math.inf]
        with self._backend.stream():  # after the graphs that still read the old values
            self._limits.copy_(torch.tensor(limits))
            self._temperatures.copy_(torch.tensor(temperatures))
        self._set = (tau, temperatures)

    def _starts_ahead(self, index: int) -> bool:
        return self.ended[index] < 0.5 if self._speculate is None else self._speculate

    def _load(self, images: Tensor, group: Group) -> _Shape:
        """The images of the group to the buffers of a first graph, which is returned.

        Rows of padding keep their contents: samples are independent.
        """
        self.launched = []
        count, kept = len(group.rows), group.kept
        shape = _Shape(padded_size(count), self._model.config.num_patches if kept is None else kept.patches.shape[1])
        self.prepare(*shape)
        graphs = self._graphs[shape]
        # The last read of this buffer is done, since every batch waits for its first exit.
        graphs.images_host[:count].copy_(group.images(images))
        if kept is not None:
            assert graphs.kept
            graphs.kept.load(kept)
        return shape

    def _launch(self, index: int, shape: _Shape) -> Callable[[], None]:
        """Queue a stage, which ends with the read-back of its output; returns a function that waits for it."""
        graphs = self._graphs[shape]
        self.launched.append((index, shape.size))
        with self._backend.stream():
            graphs.replay[index]()
            return self._backend.mark()

    def _compact(self, index: int, shape: _Shape, places: NDArray[Any], still: NDArray[np.bool_],
                 ) -> tuple[_Shape, NDArray[Any]]:
        """Remove finished samples before the stage of exit `index` if that makes the padded batch smaller."""
        kept = np.flatnonzero(still[places])
        if padded_size(len(kept)) == shape.size:
            return shape, places
        return self._move(index, shape, kept), places[kept]

    def _move(self, index: int, shape: _Shape, rows: NDArray[Any]) -> _Shape:
        """Copy rows of a batch to the smallest batch that holds them, whose shape is returned."""
        smaller = shape._replace(size=padded_size(len(rows)))
        self.prepare(*smaller)
        source, target = self._graphs[shape], self._graphs[smaller]
        host = target.rows_host[index]
        host.zero_()  # the padding repeats row 0
        host[:len(rows)] = torch.from_numpy(np.ascontiguousarray(rows))
        with self._backend.stream():
            target.rows[index].copy_(host, non_blocking=True)
            target.hidden.copy_(source.hidden[target.rows[index]])
            if source.logits is not None and target.logits is not None:
                target.logits.copy_(source.logits[target.rows[index]])
            if source.kept and target.kept:
                target.kept.weights.copy_(source.kept.weights[target.rows[index]])
        return smaller
