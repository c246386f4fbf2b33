"""Shapes, slices and integer arithmetic between operations on strings, as TensorFlow computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host.limits import check_size

Attributes = Mapping[str, Any]
Function = Callable[..., Any]
"""Arrays in, an array or a tuple of arrays out."""


def _always(function: Function) -> Callable[[Attributes], Function]:
    """The builder of an operation without attributes."""
    return lambda attributes: function


def _identity(x: Array) -> Array:
    return x


def _cast(attributes: Attributes) -> Function:
    dtype = np.dtype(attributes["DstT"])

    def cast(x: Array) -> Array:
        with np.errstate(invalid="ignore"):  # NaN as an integer is what the processor makes of it, as in TensorFlow
            return x.astype(dtype)

    return cast


def _shape(attributes: Attributes) -> Function:
    dtype = np.dtype(attributes.get("out_type", "int32"))
    return lambda x: np.array(x.shape, dtype)


def _size(attributes: Attributes) -> Function:
    dtype = np.dtype(attributes.get("out_type", "int32"))
    return lambda x: np.array(x.size, dtype)


def _reshape(x: Array, shape: Array) -> Array:
    return x.reshape(tuple(shape.tolist()))


def _expand_dims(x: Array, axis: Array) -> Array:
    return np.expand_dims(x, int(axis.item()))


def _squeeze(attributes: Attributes) -> Function:
    axes = attributes.get("squeeze_dims") or None
    return lambda x: np.squeeze(x, None if axes is None else tuple(axes))


def _concat(*arrays: Array) -> Array:
    *parts, axis = arrays
    return np.concatenate(parts, int(axis))


def _pack(attributes: Attributes) -> Function:
    axis = int(attributes.get("axis", 0))
    return lambda *parts: np.stack(parts, axis)


def _unpack(attributes: Attributes) -> Function:
    axis, count = int(attributes.get("axis", 0)), int(attributes["num"])

    def unpack(x: Array) -> tuple[Array, ...]:
        if x.shape[axis] != count:
            raise InvalidArgument(f"Input shape axis {axis} must equal {count}, got shape {list(x.shape)}")
        return tuple(np.asarray(part) for part in np.moveaxis(x, axis, 0))

    return unpack


def _strided_slice(attributes: Attributes) -> Function:
    masks = {name: int(attributes.get(f"{name}_mask", 0)) for name in ("begin", "end", "ellipsis", "new_axis")}
    shrink = int(attributes.get("shrink_axis_mask", 0))

    def strided_slice(x: Array, begin: Array, end: Array, strides: Array) -> Array:
        index: list[Any] = []
        for i, (b, e, s) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
            bit = 1 << i
            if masks["ellipsis"] & bit:
                index.append(...)
            elif masks["new_axis"] & bit:
                index.append(None)
            elif shrink & bit:
                index.append(b)
            else:
                index.append(slice(None if masks["begin"] & bit else b, None if masks["end"] & bit else e, s))
        try:
            return np.asarray(x[tuple(index)], x.dtype)
        except IndexError:
            raise InvalidArgument(f"slice index of {list(x.shape)} out of bounds") from None

    return strided_slice


def _slice(x: Array, begin: Array, size: Array) -> Array:
    index = []
    for axis, (b, s) in enumerate(zip(begin.tolist(), size.tolist(), strict=True)):
        end = x.shape[axis] if s == -1 else b + s
        if not 0 <= b <= end <= x.shape[axis]:
            raise InvalidArgument(f"Expected begin[{axis}] and size[{axis}] in [0, {x.shape[axis]}], got {b} and {s}")
        index.append(slice(b, end))
    return x[tuple(index)]


def _gather(attributes: Attributes) -> Function:
    batch = int(attributes.get("batch_dims", 0))

    def gather(x: Array, indices: Array, axis: Array) -> Array:
        at = int(axis)
        _check_indices(indices, x.shape[at])
        if batch:
            raise InvalidArgument("gather with batch_dims runs on TensorFlow only")
        return np.asarray(np.take(x, indices, at), x.dtype)

    return gather


def _check_indices(indices: Array, size: int) -> None:
    wrong = (indices < 0) | (indices >= size)
    if wrong.any():
        at = np.argwhere(wrong)[0]
        where = "".join(f"[{','.join(map(str, at))}]" if at.size else "")
        raise InvalidArgument(f"indices{where} = {indices[tuple(at)]} is not in [0, {size})")


def _gather_nd(x: Array, indices: Array) -> Array:
    depth = indices.shape[-1]
    for axis in range(depth):
        _check_indices(indices[..., axis], x.shape[axis])
    return np.asarray(x[tuple(np.moveaxis(indices, -1, 0))], x.dtype)


def _fill(shape: Array, value: Array) -> Array:
    check_size(shape.tolist())
    return np.full(tuple(shape.tolist()), value, value.dtype)


def _zeros_like(x: Array) -> Array:
    return np.full(x.shape, b"", object) if x.dtype == object else np.zeros_like(x)


def _range(start: Array, limit: Array, delta: Array) -> Array:
    if not delta:
        raise InvalidArgument("Requires delta != 0: 0")
    check_size([max(0, (int(limit) - int(start)) // int(delta))])
    return np.array(range(start.item(), limit.item(), delta.item()), start.dtype)


def _tile(x: Array, multiples: Array) -> Array:
    check_size([size * n for size, n in zip(x.shape, multiples.tolist(), strict=True)])
    return np.tile(x, tuple(multiples.tolist()))


def _broadcast_to(x: Array, shape: Array) -> Array:
    check_size(shape.tolist())
    return np.broadcast_to(x, tuple(shape.tolist()))


def _pad(x: Array, paddings: Array, value: Array | None = None) -> Array:
    sizes = [int(size + pads.sum()) for size, pads in zip(x.shape, paddings, strict=True)]
    if (paddings < 0).any():
        raise InvalidArgument("Paddings must be non-negative")
    check_size(sizes)
    default: Any = b"" if x.dtype == object else 0
    out = np.full(sizes, default if value is None else value.item(), x.dtype)
    out[tuple(slice(int(b), int(b) + size) for (b, _), size in zip(paddings, x.shape, strict=True))] = x
    return out


def _reduce(function: Any) -> Callable[[Attributes], Function]:
    """A reduction over axes; of none, the first one of NumPy's identity, which TensorFlow shares for integers."""

    def build(attributes: Attributes) -> Function:
        keep = bool(attributes.get("keep_dims", False))

        def reduce(x: Array, axes: Array) -> Array:
            along = tuple(int(axis) for axis in np.ravel(axes))
            if function in (np.max, np.min) and not x.size:
                limits = np.iinfo(x.dtype)
                return np.asarray(function(x, axis=along, keepdims=keep, initial=_limit(function, limits)), x.dtype)
            return np.asarray(function(x, axis=along, keepdims=keep)).astype(x.dtype)

        return reduce

    return build


def _limit(function: Any, limits: Any) -> int:
    return int(limits.min if function is np.max else limits.max)


def _select_v1(condition: Array, x: Array, y: Array) -> Array:
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape(-1, *[1] * (x.ndim - 1))
    return np.where(condition, x, y)


def _cumsum(attributes: Attributes) -> Function:
    exclusive, reverse = bool(attributes.get("exclusive")), bool(attributes.get("reverse"))

    def cumsum(x: Array, axis: Array) -> Array:
        at = int(axis)
        x = np.flip(x, at) if reverse else x
        total = np.cumsum(x, at, dtype=x.dtype)
        total = total - x if exclusive else total
        return np.flip(total, at) if reverse else total

    return cumsum


def _where(condition: Array) -> Array:
    return np.argwhere(condition).astype(np.int64)


def _floor(function: Any) -> Function:
    def divide(x: Array, y: Array) -> Array:
        if (y == 0).any():
            raise InvalidArgument("Integer division by zero")
        return np.asarray(function(x, y))

    return divide


def _transpose(x: Array, order: Array) -> Array:
    return np.transpose(x, tuple(order.tolist()))


def _bucketize(attributes: Attributes) -> Function:
    boundaries = np.array(attributes["boundaries"], np.float32)
    # TensorFlow searches with std::upper_bound, for which NaN is above all.
    return lambda x: np.searchsorted(boundaries, _as_compared(x), side="right").astype(np.int32)


def _as_compared(x: Array) -> Array:
    """Numbers as they are compared with the boundaries, which are float32."""
    return x if x.dtype == np.float64 else x.astype(np.float32)


def _sparse_to_dense(indices: Array, shape: Array, values: Array, default: Array) -> Array:
    check_size(shape.tolist())
    out = np.full(tuple(shape.tolist()), default.item() if default.dtype != object else default, values.dtype)
    indices = indices.reshape(-1, len(shape)) if indices.ndim < 2 else indices
    for axis, size in enumerate(shape.tolist()):
        wrong = (indices[:, axis] < 0) | (indices[:, axis] >= size)
        if wrong.any():
            raise InvalidArgument(f"indices[{int(np.argmax(wrong))}] is out of bounds: need 0 <= index < {size}")
    out[tuple(indices.T)] = values
    return out


def _one_hot(attributes: Attributes) -> Function:
    axis = int(attributes.get("axis", -1))

    def one_hot(indices: Array, depth: Array, on: Array, off: Array) -> Array:
        count = int(depth)
        check_size([*indices.shape, count])
        hit = np.equal(np.expand_dims(indices, axis if axis >= 0 else indices.ndim), _along(count, axis, indices.ndim))
        return np.where(hit, on, off)

    return one_hot


def _along(count: int, axis: int, rank: int) -> Array:
    shape = [1] * (rank + 1)
    shape[axis] = count
    return np.arange(count).reshape(shape)


SAME_FOR_ANY_DTYPE: dict[str, Callable[[Attributes], Function]] = {
    "Identity": _always(_identity),
    "IdentityN": _always(lambda *x: x),
    "StopGradient": _always(_identity),
    "Snapshot": _always(_identity),
    "Shape": _shape,
    "ShapeN": lambda attributes: lambda *xs: tuple(map(_shape(attributes), xs)),
    "Size": _size,
    "Rank": _always(lambda x: np.array(x.ndim, np.int32)),
    "Reshape": _always(_reshape),
    "ExpandDims": _always(_expand_dims),
    "Squeeze": _squeeze,
    "ConcatV2": _always(_concat),
    "Pack": _pack,
    "Unpack": _unpack,
    "StridedSlice": _strided_slice,
    "Slice": _always(_slice),
    "GatherV2": _gather,
    "GatherNd": _always(_gather_nd),
    "Fill": _always(_fill),
    "ZerosLike": _always(_zeros_like),
    "Tile": _always(_tile),
    "BroadcastTo": _always(_broadcast_to),
    "Pad": _always(_pad),
    "PadV2": _always(_pad),
    "Transpose": _always(_transpose),
    "Select": _always(_select_v1),
    "SelectV2": _always(np.where),
    "Where": _always(_where),
    "SparseToDense": _always(_sparse_to_dense),
    "Equal": _always(np.equal),
    "NotEqual": _always(np.not_equal),
    "OneHot": _one_hot,
}
"""Operations that move values, or compare them for equality."""
OF_INTEGERS: dict[str, Callable[[Attributes], Function]] = {
    "Cast": _cast,
    "OnesLike": _always(np.ones_like),
    "Range": _always(_range),
    "Add": _always(np.add),
    "AddV2": _always(np.add),
    "AddN": _always(lambda *xs: sum(xs[1:], xs[0])),
    "Sub": _always(np.subtract),
    "Mul": _always(np.multiply),
    "Neg": _always(np.negative),
    "Abs": _always(np.abs),
    "Maximum": _always(np.maximum),
    "Minimum": _always(np.minimum),
    "FloorDiv": _always(_floor(np.floor_divide)),
    "FloorMod": _always(_floor(np.mod)),
    "Less": _always(np.less),
    "LessEqual": _always(np.less_equal),
    "Greater": _always(np.greater),
    "GreaterEqual": _always(np.greater_equal),
    "LogicalAnd": _always(np.logical_and),
    "LogicalOr": _always(np.logical_or),
    "LogicalNot": _always(np.logical_not),
    "Max": _reduce(np.max),
    "Min": _reduce(np.min),
    "Sum": _reduce(np.sum),
    "Prod": _reduce(np.prod),
    "All": _reduce(np.all),
    "Any": _reduce(np.any),
    "Cumsum": _cumsum,
}
"""Arithmetic that runs on the host for integers and booleans alone: for floats, engines differ in the last digit."""
ALWAYS_HOST: dict[str, Callable[[Attributes], Function]] = {"Bucketize": _bucketize}
