"""Loops that tf2onnx leaves of Keras's GRU and SimpleRNN become ONNX's own layers, ten times as fast.

tf2onnx knows the loops of earlier versions of Keras. Keras 3 slices the gates of the state where Keras 2 split them,
so its GRU stays a Loop of twenty small operations a step, and its SimpleRNN was never known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import helper


@dataclass(frozen=True)
class _Layer:
    """What a loop was found to compute.

    kernel [inputs, gates·units] and recurrent [units, gates·units]; bias [2, gates·units], of both in turn
    """

    kind: str
    activations: tuple[str, ...]
    sequence: str
    state: int
    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray


def rewrite_loops(graph: onnx.GraphProto) -> bool:
    """Replace the loops that look like a GRU (`reset_after`) or a SimpleRNN; were there any?

    It goes by the operations and the shapes of the weights, so the caller compares the graphs before and after.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = [(n, _recognise(node, constants)) for n, node in enumerate(graph.node) if node.op_type == "Loop"]
    layers = [(n, layer) for n, layer in found if layer is not None and _only_states_are_used(graph, n, layer)]
    for n, layer in reversed(layers):
        loop = graph.node[n]
        nodes = _nodes(graph, loop, layer, prefix=f"{layer.kind.lower()}_{n}")
        graph.node.remove(loop)
        for node in reversed(nodes):
            graph.node.insert(n, node)
    return bool(layers)


def _recognise(loop: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> _Layer | None:
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    outer = dict(zip((value.name for value in body.input), loop.input, strict=True))  # name within -> name around it
    made_by = {output: node for node in body.node for output in node.output}

    def constant(name: str) -> np.ndarray | None:
        tensor = constants.get(outer.get(name, name))
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    products: dict[str, tuple[str, np.ndarray]] = {}
    for node in body.node:
        weights = constant(node.input[1]) if node.op_type == "MatMul" else None
        if weights is None:
            continue
        left = made_by.get(node.input[0])
        if left is not None and left.op_type == "Gather" and left.input[0] not in outer:
            products["kernel"] = (left.input[0], weights)  # of the step's input: one of a sequence outside
        elif node.input[0] in outer:
            products["recurrent"] = (node.input[0], weights)
    if len(products) < 2:
        return None
    (sequence, kernel), (state, recurrent) = products["kernel"], products["recurrent"]
    units, width = recurrent.shape
    kind = {3 * units: "GRU", units: "RNN"}.get(width)
    operations = Counter(node.op_type for node in body.node if node.op_type in ("MatMul", "Sigmoid", "Tanh", "Relu"))
    activation = "Relu" if operations["Relu"] else "Tanh"
    gates = {"Sigmoid": 2} if kind == "GRU" else {}
    if kind is None or operations != {"MatMul": 2, activation: 1, **gates}:
        return None
    read = {name for node in body.node for name in node.input}
    biases = [value for name in sorted(read) if (value := constant(name)) is not None and value.shape[-1:] == (width,)]
    biases = [value for value in biases if value.shape in ((width,), (2, width))]
    if len(biases) > 1:
        return None
    bias = np.zeros((2, width), kernel.dtype)
    bias[: 2 if biases and biases[0].ndim == 2 else 1] = biases[0] if biases else 0
    return _Layer(kind, (*gates, activation), sequence, list(outer).index(state) - 2, kernel, recurrent, bias)


def _only_states_are_used(graph: onnx.GraphProto, n: int, layer: _Layer) -> bool:
    """Does the rest of the graph read nothing of the loop but its last state and the states of all steps?"""
    loop = graph.node[n]
    carried = len(loop.input) - 2
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    others = [name for k, name in enumerate(loop.output) if k not in (layer.state, carried)]
    return len(loop.output) <= carried + 1 and read.isdisjoint(others)


def _nodes(graph: onnx.GraphProto, loop: onnx.NodeProto, layer: _Layer, prefix: str) -> list[onnx.NodeProto]:
    """The layer, and the removal of the axis of directions that ONNX gives its results."""
    carried = len(loop.input) - 2
    initial = loop.input[2 + layer.state]
    weights = {
        "kernel": layer.kernel.T[np.newaxis],
        "recurrent": layer.recurrent.T[np.newaxis],
        "bias": layer.bias.reshape(1, -1),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
    }
    for name, value in weights.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), f"{prefix}_{name}"))
    attributes = {"linear_before_reset": 1} if layer.kind == "GRU" else {}
    inputs = [layer.sequence, f"{prefix}_kernel", f"{prefix}_recurrent", f"{prefix}_bias", "", f"{prefix}_initial"]
    nodes = [
        helper.make_node("Unsqueeze", [initial, f"{prefix}_first"], [f"{prefix}_initial"]),
        helper.make_node(
            layer.kind,
            inputs,
            [f"{prefix}_states", f"{prefix}_last"],
            name=prefix,
            hidden_size=len(layer.recurrent),
            activations=list(layer.activations),
            **attributes,
        ),
        helper.make_node("Squeeze", [f"{prefix}_last", f"{prefix}_first"], [loop.output[layer.state]]),
    ]
    if len(loop.output) > carried:
        nodes.append(helper.make_node("Squeeze", [f"{prefix}_states", f"{prefix}_second"], [loop.output[carried]]))
    return nodes
