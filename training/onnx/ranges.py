"""Looks for what a comparison on a few inputs cannot show: casts out of range, sizes that are values, float16."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.shape_inference

from ladle.training.onnx import parity
from ladle.training.onnx.simplify import subgraphs

_T = onnx.TensorProto
_FLOATS = (_T.FLOAT, _T.FLOAT16, _T.DOUBLE, _T.BFLOAT16)
_NARROW = (_T.UINT8, _T.INT8, _T.UINT16, _T.INT16, _T.UINT32, _T.UINT64)
_KEEP_VALUES = frozenset(
    {"AveragePool", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalAveragePool", "GlobalMaxPool"}
    | {"Identity", "MaxPool", "ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze"}
    | {"Tile", "Transpose", "Unsqueeze", "Where"}
)
_RANGES: dict[str, tuple[float, float]] = {
    "Sigmoid": (0, 1), "HardSigmoid": (0, 1), "Softmax": (0, 1), "Tanh": (-1, 1), "Erf": (-1, 1), "Sin": (-1, 1),
    "Cos": (-1, 1), "Sign": (-1, 1),
}  # fmt: skip
ROUNDED = "rounded"
"""The property of a model in float32 whose numbers are rounded to a dtype with fewer digits."""
_SIZES = {
    "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2), "Reshape": (1,),
    "Resize": (2, 3), "Tile": (1,), "TopK": (1,), "Upsample": (1,), "EyeLike": (0,), "Loop": (0, 1), "Scan": (0,),
}  # fmt: skip
"""Operations and those of their inputs that decide how large an output is, or how long they run."""


_ORDERS = {"ArgMax": 0, "ArgMin": 0, "NonMaxSuppression": 1, "TopK": 0}
"""Operations that put values in order, and which of their inputs these are."""
_MOVES = ("Cast", "Concat", "Gather", "Identity", "Neg", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


_SMOOTH = frozenset(
    {
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Cos",
        "DepthToSpace",
    }
    | {"Div", "Einsum", "Elu", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool"}
    | {"GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN"}
    | {"LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "MatMul", "Max", "MaxPool", "Mean"}
    | {"Min", "Mish", "Mul", "Neg", "PRelu", "Pad", "Pow", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSumExp"}
    | {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape"}
    | {"Resize", "Selu", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt"}
    | {"Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze"}
)
"""Operations whose outputs follow the floats that they read without jumps."""


def unsafe_cast(model: onnx.ModelProto) -> str | None:
    """Why a cast from floats to small integers may differ from TensorFlow's; None if every value fits for certain.

    Beyond the range of the integers, TensorFlow's own answer depends on the processor and on the number of values.
    """
    if not any(_narrows(node) for graph in subgraphs(model.graph) for node in graph.node):
        return None
    for graph in subgraphs(model.graph):
        known = _Intervals(graph)
        types = _types(model, graph)
        for node in graph.node:
            if not _narrows(node) or types.get(node.input[0], _T.FLOAT) not in _FLOATS:
                continue
            name = _T.DataType.Name(next(a.i for a in node.attribute if a.name == "to")).lower()
            limits = np.iinfo(name)
            low, high = known.of(node.input[0])
            if not (low > limits.min - 1 and high < limits.max + 1):
                return (
                    f"it casts floats to {name}, which is undefined outside {limits.min}..{limits.max}; clip them "
                    "before (tf.saturate_cast)"
                )
    return None


def _narrows(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i in _NARROW for a in node.attribute)


def relative(model: onnx.ModelProto) -> float:
    """Allowed difference, relative to the largest value, by the least exact dtype in which a graph computes."""
    tensors = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    found = {value.type.tensor_type.elem_type for value in tensors}
    found |= {tensor.data_type for tensor in model.graph.initializer}
    found |= {a.i for node in model.graph.node for a in node.attribute if a.name == "to"}
    is_brain = _T.BFLOAT16 in found or any(each.key == ROUNDED for each in model.metadata_props)
    return parity.BRAIN if is_brain else parity.HALF if _T.FLOAT16 in found else parity.RELATIVE


class _Intervals:
    """Bounds of the tensors of a graph, as far as its operations tell them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        self._inputs = {name: np.iinfo(_T.DataType.Name(t).lower()) for name, t in inputs.items() if t in _NARROW}
        self._made_by = {output: node for node in graph.node for output in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._known: dict[str, tuple[float, float]] = {}

    def of(self, name: str, depth: int = 64) -> tuple[float, float]:
        """The least and the greatest value of a tensor; infinite where they are unknown."""
        if name not in self._known:
            self._known[name] = (-math.inf, math.inf)  # while it is sought
            self._known[name] = self._find(name, depth)
        return self._known[name]

    def _find(self, name: str, depth: int) -> tuple[float, float]:
        node = self._made_by.get(name)
        tensor = self._constants.get(name)
        if node is not None and node.op_type == "Constant" and node.attribute[0].HasField("t"):
            tensor = node.attribute[0].t
        if tensor is not None and tensor.data_type != _T.STRING:
            array = onnx.numpy_helper.to_array(tensor)
            return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if name in self._inputs:
            return float(self._inputs[name].min), float(self._inputs[name].max)
        if node is None or depth == 0:
            return -math.inf, math.inf
        inputs = [self.of(each, depth - 1) if each else (-math.inf, math.inf) for each in node.input]
        op = node.op_type
        if op in _RANGES:
            return _RANGES[op]
        if op == "Clip":
            low = max(inputs[0][0], inputs[1][0] if len(node.input) > 1 and node.input[1] else -math.inf)
            high = min(inputs[0][1], inputs[2][1] if len(node.input) > 2 and node.input[2] else math.inf)
            return low, high
        if op in ("Max", "Min"):
            by = max if op == "Max" else min
            return by(low for low, _ in inputs), by(high for _, high in inputs)
        if op == "Relu":
            return max(0.0, inputs[0][0]), max(0.0, inputs[0][1])
        if op in ("Round", "Floor", "Ceil"):
            low, high = inputs[0]
            return low if math.isinf(low) else math.floor(low), high if math.isinf(high) else math.ceil(high)
        if op in ("Add", "Sub", "Mul", "Div"):
            return _combined(op, *inputs)
        if op == "MatMul":
            return self._multiplied(inputs[0], node.input[1])
        if op == "Cast":
            return inputs[0]
        if op in _KEEP_VALUES:
            values = inputs[1:] if op == "Where" else inputs if op == "Concat" else inputs[:1]
            return min(low for low, _ in values), max(high for _, high in values)
        return -math.inf, math.inf

    def _multiplied(self, rows: tuple[float, float], name: str) -> tuple[float, float]:
        """Bounds of the product with a constant matrix."""
        tensor = self._constants.get(name)
        if tensor is None or any(map(math.isinf, rows)):
            return -math.inf, math.inf
        matrix = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        if matrix.ndim != 2 or not matrix.size:
            return -math.inf, math.inf
        ends = np.stack([matrix * rows[0], matrix * rows[1]])
        return float(ends.min(0).sum(0).min()), float(ends.max(0).sum(0).max())


def _combined(op: str, a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    if op == "Add":
        return a[0] + b[0], a[1] + b[1]
    if op == "Sub":
        return a[0] - b[1], a[1] - b[0]
    if any(math.isinf(bound) for bound in (*a, *b)) or (op == "Div" and b[0] <= 0 <= b[1]):
        return -math.inf, math.inf
    ends = [x * y if op == "Mul" else x / y for x in a for y in b]
    return min(ends), max(ends)


def _types(model: onnx.ModelProto, graph: onnx.GraphProto) -> Mapping[str, int]:
    """Element types by tensor, as far as they are known."""
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # a graph of more than 2 GB, or an operation without rules
        model = onnx.ModelProto.FromString(b"")
    values = [*model.graph.input, *model.graph.value_info, *graph.input, *graph.value_info, *graph.output]
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    casts = [node for node in graph.node if node.op_type == "Cast"]
    return found | {node.output[0]: a.i for node in casts for a in node.attribute if a.name == "to"}


def is_smooth(model: onnx.ModelProto) -> bool:
    """Whether the outputs follow the inputs without jumps: floats, and no rounding, comparison, order or choice."""
    graph = model.graph
    if any(value.type.tensor_type.elem_type not in _FLOATS for value in (*graph.input, *graph.output)):
        return False
    values = {value.name for value in graph.input}
    for node in graph.node:
        if subgraphs_of(node) or node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
            return False
        if values.isdisjoint(node.input) or node.op_type in ("Shape", "Size"):
            continue
        is_cast = node.op_type == "Cast" and all(a.i in _FLOATS for a in node.attribute if a.name == "to")
        is_indexed = node.op_type in ("Gather", "Resize", *_SIZES) and not values.isdisjoint(node.input[1:])
        if is_indexed or not (is_cast or node.op_type in _SMOOTH):
            return False
        values.update(node.output)
    return True


def sizes_from_values(model: onnx.ModelProto) -> bool:
    """Whether a value of an input may decide how large a tensor is: a huge one would use up the memory."""
    return bool(deciding(model))


def orders_computed(model: onnx.ModelProto) -> bool:
    """Whether a graph puts computed floats in order: where two are nearly the same, the last digit decides."""
    for graph in subgraphs(model.graph):
        made_by = {output: node for node in graph.node for output in node.output}
        for node in graph.node:
            if node.op_type in _ORDERS:
                made = made_by.get(node.input[_ORDERS[node.op_type]])
                while made is not None and made.op_type in _MOVES:
                    made = made_by.get(made.input[0])
                if made is not None and made.op_type != "Constant":
                    return True
    return False


def deciding(model: onnx.ModelProto) -> set[str]:
    """The inputs whose values may decide how large a tensor is, or how long a loop runs: these cost memory and time."""
    inputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    return {
        name for name, dtype in inputs.items() if dtype not in (*_FLOATS, _T.BOOL) and _decides(model.graph, {name})
    }


def _decides(graph: onnx.GraphProto, values: set[str]) -> bool:
    """Whether a size or a loop's end depends on these tensors; those that depend on them are added to `values`."""
    for node in graph.node:
        if any(node.input[n] in values for n in _SIZES.get(node.op_type, ()) if n < len(node.input)):
            return True
        is_read = not values.isdisjoint(node.input)
        for body in (a.g for a in node.attribute if a.HasField("g")):
            if node.op_type == "Loop":
                if _ends_by(body, node, values):
                    return True
            elif _decides(body, {*values, *(value.name for value in body.input if is_read)}):
                return True
        inner = {name for each in subgraphs_of(node) for part in each.node for name in part.input}
        if node.op_type not in ("Shape", "Size") and (is_read or inner & values):
            values.update(node.output)
    return False


def _ends_by(body: onnx.GraphProto, loop: onnx.NodeProto, values: set[str]) -> bool:
    """Whether a loop's end, or a size in it, depends on these tensors."""
    held = {name.name for name, given in zip(body.input[2:], loop.input[2:], strict=False) if given in values}
    while True:
        known = {*values, *held}
        if _decides(body, known) or body.output[0].name in known:
            return True
        carried = {a.name for a, b in zip(body.input[2:], body.output[1:], strict=False) if b.name in known}
        if carried <= held:
            return False
        held |= carried


def subgraphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The bodies of a node's loops and branches, at any depth."""
    bodies = [body for a in node.attribute for body in (*([a.g] if a.HasField("g") else []), *a.graphs)]
    return [inner for body in bodies for inner in subgraphs(body)]
