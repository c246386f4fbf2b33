"""Converters for TensorFlow operations that tf2onnx lacks, or converts wrongly for some inputs.

tf2onnx divides integers with ONNX's Div, which rounds towards zero where TensorFlow rounds down: -7 // 3 became -2, and
the common padding `-h % 8` got a wrong shape. Its one-hot vectors count negative ids from the end, where TensorFlow
gives zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx.helper
import tf2onnx.onnx_opset.math

from ladle.training.onnx.exact import EXACT, choose

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)

_MICROSOFT = "com.microsoft"
_RESIZED = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT32, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def _floor_div(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """x // y: the quotient towards zero, less one where that rounded up."""
    dtype = graph.get_dtype(node.input[0])
    if dtype in _FLOATS:
        tf2onnx.onnx_opset.math.FloorDiv.version_6(graph, node)
        return
    inputs, outputs, shapes = list(node.input), list(node.output), node.output_shapes
    graph.remove_node(name)
    quotient = _quotient(graph, inputs, dtype, shapes)
    # The two remainders differ exactly where the quotient was rounded up: one has the divisor's sign, the other the
    # dividend's. (x - x % y) / y would need fewer operations, but overflows at the smallest integers.
    remainders = [
        graph.make_node("Mod", inputs, attr={"fmod": fmod}, dtypes=[dtype], shapes=shapes).output[0] for fmod in (0, 1)
    ]
    equal = graph.make_node("Equal", remainders, dtypes=[onnx.TensorProto.BOOL], shapes=shapes).output[0]
    rounded = graph.make_node("Not", [equal], dtypes=[onnx.TensorProto.BOOL], shapes=shapes).output[0]
    one = graph.make_node("Cast", [rounded], attr={"to": dtype}, dtypes=[dtype], shapes=shapes).output[0]
    graph.make_node("Sub", [quotient, one], name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)


def _truncate_div(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """x / y towards zero."""
    inputs, outputs, shapes, dtype = (
        list(node.input),
        list(node.output),
        node.output_shapes,
        graph.get_dtype(node.input[0]),
    )
    graph.remove_node(name)
    quotient = inputs if dtype in _FLOATS else [_quotient(graph, inputs, dtype, shapes)]
    operation = "Div" if dtype in _FLOATS else "Identity"
    graph.make_node(operation, quotient, name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)


def _quotient(graph: Any, inputs: Sequence[str], dtype: int, shapes: Any) -> str:
    """x / y towards zero for integers.

    The smallest integer divided by -1 overflows, and the processor ends the process. So -x stands in for x / -1.
    """
    x, y = inputs
    divisor = graph.get_node_by_output(y)
    if dtype not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64) or (
        divisor is not None and divisor.is_const() and (divisor.get_tensor_value(as_list=False) != -1).all()
    ):
        return str(graph.make_node("Div", inputs, dtypes=[dtype], shapes=shapes).output[0])
    name, numpy = tf2onnx.utils.make_name("quotient"), onnx.helper.tensor_dtype_to_np_dtype(dtype)
    one, minus = (graph.make_const(f"{name}/{n}", np.array(value, numpy)).output[0] for n, value in enumerate((1, -1)))
    is_minus = graph.make_node("Equal", [y, minus], dtypes=[onnx.TensorProto.BOOL]).output[0]
    y = graph.make_node("Where", [is_minus, one, y], dtypes=[dtype]).output[0]
    quotient = graph.make_node("Div", [x, y], dtypes=[dtype], shapes=shapes).output[0]
    negative = graph.make_node("Neg", [quotient], dtypes=[dtype], shapes=shapes).output[0]
    return str(graph.make_node("Where", [is_minus, negative, quotient], dtypes=[dtype], shapes=shapes).output[0])


def _floor_mod(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """x % y with the sign of y: for integers this is ONNX's Mod.

    x - floor(x / y) * y, which tf2onnx makes of floats, has no correct digit left where x / y is large.
    """
    dtype = graph.get_dtype(node.input[0])
    inputs, outputs, shapes = list(node.input), list(node.output), node.output_shapes
    graph.remove_node(name)
    if dtype in _FLOATS:
        (_, y), boolean = inputs, {"dtypes": [onnx.TensorProto.BOOL], "shapes": shapes}
        rest = graph.make_node("Mod", inputs, attr={"fmod": 1}, dtypes=[dtype], shapes=shapes).output[0]
        zero = graph.make_const(f"{name}/zero", np.array(0, onnx.helper.tensor_dtype_to_np_dtype(dtype))).output[0]
        negative = [graph.make_node("Less", [value, zero], **boolean).output[0] for value in (y, rest)]
        signs_differ = graph.make_node("Xor", negative, **boolean).output[0]
        is_zero = graph.make_node("Equal", [rest, zero], **boolean).output[0]
        is_other = graph.make_node("Not", [is_zero], **boolean).output[0]
        moves = graph.make_node("And", [signs_differ, is_other], **boolean).output[0]
        moved = graph.make_node("Add", [rest, y], dtypes=[dtype], shapes=shapes).output[0]
        graph.make_node("Where", [moves, moved, rest], name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)
        return
    graph.make_node("Mod", inputs, name=name, outputs=outputs, dtypes=[dtype], shapes=shapes)


def _one_hot(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """`on` where the id equals the position, else `off`: an id outside 0..depth-1 gives `off` everywhere."""
    ids, depth, on, off = node.input
    outputs, dtypes, shapes = list(node.output), node.output_dtypes, node.output_shapes
    axis = node.get_attr("axis")
    axis = -1 if axis is None else axis.i
    rank = None if graph.get_shape(ids) is None else len(graph.get_shape(ids)) + 1
    if axis != -1 and rank is None:
        raise ValueError("one_hot along an axis other than the last needs ids of known rank")
    graph.remove_node(name)
    int64, boolean = [onnx.TensorProto.INT64], [onnx.TensorProto.BOOL]
    zero, one = (graph.make_const(f"{name}/{value}", np.array(value, np.int64)).output[0] for value in (0, 1))
    ids, depth = (
        graph.make_node("Cast", [x], attr={"to": onnx.TensorProto.INT64}, dtypes=int64).output[0] for x in (ids, depth)
    )
    positions = graph.make_node("Range", [zero, depth, one], dtypes=int64).output[0]  # [depth]
    if axis not in (-1, (rank or 0) - 1):
        shape = np.array([-1] + [1] * ((rank or 0) - 1 - axis), np.int64)  # axes after the new one
        shape = graph.make_const(f"{name}/shape", shape).output[0]
        positions = graph.make_node("Reshape", [positions, shape], dtypes=int64).output[0]
    where = graph.make_const(f"{name}/axis", np.array([axis], np.int64)).output[0]
    ids = graph.make_node("Unsqueeze", [ids, where], dtypes=int64).output[0]
    equal = graph.make_node("Equal", [ids, positions], dtypes=boolean, shapes=shapes).output[0]
    choose(graph, name, equal, [on, off], outputs, dtypes[0], shapes)


def _truncate_mod(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """x % y with the sign of x, as in C."""
    inputs, outputs, dtypes, shapes = list(node.input), list(node.output), node.output_dtypes, node.output_shapes
    graph.remove_node(name)
    graph.make_node("Mod", inputs, attr={"fmod": 1}, name=name, outputs=outputs, dtypes=dtypes, shapes=shapes)


def _with_one(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """1 - erf(x), exp(x) - 1 and log(1 + x); `arguments` name the function.

    Near zero, 1 + x has lost the digits of x. There exp(x) - 1 is tanh(x / 2) (exp(x) + 1), and log(u) of u = 1 + x
    lacks (x - (u - 1)) / u.
    """
    [function] = arguments
    dtype, shapes, [x], outputs = graph.get_dtype(node.input[0]), node.output_shapes, node.input, list(node.output)
    graph.remove_node(name)
    numpy = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    one, half = (graph.make_const(f"{name}/{value}", np.array(value, numpy)).output[0] for value in (1, 0.5))

    def made(operation: str, *inputs: str) -> str:
        output: str = graph.make_node(operation, list(inputs), dtypes=[dtype], shapes=shapes).output[0]
        return output

    last = {"name": name, "outputs": outputs, "dtypes": [dtype], "shapes": shapes}
    if function == "Erf":
        graph.make_node("Sub", [one, made("Erf", x)], **last)
    elif function == "Exp":
        graph.make_node("Mul", [made("Tanh", made("Mul", x, half)), made("Add", made("Exp", x), one)], **last)
    else:
        moved = made("Add", one, x)
        logarithm = made("Log", moved)
        lost = made("Div", made("Sub", x, made("Sub", moved, one)), moved)
        boolean = {"dtypes": [onnx.TensorProto.BOOL], "shapes": shapes}
        is_small = graph.make_node("Less", [made("Abs", x), half], **boolean).output[0]
        graph.make_node("Where", [is_small, made("Add", logarithm, lost), logarithm], **last)


def _as_it_is(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """An operation of the same name and inputs. tf2onnx would compute the logarithm of float64 in float32."""


def _resize(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """Bilinear and nearest, to a size: the scale that tf2onnx gives is rounded to another size."""
    [kind] = arguments
    (image, size), outputs, dtypes, shapes = node.input, list(node.output), node.output_dtypes, node.output_shapes
    dtype, to = graph.get_dtype(image), dtypes[0]
    align, half = bool(node.get_attr_value("align_corners", 0)), bool(node.get_attr_value("half_pixel_centers", 0))
    is_nearest = kind == "nearest"
    graph.remove_node(name)
    kernel = dtype if is_nearest and dtype in _RESIZED else onnx.TensorProto.FLOAT
    if dtype != kernel:
        image = graph.make_node("Cast", [image], attr={"to": kernel}, dtypes=[kernel]).output[0]
    image = graph.make_node("Transpose", [image], attr={"perm": [0, 3, 1, 2]}, dtypes=[kernel]).output[0]
    int64 = {"dtypes": [onnx.TensorProto.INT64]}
    size = graph.make_node("Cast", [size], attr={"to": onnx.TensorProto.INT64}, **int64).output[0]
    shape = graph.make_node("Shape", [image], **int64).output[0]
    ends = [graph.make_const(f"{name}/{n}", np.array([n], np.int64)).output[0] for n in (0, 2)]
    first = graph.make_node("Slice", [shape, *ends], **int64).output[0]
    size = graph.make_node("Concat", [first, size], attr={"axis": 0}, **int64).output[0]
    pixels = "tf_half_pixel_for_nn" if half and is_nearest else "half_pixel" if half else "asymmetric"
    attributes = {
        "mode": kind,
        "coordinate_transformation_mode": "align_corners" if align else pixels,
        "nearest_mode": "round_prefer_ceil" if align else "floor",
    }
    resized = graph.make_node("Resize", [image, "", "", size], attr=attributes, dtypes=[kernel]).output[0]
    back = {"perm": [0, 2, 3, 1]}
    if kernel == to:
        graph.make_node("Transpose", [resized], attr=back, name=name, outputs=outputs, dtypes=dtypes, shapes=shapes)
        return
    resized = graph.make_node("Transpose", [resized], attr=back, dtypes=[kernel], shapes=shapes).output[0]
    graph.make_node("Cast", [resized], attr={"to": to}, name=name, outputs=outputs, dtypes=dtypes, shapes=shapes)


def _invert(graph: Any, node: Any, name: str, arguments: Sequence[Any]) -> None:
    """The inverse of matrices; a check demands that it is finite."""
    [x], outputs, dtypes, shapes = list(node.input), list(node.output), node.output_dtypes, node.output_shapes
    is_adjoint, rank = node.get_attr_value("adjoint", 0), graph.get_rank(x)
    graph.remove_node(name)
    if is_adjoint:
        order = [*range(rank - 2), rank - 1, rank - 2]
        x = graph.make_node("Transpose", [x], attr={"perm": order}, dtypes=dtypes).output[0]
    graph.make_node("Inverse", [x], name=name, outputs=outputs, dtypes=dtypes, shapes=shapes, domain=_MICROSOFT)


CONVERTERS: dict[str, tuple[Any, list[Any]]] = {
    "FloorDiv": (_floor_div, []),
    "FloorMod": (_floor_mod, []),
    "TruncateDiv": (_truncate_div, []),
    "Div": (_truncate_div, []),
    "OneHot": (_one_hot, []),
    "TruncateMod": (_truncate_mod, []),
    # The first argument is for tf2onnx: the type that it gives the node before it calls the converter.
    "Erfc": (_with_one, ["Erfc", "Erf"]),
    "Expm1": (_with_one, ["Expm1", "Exp"]),
    "Log": (_as_it_is, ["Log"]),
    "Log1p": (_with_one, ["Log1p", "Log"]),
    "ResizeBilinear": (_resize, ["ResizeBilinear", "linear"]),
    "ResizeNearestNeighbor": (_resize, ["ResizeNearestNeighbor", "nearest"]),
    "MatrixInverse": (_invert, ["Inverse"]),
    **EXACT,
}
"""TensorFlow operation -> (converter, its arguments), as `custom_op_handlers` of tf2onnx takes them."""
