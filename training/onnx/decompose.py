"""Replaces TensorFlow operations that have no ONNX converter by others that have one, before a graph is converted.

A decomposition is a TensorFlow function: it gets the operation and returns tensors in place of its outputs. Shapes and
constants are known there, and a test can compare it with the operation itself, without ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph, graph_to_function_def

from ladle.training.onnx.complex_numbers import Pairs, has_complex

Decomposition = Callable[[Any], Sequence[tf.Tensor] | None]
"""(a tf.Operation) -> its outputs computed otherwise; None: the operation stays."""


def decompose(graph_def: Any, decompositions: Mapping[str, Decomposition]) -> Any:
    """The GraphDef with these operations and complex numbers replaced, in the bodies of its loops and branches, too.

    ComplexNumbersError for an operation on complex numbers that cannot be replaced.
    """
    wanted = {
        function.signature.name
        for function in graph_def.library.function
        if any(node.op in decompositions for node in function.node_def) or has_complex(function.node_def)
    }
    is_wanted = any(node.op in decompositions for node in graph_def.node) or has_complex(graph_def.node)
    if not wanted and not is_wanted:
        return graph_def
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        if is_wanted:
            _replace(graph, decompositions)
    result = graph.as_graph_def()
    del result.library.function[:]
    for function in graph_def.library.function:
        result.library.function.append(
            _function(function, graph, decompositions) if function.signature.name in wanted else function
        )
    # A decomposition may have functions of its own.
    known = {function.signature.name for function in result.library.function}
    made = graph.as_graph_def().library.function
    result.library.function.extend(function for function in made if function.signature.name not in known)
    return result


def _function(function: Any, graph: tf.Graph, decompositions: Mapping[str, Decomposition]) -> Any:
    with graph.as_default():
        body = function_def_to_graph.function_def_to_graph(function)
    with body.as_default():
        replaced = _replace(body, decompositions)
    outputs = [replaced.get(tensor.name, tensor) for tensor in body.outputs]
    names = [argument.name for argument in function.signature.output_arg]
    made = graph_to_function_def.graph_to_function_def(body, _needed(body, outputs), body.inputs, outputs, names)
    made.signature.name = function.signature.name
    for key, value in function.attr.items():
        made.attr[key].CopyFrom(value)
    for number, attributes in function.arg_attr.items():
        made.arg_attr[number].CopyFrom(attributes)
    return made


def _needed(graph: tf.Graph, outputs: Sequence[tf.Tensor]) -> list[Any]:
    """The operations that these outputs need, in the graph's order."""
    names: set[str] = set()
    waiting = [tensor.op for tensor in outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in names:
            names.add(operation.name)
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return [operation for operation in graph.get_operations() if operation.name in names]


def _replace(graph: tf.Graph, decompositions: Mapping[str, Decomposition]) -> dict[str, tf.Tensor]:
    """Replace the operations of a graph; the new tensors by the names of the old."""
    replaced = {}
    pairs = Pairs()
    for operation in graph.get_operations():
        found = decompositions.get(operation.type, pairs.replace)
        with graph.name_scope(f"{operation.name}/decomposed/"):
            outputs = found(operation)
        if outputs is None:
            continue
        for old, new in zip(operation.outputs, outputs, strict=True):
            _reroute(old, new)
            replaced[old.name] = new
    return replaced


def _reroute(old: tf.Tensor, new: tf.Tensor) -> None:
    """Let every reader of a tensor read another one."""
    if old.shape.rank is not None and new.shape.rank is not None:
        new.set_shape(old.shape)
    for consumer in list(old.consumers()):
        for n, tensor in enumerate(consumer.inputs):
            if tensor is old:
                consumer._update_input(n, new)
