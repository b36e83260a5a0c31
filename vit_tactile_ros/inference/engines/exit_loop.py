"""Early exit over prepared graphs: padding, speculation, the decision, finished samples taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines.backend import Backend
from vit_tactile_ros.inference.engines.graphs import Graphs, Shape, Steps, padded_size
from vit_tactile_ros.model import ExitResult, Hurry, ViTTactile, exit_score
from vit_tactile_ros.model.early_exit import Stages, exit_probabilities, score_limit
from vit_tactile_ros.model.tokens import Group, run_stages

MAX_BATCH = 64
FORGETTING = 0.1  # weight of the newest batch in the running share of batches that end at an exit


class ExitLoop:
    """Runs a network's stages over a backend; not thread-safe, one generator or call at a time."""

    def __init__(self, model: ViTTactile, steps: Steps, backend: Backend, speculate: bool | None = None) -> None:
        """model: that of the steps, for its choice of patches; its weights are not used."""
        self._model, self._steps, self._backend, self._speculate = model, steps, backend, speculate
        self._exits = len(model.config.exits)
        self._classes = model.config.num_classes
        # Read by the graphs, so that other temperatures need no new graph.
        with torch.inference_mode(False), backend.stream():
            self._temperatures = torch.ones(self._exits, device=backend.device)
        self._set: tuple[float, ...] | None = None  # the temperatures there
        self._graphs: dict[Shape, Graphs] = {}
        self.ended = [0.0] * self._exits  # running share of the batches that reached an exit and ended there
        self.launched: list[tuple[int, int]] = []  # (exit, padded size) of the last batch, in order

    def prepare(self, size: int, tokens: int = 0) -> None:
        """Capture the graphs of a padded size and a number of tokens (0: all), unless they exist."""
        shape = Shape(size, tokens or self._model.config.num_patches)
        if shape not in self._graphs:
            # Buffers of inference mode could not be written outside of it later.
            with torch.inference_mode(False), torch.no_grad(), self._backend.stream():
                self._graphs[shape] = Graphs(self._model.config, self._steps, self._backend, shape,
                                             self._temperatures)

    def early_exit(self, images: Tensor, tau: Sequence[float], temperatures: Sequence[float],
                   hurry: Hurry | None = None, evidence: Tensor | None = None,
                   groups: Sequence[Group] | None = None) -> ExitResult:
        """As `decide`; float32 (B, channels, H, W) images in host memory, the result in host memory."""
        self._check(images)
        assert len(temperatures) == self._exits and len(tau) == self._exits - 1
        self._set_temperatures(tuple(temperatures))
        limits = [score_limit(t) for t in tau]
        known = None if evidence is None else evidence.numpy()
        groups = self._model.choose(images) if groups is None else groups
        parts = [part for group in groups for part in group.split(MAX_BATCH)]
        results = [self._one_batch(images, part, limits, hurry, known) for part in parts]
        if len(results) == 1:
            return results[0]
        order = torch.cat([part.rows for part in parts]).argsort()
        return ExitResult(*(torch.cat(of_parts)[order] for of_parts in zip(
            *((r.logits, r.probabilities, r.exit_index, r.confidences) for r in results), strict=True)))

    def _one_batch(self, images: Tensor, group: Group, limits: Sequence[np.float32], hurry: Hurry | None,
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
            output = self._graphs[of_shape].buffers.outputs_host[index].numpy()[:len(rows)]
            if evidence is not None:
                output = self._with_evidence(output, evidence[numbers[rows]], index)
            here = still[rows]
            scores = exit_score(output[:, classes:])
            confidences[rows[here], index] = scores[here]
            exiting = here if last else here & (scores >= limits[index])
            if hurry is not None and not last:
                for i in np.flatnonzero(here & ~exiting):
                    exiting[i] = hurry.at(index, confidences[rows[i], index], int(numbers[rows[i]]))
            exited = rows[exiting]
            logits[exited], probabilities[exited] = output[exiting, :classes], output[exiting, classes:]
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
        temperature = self._set[index]
        logits = torch.from_numpy(output[:, :self._classes] + np.float32(temperature) * evidence)
        return cast(NDArray[np.float32], torch.cat((logits, exit_probabilities(logits, temperature)), dim=1).numpy())

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """Logits of each exit in turn, on the device; see `ViTTactile.stages`. At most 64 images."""
        self._check(images)
        if len(images) > MAX_BATCH:
            raise UserError(f'images are a batch of {len(images)}; must be at most {MAX_BATCH}')
        return self._stages(images, self._model.choose(images) if groups is None else groups)

    def _stages(self, images: Tensor, groups: Sequence[Group]) -> Stages:
        def run(index: int, state: tuple[Shape, int]) -> tuple[tuple[Shape, int], Tensor]:
            shape, count = state
            self._launch(index, shape)()
            # From the host's copy: the caller uses another stream.
            logits = self._graphs[shape].buffers.outputs_host[index, :count, :self._classes].clone()
            return state, logits.to(self._backend.device)

        def subset(index: int, state: tuple[Shape, int], rows: Tensor) -> tuple[Shape, int]:
            wanted = rows.cpu().numpy()
            return self._move(index, state[0], wanted), len(wanted)

        parts = [(group.rows, (self._load(images, group), len(group.rows))) for group in groups]
        yield from run_stages(parts, self._exits, run, subset)

    def _check(self, images: Tensor) -> None:
        wanted = (self._model.config.channels, *self._model.config.image_size)
        if images.ndim != 4 or images.shape[1:] != wanted or len(images) == 0:
            raise ValueError(f'images have shape {tuple(images.shape)}; must be (B, {", ".join(map(str, wanted))}) '
                             'with B at least 1 for an engine with CUDA graphs')

    def _set_temperatures(self, temperatures: tuple[float, ...]) -> None:
        if self._set != temperatures:
            with self._backend.stream():  # after the graphs that still read the old values
                self._temperatures.copy_(torch.tensor(temperatures))
            self._set = temperatures

    def _starts_ahead(self, index: int) -> bool:
        return self.ended[index] < 0.5 if self._speculate is None else self._speculate

    def _load(self, images: Tensor, group: Group) -> Shape:
        """The images of the group to the buffers of a first graph, which is returned.

        Rows of padding keep their contents: samples are independent.
        """
        self.launched = []
        count, kept = len(group.rows), group.kept
        shape = Shape(padded_size(count), self._model.config.num_patches if kept is None else kept.patches.shape[1])
        self.prepare(*shape)
        buffers = self._graphs[shape].buffers
        # The last read of this buffer is done, since every batch waits for its first exit.
        buffers.images_host[:count].copy_(group.images(images))
        if kept is not None:
            assert buffers.kept
            buffers.kept.load(kept)
        return shape

    def _launch(self, index: int, shape: Shape) -> Callable[[], None]:
        """Queue a stage, which ends with the read-back of its output; returns a function that waits for it."""
        graphs = self._graphs[shape]
        self.launched.append((index, shape.size))
        with self._backend.stream():
            graphs.replay[index]()
            return self._backend.mark()

    def _compact(self, index: int, shape: Shape, places: NDArray[Any], still: NDArray[np.bool_],
                 ) -> tuple[Shape, NDArray[Any]]:
        """Remove finished samples before the stage of exit `index` if that makes the padded batch smaller."""
        kept = np.flatnonzero(still[places])
        if padded_size(len(kept)) == shape.size:
            return shape, places
        return self._move(index, shape, kept), places[kept]

    def _move(self, index: int, shape: Shape, rows: NDArray[Any]) -> Shape:
        """Copy rows of a batch to the smallest batch that holds them, whose shape is returned."""
        smaller = shape._replace(size=padded_size(len(rows)))
        self.prepare(*smaller)
        source, target = self._graphs[shape].buffers, self._graphs[smaller].buffers
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
