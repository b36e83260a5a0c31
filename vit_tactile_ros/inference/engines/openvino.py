"""OpenVINO on the CPU: one compiled graph per stage."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.engines.openvino_counts import for_counts, for_one_image
from vit_tactile_ros.inference.engines.openvino_graph import embedding_graph, stage_graphs
from vit_tactile_ros.inference.ranges import Range
from vit_tactile_ros.inference.runtime import Precision, check_precision, has_vnni
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.early_exit import Stages
from vit_tactile_ros.model.tokens import Group, Tokens, choose_tokens, run_stages, take_tokens, token_counts

# OpenVINO names its precisions; its own default on CPUs with bfloat16 is bfloat16.
PRECISION_HINTS = {'float32': 'f32', 'bfloat16': 'bf16', 'int8': 'f32'}


NO_RANGES = ("precision is 'int8'; it needs ranges of activations, which this checkpoint lacks: run python -m "
             'vit_tactile_ros.calibrate --checkpoint FILE --output NEW (default checkpoint: the shipped one) and use '
             'NEW, or precision float32')


class OpenVinoRuntime:
    """Compiled stages; those for one image have a fixed shape, which makes them 6 % faster than those for any batch.

    Compiling takes about 0.1 s per stage; a cache on disk would not be faster. The graphs of a network that drops
    patches have a branch for each of five numbers of tokens: `for_counts`.
    """

    name = 'openvino'

    def __init__(self, model: ViTTactile, precision: Precision = 'float32', threads: int = 1,
                 ranges: Sequence[Range] = ()) -> None:
        """`ranges` are those of `inference.ranges`, for int8; layers without int8 use bfloat16 if the CPU has it.

        Raises UserError for an unknown precision, bfloat16 or int8 on a CPU without it, or int8 without ranges,
        NotImplementedError for a layer that the graphs do not support.
        """
        settings = settings_for(precision, threads)
        if precision == 'int8' and not ranges:
            raise UserError(NO_RANGES)
        self.device = torch.device('cpu')
        self.precision = precision
        self._image_shape = (model.config.channels, *model.config.image_size)
        ranges = ranges if precision == 'int8' else ()
        self._patch, self._threshold = model.config.patch_size, model.config.token_threshold
        self._added = model.config.added_exits  # the graphs give what each head adds
        graphs = stage_graphs(model, ranges)
        self._any_batch = compile_graphs(graphs, settings)
        self._counts = token_counts(model.config.num_patches)
        self._one_image = compile_graphs(
            [for_counts(graph, self._counts) if self._threshold else for_one_image(graph) for graph in graphs],
            settings)
        if self._threshold:
            embedding = embedding_graph(model)
            self._embed, self._embed_one = compile_graphs([embedding, for_one_image(embedding)], settings)

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """See `runtime.Runtime`. Raises ValueError for images of another size than the model's, and for groups that
        keep a number of patches that is none of `token_counts`.
        """
        if images.shape[1:] != self._image_shape:
            sides = ', '.join(map(str, self._image_shape))
            raise ValueError(f"images have shape {tuple(images.shape)}; must be (B, {sides}) for engine 'openvino'")
        if groups is None:
            groups = choose_tokens(images, self._patch, self._threshold)
        for group in groups:
            if group.kept is not None and group.kept.patches.shape[1] not in self._counts:
                raise ValueError(f'a group keeps {group.kept.patches.shape[1]} patches; must be one of '
                                 f"{', '.join(map(str, self._counts))} for engine 'openvino'")
        return self._stages_of_one(images, groups) if len(images) == 1 else self._stages(images, groups)

    def _stages_of_one(self, images: Tensor, groups: Sequence[Group]) -> Stages:
        # As `_stages`, without what only batches need: 0.06 ms per stage. Rows that are sent can only be this image.
        values, weights = images.numpy(), []
        if self._threshold:
            (_rows, tokens), = take_tokens(torch.from_numpy(infer(self._embed_one, values)[0]), groups)
            values = tokens.values.numpy()
            weights = [np.ones(values.shape[:2], np.float32) if tokens.weights is None else tokens.weights.numpy()]
        before: NDArray[np.float32] | None = None
        for request in self._one_image:
            logits, *state = infer(request, values, *weights)
            logits = logits.copy() if before is None else before + logits
            yield torch.from_numpy(logits)
            if self._added:
                before = logits
            if state:
                values, = state  # stays in the request's memory until its next run

    def _stages(self, images: Tensor, groups: Sequence[Group]) -> Stages:
        # The results stay in the request's memory until its next run, and the next stage reads them there. Groups of a
        # batch use the same requests, so theirs are copied.
        is_shared = len(groups) > 1

        def run(index: int, tokens: Tokens) -> tuple[Tokens, Tensor]:
            inputs = [tokens.values.numpy()]
            if self._threshold:
                weights = torch.ones(tokens.values.shape[:2]) if tokens.weights is None else tokens.weights
                inputs.append(weights.numpy())
            requests = self._any_batch if len(inputs[0]) > 1 else self._one_image
            results = infer(requests[index], *inputs)
            logits = torch.from_numpy(results[0].copy())
            if tokens.logits is not None:
                logits += tokens.logits
            if len(results) == 1:  # the last stage
                return tokens, logits
            return Tokens(torch.from_numpy(results[1].copy() if is_shared else results[1]), tokens.weights,
                          logits if self._added else None), logits

        if self._threshold:
            embedded, = infer(self._embed, images.numpy())
            parts = take_tokens(torch.from_numpy(embedded), groups)
        else:  # the first stage embeds the images
            parts = [(groups[0].rows, Tokens(images, None))]
        yield from run_stages(parts, len(self._any_batch), run, lambda _index, tokens, rows: tokens.subset(rows))


def infer(request: ov.InferRequest, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The results for these inputs, in the request's memory until its next run.

    As `request.infer(inputs, share_inputs=True, share_outputs=True)`, whose checks and dictionaries take 0.1 ms of
    Python's time, a tenth of four blocks at 96x128.
    """
    arrays = [np.ascontiguousarray(one) for one in inputs]  # alive until the run has ended
    for number, array in enumerate(arrays):
        request.set_input_tensor(number, ov.Tensor(array, shared_memory=True))
    request.infer(share_outputs=True)
    return [tensor.data for tensor in request.output_tensors]


@functools.cache
def _core() -> ov.Core:
    """One for the process, never destroyed: each installs a sigaltstack in its thread and at its end restores the old.

    If two end in the order of their creation, the second restores the stack that the first has freed: the next signal
    that Python handles kills the process.
    """
    return ov.Core()


def settings_for(precision: Precision, threads: int) -> dict[str, Any]:
    """What OpenVINO needs to compile a graph; raises UserError for a precision that it or this CPU does not have."""
    check_precision(precision, tuple(PRECISION_HINTS), OpenVinoRuntime.name)
    has_bfloat16 = 'BF16' in _core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    hint = PRECISION_HINTS[precision]
    if precision == 'bfloat16' and not has_bfloat16:
        raise UserError("precision is 'bfloat16'; this CPU has no bfloat16 arithmetic: for engine 'openvino' "
                        "it must be 'float32' here")
    if precision == 'int8':
        if not has_vnni():
            raise UserError("precision is 'int8'; this CPU has no instructions for 8-bit products (VNNI): for "
                            "engine 'openvino' it must be 'float32'" + " or 'bfloat16'" * has_bfloat16 + ' here')
        hint = 'bf16' if has_bfloat16 else 'f32'
    return {'INFERENCE_PRECISION_HINT': hint, 'INFERENCE_NUM_THREADS': threads,
            'NUM_STREAMS': 1, 'PERFORMANCE_HINT': 'LATENCY',
            'ENABLE_CPU_PINNING': False}  # a pinned thread waits for other processes on its core


def compile_graphs(graphs: Sequence[ov.Model], settings: dict[str, Any]) -> list[ov.InferRequest]:
    return [_core().compile_model(graph, 'CPU', settings).create_infer_request() for graph in graphs]
