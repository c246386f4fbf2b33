"""Replaces the loops of Keras's GRU and SimpleRNN by ONNX's own layers, which run ten times as fast.

tf2onnx recognises the loops of Keras 2 only. Keras 3 slices the gates out of the state where Keras 2 split them, so its
GRU stays a Loop with twenty small operations per step. tf2onnx never recognised SimpleRNN.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import helper

_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class _Layer:
    """A recurrent layer that was recognised in a loop.

    kind         "GRU" or "RNN"
    activations  ONNX names: of the gates (GRU only), then of the candidate state
    sequence     tensor of the inputs, [steps, b, inputs]
    state        position of the state among the values that the loop carries
    kernel       [inputs, gates·units]
    recurrent    [units, gates·units]
    bias         [2, gates·units]: of the inputs, then of the state
    """

    kind: str
    activations: tuple[str, ...]
    sequence: str
    state: int
    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray


def rewrite_loops(graph: onnx.GraphProto) -> bool:
    """Replace loops that look like a GRU (`reset_after`) or a SimpleRNN; return whether there were any.

    Only operations and weight shapes are checked, so the caller must compare the graph before and after.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = [(n, _recognise(node, constants)) for n, node in enumerate(graph.node) if node.op_type == "Loop"]
    layers = [(n, layer) for n, layer in found if layer is not None and _only_states_are_used(graph, n, layer)]
    for n, layer in reversed(layers):  # from the end, so that the positions of the other loops stay valid
        loop = graph.node[n]
        nodes = _nodes(graph, loop, layer, prefix=f"{layer.kind.lower()}_{n}")
        graph.node.remove(loop)
        for node in reversed(nodes):
            graph.node.insert(n, node)
    return bool(layers)


def _recognise(loop: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> _Layer | None:
    """The layer that a loop computes, or None if it computes anything else."""
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    outer = dict(
        zip((value.name for value in body.input), loop.input, strict=True)
    )  # name inside the body -> name outside
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
            products["kernel"] = (left.input[0], weights)  # reads one step of a sequence outside the loop
        elif node.input[0] in outer:
            products["recurrent"] = (node.input[0], weights)
    if len(products) < 2:
        return None
    (sequence, kernel), (state, recurrent) = products["kernel"], products["recurrent"]
    units, width = recurrent.shape
    kind = {3 * units: "GRU", units: "RNN"}.get(width)
    # Exactly two products and the activations: any more operations of these types mean another cell.
    operations = Counter(node.op_type for node in body.node if node.op_type in ("MatMul", "Sigmoid", "Tanh", "Relu"))
    activation = "Relu" if operations["Relu"] else "Tanh"
    gates = {"Sigmoid": 2} if kind == "GRU" else {}
    if kind is None or operations != {"MatMul": 2, activation: 1, **gates}:
        return None
    if any(node.op_type == "Where" for node in body.node):  # a mask, of which random inputs may show nothing
        return None
    # A GRU with `reset_after` has two biases, [2, width]; all other layers have one, [width], or none.
    read = {name for node in body.node for name in node.input}
    biases = [value for name in sorted(read) if (value := constant(name)) is not None and value.shape[-1:] == (width,)]
    biases = [value for value in biases if value.shape in ((width,), (2, width))]
    if len(biases) > 1:
        return None
    bias = np.zeros((2, width), kernel.dtype)
    bias[: 2 if biases and biases[0].ndim == 2 else 1] = biases[0] if biases else 0
    return _Layer(kind, (*gates, activation), sequence, list(outer).index(state) - 2, kernel, recurrent, bias)


def _only_states_are_used(graph: onnx.GraphProto, n: int, layer: _Layer) -> bool:
    """Whether the graph reads only the last state and the states of all steps: ONNX's layers return nothing else."""
    loop = graph.node[n]
    carried = len(loop.input) - 2
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    others = [name for k, name in enumerate(loop.output) if k not in (layer.state, carried)]
    return len(loop.output) <= carried + 1 and read.isdisjoint(others)


def repeat_states(graph: onnx.GraphProto) -> None:
    """Repeat an initial state of one row for each row of the sequence, or the other way round, as TensorFlow does.

    ONNX wants as many rows of each.
    """
    nodes = []
    for n, node in enumerate(graph.node):
        states = [k for k in (5, 6) if node.op_type in _RECURRENT and k < len(node.input) and node.input[k]]
        if states:
            prefix = f"{node.output[0] or node.output[-1]}/rows_{n}"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), f"{prefix}/one"))
        # The sequence comes first: then it has all rows, which each state gets.
        for k, like in [*((0, k) for k in states), *((k, 0) for k in states)]:
            size, shape, made = (f"{prefix}/{word}_{k}_{like}" for word in ("count", "shape", "input"))
            nodes.append(helper.make_node("Shape", [node.input[like]], [size], start=1, end=2))
            nodes.append(helper.make_node("Concat", [f"{prefix}/one", size, f"{prefix}/one"], [shape], axis=0))
            nodes.append(helper.make_node("Expand", [node.input[k], shape], [made]))
            node.input[k] = made
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _nodes(graph: onnx.GraphProto, loop: onnx.NodeProto, layer: _Layer, prefix: str) -> list[onnx.NodeProto]:
    """The nodes that replace a loop. ONNX's layers have an axis for directions, which is squeezed out."""
    carried = len(loop.input) - 2
    initial = loop.input[2 + layer.state]
    # ONNX transposes the weights and adds a first axis for directions. Both order the gates alike: z, r, h.
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
