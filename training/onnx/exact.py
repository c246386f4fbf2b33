"""Converters that keep a graph exact for NaN, infinities, large integers and ids outside a table.

tf2onnx chooses among values by multiplying with 0 and 1, which turns an infinity that was not chosen into NaN. It sorts
and compares integers as float32. ONNX counts negative ids from the end, where TensorFlow refuses them, and its maxima
skip NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx.helper
import tf2onnx.onnx_opset.logical
import tf2onnx.onnx_opset.reduction
import tf2onnx.onnx_opset.tensor

from ladle.training.onnx.simplify import subgraphs

_T = onnx.TensorProto
_FLOATS = (_T.FLOAT, _T.FLOAT16, _T.DOUBLE)
# Kernels of ONNX Runtime, and a wider type for the others that holds all their values.
_CHOSEN = (*_FLOATS, _T.INT8, _T.INT32, _T.INT64, _T.UINT8)
_SORTED = (_T.FLOAT, _T.DOUBLE, _T.INT32, _T.INT64)
_REDUCED = (*_FLOATS, _T.INT8, _T.INT32, _T.INT64, _T.UINT8)
_WIDER = {_T.BOOL: _T.INT32, _T.INT8: _T.INT32, _T.UINT8: _T.INT32, _T.INT16: _T.INT32, _T.UINT16: _T.INT32}
_WIDER |= {_T.UINT32: _T.INT64, _T.FLOAT16: _T.FLOAT, _T.BFLOAT16: _T.FLOAT}


def _select(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """Where: one of two values, by a condition."""
    [condition, *values], outputs, shapes = list(node.input), list(node.output), node.output_shapes
    dtype = graph.get_dtype(node.output[0])
    ranks = [graph.get_rank(condition), max((graph.get_rank(x) for x in values if graph.get_rank(x)), default=None)]
    is_rows = node.type == "Select" and ranks[0] == 1 and ranks[1] != 1  # one condition for each row
    if is_rows and ranks[1] is None:
        raise ValueError("a condition for each row needs values of known rank")
    graph.remove_node(name)
    if is_rows:
        shape = graph.make_const(f"{name}/rows", np.array([-1] + [1] * (ranks[1] - 1), np.int64)).output[0]
        condition = graph.make_node("Reshape", [condition, shape], dtypes=[_T.BOOL]).output[0]
    choose(graph, name, condition, values, outputs, dtype, shapes)


def choose(
    graph: Any, name: str, condition: str, values: Sequence[str], outputs: Sequence[str], dtype: int, shapes: Any
) -> None:
    """Add the node `name` that chooses one of two values, through a wider dtype if ONNX Runtime lacks this one.

    ValueError if there is none.
    """
    wider = dtype if dtype in _CHOSEN else _WIDER.get(dtype)
    if wider is None:
        raise ValueError(f"ONNX Runtime cannot choose between values of {_T.DataType.Name(dtype).lower()}")
    values = [_cast(graph, x, dtype, wider) for x in values]
    if wider == dtype:
        graph.make_node("Where", [condition, *values], name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)
        return
    chosen = graph.make_node("Where", [condition, *values], dtypes=[wider], shapes=shapes).output[0]
    graph.make_node("Cast", [chosen], attr={"to": dtype}, name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)


def _compare(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """Less, Greater, LessOrEqual and GreaterOrEqual of integers, as integers."""
    [operation] = arguments
    inputs, outputs, shapes = list(node.input), list(node.output), node.output_shapes
    dtype = graph.get_dtype(inputs[0])
    graph.remove_node(name)
    if dtype not in _FLOATS and dtype != _T.UINT64:
        # Even int64: tf2onnx turns the counter of a loop into int64 later, and does not say so here.
        shape = [[graph.get_shape(x)] for x in inputs]
        inputs = [
            graph.make_node("Cast", [x], attr={"to": _T.INT64}, dtypes=[_T.INT64], shapes=s).output[0]
            for x, s in zip(inputs, shape, strict=True)
        ]
    graph.make_node(operation, inputs, name=name, outputs=outputs, dtypes=[_T.BOOL], shapes=shapes)


def _top_k(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """The k largest values of the last axis, integers as integers."""
    (values, count), outputs, dtypes, shapes = node.input, list(node.output), node.output_dtypes, node.output_shapes
    dtype = graph.get_dtype(values)
    wider = dtype if dtype in _SORTED else _WIDER.get(dtype)
    if wider is None:
        raise ValueError(f"ONNX Runtime cannot sort {_T.DataType.Name(dtype).lower()}")
    graph.remove_node(name)
    count = graph.make_node("Cast", [count], attr={"to": _T.INT64}, dtypes=[_T.INT64]).output[0]
    one = graph.make_const(f"{name}/one", np.array([1], np.int64)).output[0]
    count = graph.make_node("Reshape", [count, one], dtypes=[_T.INT64], shapes=[[1]]).output[0]
    values = _cast(graph, values, dtype, wider)
    found = graph.make_node("TopK", [values, count], output_count=2, dtypes=[wider, _T.INT64], shapes=shapes).output
    for made, output, to, shape in zip(found, outputs, dtypes, shapes, strict=True):
        graph.make_node("Cast", [made], attr={"to": to}, outputs=[output], dtypes=[to], shapes=[shape])


def _gather(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """Rows of a table: a negative id is moved below what ONNX counts from the end, so that it is refused."""
    if not node.inputs[1].is_const() or (np.asarray(node.inputs[1].get_tensor_value(as_list=False)) < 0).any():
        axis = node.inputs[2].get_tensor_value() if node.inputs[2].is_const() else 0
        table, shape = node.input[0], graph.get_shape(node.input[0])
        size = shape[axis] if shape is not None else -1
        length = None if size < 0 else np.array(size)
        _refuse_negative(graph, node, 1, table, np.array(axis, np.int64), length)
    tf2onnx.onnx_opset.tensor.GatherV2.version_12(graph, node)


def _gather_nd(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """Elements of a table by their positions, the negative ones moved as above."""
    shape, batch = graph.get_shape(node.input[1]), node.get_attr_value("batch_dims", 0) or 0
    if shape is None or not shape or shape[-1] < 0:
        raise ValueError("gather_nd needs positions of a known number of axes")
    if not node.inputs[1].is_const():
        axes = np.arange(batch, batch + shape[-1], dtype=np.int64)
        _refuse_negative(graph, node, 1, node.input[0], axes, None)
    tf2onnx.onnx_opset.tensor.GatherND.version_11(graph, node)


def _reshape(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """To a shape that is computed: a 0 is a size, not the size of the input's axis."""
    is_known = node.inputs[1].is_const()
    tf2onnx.onnx_opset.tensor.Reshape.version_5(graph, node)
    if not is_known:
        node.set_attr("allowzero", 1)


def copy_known_sizes(model: onnx.ModelProto) -> None:
    """Where the converter's optimizer found a computed shape to be constant, a 0 is the size of the input's axis."""
    known = {tensor.name for graph in subgraphs(model.graph) for tensor in graph.initializer}
    nodes = [node for graph in subgraphs(model.graph) for node in graph.node]
    known |= {node.output[0] for node in nodes if node.op_type == "Constant"}
    for node in nodes:
        if node.op_type == "Reshape" and node.input[1] in known:
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)


def _refuse_negative(graph: Any, node: Any, n: int, table: str, axes: Any, length: Any) -> None:
    """Make input n of a node `ids - length` where it is negative; lengths of the table's axes."""
    ids, name = node.input[n], tf2onnx.utils.make_name(node.name)
    dtype = graph.get_dtype(ids)
    if length is None:
        sizes = graph.make_node("Shape", [table], dtypes=[_T.INT64]).output[0]
        axes = graph.make_const(f"{name}/axes", axes).output[0]
        sizes = graph.make_node("Gather", [sizes, axes], dtypes=[_T.INT64]).output[0]
        sizes = _cast(graph, sizes, _T.INT64, dtype)
    else:
        sizes = graph.make_const(f"{name}/size", length.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))).output[0]
    zero = graph.make_const(f"{name}/zero", np.array(0, onnx.helper.tensor_dtype_to_np_dtype(dtype))).output[0]
    shape = [graph.get_shape(ids)]
    below = graph.make_node("Less", [ids, zero], dtypes=[_T.BOOL], shapes=shape).output[0]
    moved = graph.make_node("Sub", [ids, sizes], dtypes=[dtype], shapes=shape).output[0]
    chosen = graph.make_node("Where", [below, moved, ids], dtypes=[dtype], shapes=shape).output[0]
    graph.replace_input(node, ids, chosen, n)


def _arg(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """The position of the largest or smallest value; NaN counts as the other end."""
    x = node.input[0]
    dtype = graph.get_dtype(x)
    if dtype in _FLOATS:
        worst = np.array(-np.inf if node.type == "ArgMax" else np.inf, onnx.helper.tensor_dtype_to_np_dtype(dtype))
        end = graph.make_const(f"{name}/end", worst).output[0]
        shape = [graph.get_shape(x)]
        is_nan = graph.make_node("IsNaN", [x], dtypes=[_T.BOOL], shapes=shape).output[0]
        chosen = graph.make_node("Where", [is_nan, end, x], dtypes=[dtype], shapes=shape).output[0]
        graph.replace_input(node, x, chosen, 0)
    elif dtype in _WIDER:
        graph.replace_input(node, x, _cast(graph, x, dtype, _WIDER[dtype]), 0)
    tf2onnx.onnx_opset.reduction.ArgMax.version_12(graph, node)


def _reduce(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """The largest or smallest value along axes; NaN if there is one."""
    operation = node.type
    (x, axes), outputs, shapes = node.input, list(node.output), node.output_shapes
    dtype, keep = graph.get_dtype(x), node.get_attr_value("keep_dims", 0)
    wider = dtype if dtype in _REDUCED else _WIDER.get(dtype)
    if wider is None:
        raise ValueError(f"ONNX Runtime cannot reduce {_T.DataType.Name(dtype).lower()}")
    graph.remove_node(name)
    axes = graph.make_node("Cast", [axes], attr={"to": _T.INT64}, dtypes=[_T.INT64]).output[0]
    all_of_them = graph.make_const(f"{name}/all", np.array([-1], np.int64)).output[0]
    axes = graph.make_node("Reshape", [axes, all_of_them], dtypes=[_T.INT64]).output[0]
    attributes = {"keepdims": keep, "noop_with_empty_axes": 1}

    def reduced(op: str, x: str, dtype: int) -> str:
        output: str = graph.make_node(op, [x, axes], attr=attributes, dtypes=[dtype], shapes=shapes).output[0]
        return output

    result = reduced(operation, _cast(graph, x, dtype, wider), wider)
    if dtype in _FLOATS:
        is_nan = graph.make_node("IsNaN", [x], dtypes=[_T.BOOL], shapes=[graph.get_shape(x)]).output[0]
        any_nan = reduced("ReduceMax", _cast(graph, is_nan, _T.BOOL, _T.INT32), _T.INT32)
        zero = graph.make_const(f"{name}/zero", np.array(0, np.int32)).output[
            0
        ]  # of no values, the largest is negative
        any_nan = graph.make_node("Greater", [any_nan, zero], dtypes=[_T.BOOL], shapes=shapes).output[0]
        nan = graph.make_const(f"{name}/nan", np.array(np.nan, onnx.helper.tensor_dtype_to_np_dtype(dtype))).output[0]
        graph.make_node("Where", [any_nan, nan, result], name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)
        return
    if dtype in (_T.INT16, _T.UINT16, _T.UINT32):  # of no values, the result is the end of the wider type
        limits = np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(dtype))
        end = np.array(limits.min if operation == "ReduceMax" else limits.max)
        end = graph.make_const(f"{name}/end", end.astype(onnx.helper.tensor_dtype_to_np_dtype(wider))).output[0]
        bound = operation.removeprefix("Reduce")
        result = graph.make_node(bound, [result, end], dtypes=[wider], shapes=shapes).output[0]
    graph.make_node("Cast", [result], attr={"to": dtype}, name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)


def _total(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """Sum or product along axes. Integers wrap around.

    ONNX Runtime adds and multiplies them in float64. int64 are added in two halves, of which that holds all digits.
    """
    (x, axes), dtype = node.input, graph.get_dtype(node.input[0])
    if dtype in (*_FLOATS, _T.BFLOAT16):
        base = tf2onnx.onnx_opset.reduction.ReduceOpBase
        (base.version_13 if node.type == "ReduceSum" else base.version_18)(graph, node)
        return
    if node.type == "ReduceProd":
        raise ValueError("ONNX Runtime multiplies integers as floats; only axes that are constant can be rewritten")
    outputs, shapes, keep = list(node.output), node.output_shapes, node.get_attr_value("keep_dims", 0)
    is_wide = dtype in (_T.INT64, _T.UINT64, _T.UINT32) and not _is_narrow(graph, x)
    graph.remove_node(name)
    axes = graph.make_node("Cast", [axes], attr={"to": _T.INT64}, dtypes=[_T.INT64]).output[0]
    all_of_them = graph.make_const(f"{name}/all", np.array([-1], np.int64)).output[0]
    axes = graph.make_node("Reshape", [axes, all_of_them], dtypes=[_T.INT64]).output[0]
    attributes = {"keepdims": keep, "noop_with_empty_axes": 1}
    x = _cast(graph, x, dtype, _T.INT64)

    def added(x: str) -> str:
        output: str = graph.make_node("ReduceSum", [x, axes], attr=attributes, dtypes=[_T.INT64], shapes=shapes).output[
            0
        ]
        return output

    def made(operation: str, *inputs: str) -> str:
        output: str = graph.make_node(operation, list(inputs), dtypes=[_T.INT64]).output[0]
        return output

    if is_wide:
        half = graph.make_const(f"{name}/half", np.array(2**32, np.int64)).output[0]
        high = made("Div", x, half)
        low = made("Sub", x, made("Mul", high, half))
        total = made("Add", made("Mul", added(high), half), added(low))
    else:
        total = added(x)
    graph.make_node("Cast", [total], attr={"to": dtype}, name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)


def _is_narrow(graph: Any, x: str) -> bool:
    """Whether int64 values come from a dtype of at most 32 bits, so that float64 holds their sums."""
    made_by = graph.get_node_by_output(x)
    if made_by is None or made_by.type != "Cast":
        return False
    return graph.get_dtype(made_by.input[0]) in (_T.BOOL, _T.INT8, _T.UINT8, _T.INT16, _T.UINT16, _T.INT32)


def _cast(graph: Any, x: str, dtype: int, to: int) -> str:
    if dtype == to:
        return x
    output: str = graph.make_node("Cast", [x], attr={"to": to}, dtypes=[to], shapes=[graph.get_shape(x)]).output[0]
    return output


EXACT: dict[str, tuple[Any, list[Any]]] = {
    "Select": (_select, []),
    "SelectV2": (_select, []),
    "Less": (_compare, ["Less", "Less"]),
    "Greater": (_compare, ["Greater", "Greater"]),
    "LessEqual": (_compare, ["LessEqual", "LessOrEqual"]),
    "GreaterEqual": (_compare, ["GreaterEqual", "GreaterOrEqual"]),
    "TopKV2": (_top_k, []),
    "Reshape": (_reshape, ["Reshape"]),
    "GatherV2": (_gather, ["GatherV2"]),
    "GatherNd": (_gather_nd, ["GatherND"]),
    "ArgMax": (_arg, ["ArgMax"]),
    "ArgMin": (_arg, ["ArgMin"]),
    "Max": (_reduce, ["ReduceMax"]),
    "Min": (_reduce, ["ReduceMin"]),
    "Sum": (_total, ["ReduceSum"]),
    "Prod": (_total, ["ReduceProd"]),
}
"""TensorFlow operation -> (converter, its arguments)."""

FOR_EXTREMES = ("ArgMax", "ArgMin", "Max", "Min", "Sum", "Prod", "Reshape")
"""Converters that cost a few operations for NaN and for sums of huge integers alone. Our own networks need none: a NaN
spreads to every logit, so that all values are NaN or none, and the integers that they add are small."""
