"""Removes work from a converted graph that changes no output.

tf2onnx computes shapes at run time wherever the batch size is free. In a small network that takes longer than the
layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.shape_inference

_ELEMENTWISE = ("Add", "Div", "Mul", "Sub")
_RECURRENT = ("LSTM", "GRU", "RNN")


def simplify(model: onnx.ModelProto) -> None:
    """Simplify the graph in place: make shapes of Reshape constant, drop zero initial states and unused nodes.

    A pass that fails is skipped: it saves time only, and other graphs than ours can hold nodes it does not expect.
    """
    for run_pass in (_fix_reshapes, _reshape_before_scaling, _drop_zero_states, _prune):
        before = model.SerializeToString()
        try:
            run_pass(model)
        except Exception:  # a malformed node can raise anything
            model.ParseFromString(before)


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph itself and the bodies of its loops and branches, at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from subgraphs(body)


def _fix_reshapes(model: onnx.ModelProto) -> None:
    """Make the shape of a Reshape constant if its result has at most one free axis, which becomes -1.

    A shape with a 0 is left alone: in ONNX, 0 means "copy this axis from the input".
    """
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
    constants = {tensor.name for tensor in graph.initializer}
    for n, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] in constants:
            continue
        shape = shapes.get(node.output[0])
        if shape and shape.count(-1) <= 1 and 0 not in shape:
            name = f"shape_{n}"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape, np.int64), name))
            node.input[1] = name


def _reshape_before_scaling(model: onnx.ModelProto) -> None:
    """Move scaling by scalars behind a Reshape that follows it; the numbers stay the same.

    ONNX Runtime scales [b, h, w, 1] one number at a time. In LeNet-5 that took 16 of 44 microseconds.
    """
    graph = model.graph
    scalars = {tensor.name for tensor in graph.initializer if not tensor.dims}
    constants = {tensor.name for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    readers = Counter(name for body in subgraphs(graph) for node in body.node for name in node.input)
    readers.update(value.name for body in subgraphs(graph) for value in body.output)
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        chain: list[onnx.NodeProto] = []  # from the Reshape towards the input
        above = made_by.get(node.input[0])
        while above is not None and above.op_type in _ELEMENTWISE and readers[above.output[0]] == 1:
            given = [name for name in above.input if name not in scalars]
            if len(given) != 1:
                break
            chain.append(above)
            above = made_by.get(given[0])
        if not chain:
            continue
        # Nodes must stay in topological order, so their places stay and their contents move by one.
        places, moved = [node, *chain], [*chain, node]
        contents = [onnx.NodeProto.FromString(moving.SerializeToString()) for moving in moved]
        source = next(name for name in chain[-1].input if name not in scalars)
        result = node.output[0]
        for place, content in zip(places, contents, strict=True):
            place.CopyFrom(content)
        names = [result, *(f"{result}/scaled_{i}" for i in range(len(chain)))]
        for i, place in enumerate(places):
            place.output[0] = names[i]
            at = 0 if place.op_type == "Reshape" else next(k for k, v in enumerate(place.input) if v not in scalars)
            place.input[at] = names[i + 1] if i + 1 < len(places) else source
        made_by.update({place.output[0]: place for place in places})


def _drop_zero_states(model: onnx.ModelProto) -> None:
    """Drop initial states that are zero: ONNX starts a recurrent layer at zero when they are missing.

    tf2onnx expands zeros to the batch size instead, in several nodes.
    """
    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def is_zero(name: str) -> bool:
        while name in made_by and made_by[name].op_type in ("Expand", "Unsqueeze", "Squeeze", "Identity", "Reshape"):
            name = made_by[name].input[0]
        return name in constants and not onnx.numpy_helper.to_array(constants[name]).any()

    for node in graph.node:
        if node.op_type in _RECURRENT:
            for state in range(5, min(len(node.input), 7)):  # initial_h, initial_c
                if is_zero(node.input[state]):
                    node.input[state] = ""


def _prune(model: onnx.ModelProto) -> None:
    """Remove nodes and constants that no output needs. Nodes are in topological order, so one backward pass will do."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed.update(node.input)
        for body in [b for a in node.attribute for b in (*([a.g] if a.HasField("g") else []), *a.graphs)]:
            for inner in subgraphs(body):  # a body can read tensors of the graph around it
                needed.update(name for n in inner.node for name in n.input)
                needed.update(value.name for value in inner.output)
    nodes = list(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    if len(nodes) < len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)
    if len(constants) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(constants)
