"""Replaces bfloat16 in a graph by float32 that is rounded to bfloat16 after each operation.

ONNX Runtime has hardly any kernel for bfloat16. TensorFlow's compute in float32, too, and round what they return.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry, tensor_util

_BRAIN, _FLOAT = tf.bfloat16.as_datatype_enum, tf.float32.as_datatype_enum
_EXACT = frozenset(
    {"Abs", "BroadcastTo", "Concat", "ConcatV2", "Const", "DepthToSpace", "ExpandDims", "Fill", "GatherNd", "GatherV2"}
    | {"Identity", "IdentityN", "Max", "MaxPool", "Maximum", "Min", "Minimum", "MirrorPad", "Neg", "OnesLike", "Pack"}
    | {"Pad", "PadV2", "Placeholder", "Relu", "Reshape", "ResourceGather", "ReverseV2", "Select", "SelectV2", "Slice"}
    | {"SpaceToDepth", "Split", "SplitV", "Squeeze", "StopGradient", "StridedSlice", "Tile", "Transpose", "Unpack"}
    | {"ZerosLike"}
)
"""Operations whose results are bfloat16 if their inputs are."""


def is_in(graph_def: Any) -> bool:
    """Whether the main graph computes in bfloat16."""
    return any(value.type == _BRAIN or _BRAIN in value.list.type for n in graph_def.node for value in n.attr.values())


def widen(graph_def: Any) -> None:
    """Make float32 of bfloat16 in the main graph, in place. Loops and branches stay as they are."""
    nodes = list(graph_def.node)
    rounded: dict[str, str] = {}
    for node in nodes:
        made = [n for n, dtype in enumerate(_output_types(node)) if dtype == _BRAIN]
        _to_float(node)
        if node.op in _EXACT or not made:
            continue
        for n in made:
            source = f"{node.name}:{n}" if n else node.name
            rounded[source] = _rounded(graph_def, source, f"{node.name}/bfloat16_{n}")
    for node in nodes:
        inputs = [rounded.get(text.removesuffix(":0"), text) for text in node.input]
        del node.input[:]
        node.input.extend(inputs)


def _rounded(graph_def: Any, source: str, prefix: str) -> str:
    """Nodes that round a float32 tensor to the eight digits of bfloat16; the name of the last.

    Casts there and back would be taken away by optimizers. Veltkamp's splitting keeps the upper digits of a product.
    """
    constants = {"factor": 2.0**16 + 1, "most": 2.0**110}
    for name, value in constants.items():
        node = graph_def.node.add(name=f"{prefix}/{name}", op="Const")
        node.attr["dtype"].type = _FLOAT
        node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(np.float32(value)))
    for op, name, inputs in (
        ("Mul", "product", (source, f"{prefix}/factor")),
        ("Sub", "rest", (f"{prefix}/product", source)),
        ("Sub", "digits", (f"{prefix}/product", f"{prefix}/rest")),
        ("Abs", "size", (source,)),
        ("Less", "fits", (f"{prefix}/size", f"{prefix}/most")),  # false for NaN
        ("SelectV2", "rounded", (f"{prefix}/fits", f"{prefix}/digits", source)),
    ):
        node = graph_def.node.add(name=f"{prefix}/{name}", op=op, input=inputs)
        node.attr["T"].type = _FLOAT
    return f"{prefix}/rounded"


def _to_float(node: Any) -> None:
    for value in node.attr.values():
        if value.type == _BRAIN:
            value.type = _FLOAT
        for n, dtype in enumerate(value.list.type):
            if dtype == _BRAIN:
                value.list.type[n] = _FLOAT
    if node.op == "Const" and node.attr["value"].tensor.dtype == _BRAIN:
        array = tensor_util.MakeNdarray(node.attr["value"].tensor).astype(np.float32)
        node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(array))


def _output_types(node: Any) -> list[int]:
    definition = op_def_registry.get(node.op)
    return [] if definition is None else list(_types(node, definition))


def _types(node: Any, definition: Any) -> Iterator[int]:
    for argument in definition.output_arg:
        if argument.type_list_attr:
            yield from node.attr[argument.type_list_attr].list.type
            continue
        dtype = node.attr[argument.type_attr].type if argument.type_attr else argument.type
        yield from [dtype] * (node.attr[argument.number_attr].i if argument.number_attr else 1)
