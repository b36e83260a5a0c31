"""One OpenVINO graph for several numbers of tokens: a branch for each, which share the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino.opset13 as ops


def for_one_image(graph: ov.Model, tokens: int | None = None) -> ov.Model:
    """A copy, with the same weights, for one image that keeps this number of tokens, if it is given."""
    graph = graph.clone()
    shapes = {entry: entry.partial_shape for entry in graph.inputs}
    for shape in shapes.values():
        shape[0] = 1
        if tokens is not None:
            shape[1] = tokens
    graph.reshape(shapes)
    return graph


def for_counts(graph: ov.Model, counts: Sequence[int]) -> ov.Model:
    """A copy for one image that keeps one of these numbers of tokens, increasing; its inputs are those of `graph`.

    A graph of dynamic size is prepared again whenever the number changes. Here each number has a branch of fixed size.
    Unlike graphs of their own, the branches of a compiled graph share the weights, as the engine has packed them.
    Another number is not refused, and its results are wrong: the caller checks it, as `OpenVinoRuntime.stages` does.
    """
    if len(counts) == 1:
        return for_one_image(graph, counts[0])
    entries = _entries(graph)
    number = ops.gather(ops.shape_of(entries[0], 'i32'), ops.constant(1, np.int64), ops.constant(0, np.int64))
    chosen = ops.if_op(ops.equal(number, ops.constant(counts[0], np.int32)).output(0))
    branch, others = _fixed(graph, counts[0]), _fixed(graph, counts[1]) if len(counts) == 2 else for_counts(
        graph, counts[1:])
    chosen.set_then_body(branch)
    chosen.set_else_body(others)
    for entry, this, other in zip(entries, branch.get_parameters(), others.get_parameters(), strict=True):
        chosen.set_input(entry.output(0), this, other)
    results = [chosen.set_output(this, other) for this, other in zip(branch.get_results(), others.get_results(),
                                                                     strict=True)]
    return ov.Model([ops.result(one) for one in results], entries, graph.friendly_name)


def _entries(graph: ov.Model) -> list[ov.Node]:
    """Inputs as those of `graph`, (1, N) and more sides, for any N."""
    return [ops.parameter(ov.PartialShape([1, *list(entry.partial_shape)[1:]]), np.float32) for entry in graph.inputs]


def _fixed(graph: ov.Model, tokens: int) -> ov.Model:
    """A branch: the copy for this number of tokens, with inputs that take any number."""
    fixed, entries = for_one_image(graph, tokens), _entries(graph)
    for inside, entry in zip(fixed.get_parameters(), entries, strict=True):
        shape = ops.constant([int(side) for side in inside.output(0).shape], np.int64)
        known = ops.reshape(entry, shape, False)
        for user in list(inside.output(0).get_target_inputs()):
            user.replace_source_output(known.output(0))
    return ov.Model(fixed.get_results(), entries, fixed.friendly_name)
