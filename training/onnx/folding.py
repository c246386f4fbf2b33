"""Folds work on large weights into the weights, while they are arrays beside the graph.

What a converter does to a weight that it can see, such as to turn the axes of a kernel, it leaves in the graph if the
weight is an input. Here that is done on the arrays: as views, which need no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from ladle.training.onnx.simplify import subgraphs


def fold(model: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> None:
    """Move, reshape and scale the weights as nodes of the graph would; these nodes go out.

    arrays  of the inputs of the graph that are weights; changed with the graph
    """
    if not arrays:
        return
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    results = {value.name for value in graph.output}
    scales = _Scales(graph, arrays)
    kept = []
    for node in graph.node:
        moved = None
        if node.input and node.input[0] in arrays and node.output[0] not in results:
            moved = _moved(node, arrays[node.input[0]], constants)
        if moved is not None:
            arrays[node.output[0]] = moved
        elif not scales.fold(node):
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)
    read = {name for body in subgraphs(graph) for node in body.node for name in node.input}
    read |= {value.name for body in subgraphs(graph) for value in body.output}
    inputs = [value for value in graph.input if value.name not in arrays]
    for name in [name for name in arrays if name not in read]:
        del arrays[name]
    for name, array in arrays.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        inputs.append(onnx.helper.make_tensor_value_info(name, dtype, array.shape))
    known = [value for value in graph.value_info if value.name not in arrays]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.value_info.extend(known)


def _moved(node: onnx.NodeProto, array: np.ndarray, constants: Mapping[str, onnx.TensorProto]) -> np.ndarray | None:
    """The weight as the node leaves it; None if the node computes anything else than places."""
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    given = [constants.get(name) for name in node.input[1:]]
    if node.domain or any(tensor is None for tensor in given):
        return None
    numbers = [onnx.numpy_helper.to_array(tensor).ravel().tolist() for tensor in given if tensor is not None]
    if node.op_type == "Identity":
        return array
    if node.op_type == "Transpose":
        return array.transpose(attributes.get("perm"))
    if node.op_type == "Reshape" and len(numbers) == 1 and not attributes.get("allowzero"):
        return array.reshape([size if size else array.shape[n] for n, size in enumerate(numbers[0])])
    if node.op_type == "Squeeze":
        return array.squeeze(tuple(numbers[0]) if numbers else None)
    if node.op_type == "Unsqueeze" and len(numbers) == 1:
        return np.expand_dims(array, tuple(numbers[0]))
    return None


class _Scales:
    """Puts what scales or shifts each channel behind a convolution, as a batch normalisation does, into its weights."""

    def __init__(self, graph: onnx.GraphProto, arrays: dict[str, np.ndarray]) -> None:
        self._graph, self._arrays = graph, arrays
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._convolutions = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
        self._readers = Counter(name for body in subgraphs(graph) for node in body.node for name in node.input)
        self._readers.update(value.name for body in subgraphs(graph) for value in body.output)

    def fold(self, node: onnx.NodeProto) -> bool:
        """Whether the node went into the convolution before it."""
        if node.op_type not in ("Add", "BatchNormalization", "Mul") or node.domain or len(node.output) > 1:
            return False
        place = next((n for n, name in enumerate(node.input) if name in self._convolutions), 0)
        conv = self._convolutions.get(node.input[place])
        if conv is None or conv.input[1] not in self._arrays or self._readers[conv.output[0]] > 1:
            return False
        kernel = self._arrays[conv.input[1]]
        given = [self._constants.get(name) for n, name in enumerate(node.input) if n != place]
        bias = self._constants.get(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        if any(tensor is None for tensor in given) or (bias is None and len(conv.input) > 2 and conv.input[2] != ""):
            return False
        values: list[Any] = [onnx.numpy_helper.to_array(tensor) for tensor in given if tensor is not None]
        factor, offset = np.ones(len(kernel), kernel.dtype), np.zeros(len(kernel), kernel.dtype)
        if node.op_type == "BatchNormalization":
            scale, shift, mean, variance = values
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            factor = scale / np.sqrt(variance + epsilon)
            offset = shift - mean * factor
        else:
            shape = (1, len(kernel), *[1] * (kernel.ndim - 2))
            if values[0].shape not in ((), shape, shape[1:]):
                return False
            value = np.broadcast_to(values[0].ravel(), len(kernel))
            factor, offset = (value, offset) if node.op_type == "Mul" else (factor, value)
        result = node.output[0]
        name = f"{result}/kernel"
        scaled = kernel if node.op_type == "Add" else kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
        self._arrays[name] = scaled.astype(kernel.dtype, copy=False)
        inputs = [conv.input[0], name]
        if bias is not None or offset.any():
            before = 0 if bias is None else onnx.numpy_helper.to_array(bias)
            after = np.asarray(before * factor + offset).astype(kernel.dtype)
            tensor = onnx.numpy_helper.from_array(after, f"{result}/bias")
            self._graph.initializer.append(tensor)
            self._constants[tensor.name] = tensor
            inputs.append(tensor.name)
        del conv.input[:], conv.output[:]
        conv.input.extend(inputs)
        conv.output.append(result)
        self._convolutions[result] = conv
        return True
