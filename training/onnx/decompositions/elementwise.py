"""Functions of single values, and of few."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def _x_log_y(operation: Any) -> list[tf.Tensor]:
    x, y = operation.inputs
    value = {"Xlogy": lambda: x * tf.math.log(y), "Xlog1py": lambda: x * tf.math.log1p(y), "Xdivy": lambda: x / y}
    product = value[operation.type]()
    return [tf.where(tf.equal(x, 0), tf.zeros_like(product), product)]


_MOST_FACTORS = 64
_MOST_PLACES = 1024
_MOVES = (
    "Identity",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "StridedSlice",
    "Transpose",
    "Maximum",
    "Max",
    "Min",
    "GatherV2",
)
_MAGNIFY = ("Log", "Log1p", "RealDiv", "DivNoNan", "Reciprocal", "Inv", "Rsqrt", "Pow", "Xlogy", "Xdivy", "Ndtri")


def _sigmoid(operation: Any) -> list[tf.Tensor] | None:
    """ONNX Runtime's is 0 below -18, where TensorFlow's is small: a logarithm or a quotient tells them apart."""
    [x] = operation.inputs
    return [1 / (1 + tf.exp(-x))] if _is_magnified(operation.outputs[0], 4) else None


def _is_magnified(tensor: tf.Tensor, depth: int) -> bool:
    """Whether something reads a tensor of which the relative size of small values counts."""
    return any(
        each.type in _MAGNIFY or (depth > 0 and each.type in _MOVES and _is_magnified(each.outputs[0], depth - 1))
        for each in tensor.consumers()
    )


def _is_negative(x: tf.Tensor) -> tf.Tensor:
    """Whether the sign is -, which zero has, too."""
    return tf.logical_or(x < 0, tf.logical_and(tf.equal(x, 0), 1 / x < 0))


def _atan2(operation: Any) -> list[tf.Tensor] | None:
    y, x = operation.inputs
    return [angle_of(y, x)] if x.dtype in (tf.float32, tf.float64) else None


def angle_of(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The angle of a point, in all four quarters and on the axes."""
    up, along = tf.abs(y), tf.abs(x)
    most, least = tf.maximum(up, along), tf.minimum(up, along)
    share = tf.where(tf.equal(most, least), tf.where(tf.equal(most, 0), most, tf.ones_like(most)), least / most)
    angle = tf.atan(share)
    angle = tf.where(up > along, np.pi / 2 - angle, angle)
    angle = tf.where(_is_negative(x), np.pi - angle, angle)
    angle = tf.where(_is_negative(y), -angle, angle)
    return tf.where(tf.logical_or(tf.math.is_nan(x), tf.math.is_nan(y)), x + y, angle)


def _mul_no_nan(operation: Any) -> list[tf.Tensor]:
    x, y = operation.inputs
    product = x * y
    return [tf.where(tf.equal(y, 0), tf.zeros_like(product), product)]


def _shift(operation: Any) -> list[tf.Tensor] | None:
    """Of signed integers: ONNX shifts unsigned ones alone."""
    x, count = operation.inputs
    known = tf.get_static_value(count)
    bits = 8 * x.dtype.size
    if x.dtype.is_unsigned or known is None or (known < 0).any() or (known >= bits - 1).any():
        return None
    powers = tf.constant(np.left_shift(np.ones_like(known), known))
    return [x * powers if operation.type == "LeftShift" else x // powers]


def _cross(operation: Any) -> list[tf.Tensor]:
    a, b = operation.inputs
    turned = [tf.gather(x, order, axis=-1) for order in ([1, 2, 0], [2, 0, 1]) for x in (a, b)]
    return [turned[0] * turned[3] - turned[2] * turned[1]]


def _fake_quant(operation: Any) -> list[tf.Tensor]:
    """Rounds to one of 2^bits levels between the least and the largest value, of channels or of all; 0 is a level."""
    x, *limits = operation.inputs
    low, high = limits or [tf.constant(operation.get_attr(name), x.dtype) for name in ("min", "max")]
    least, most = int(operation.get_attr("narrow_range")), 2 ** operation.get_attr("num_bits") - 1
    scale = (high - low) / (most - least)
    zero = least - low / scale
    moved = tf.where(zero < least, float(least), tf.where(zero > most, float(most), tf.floor(zero + 0.5)))
    low, high = (least - moved) * scale, (most - moved) * scale
    clipped = tf.clip_by_value(x, low, high)
    steps = 1.0 / scale
    zero = tf.floor(-low * steps + 0.5)
    return [tf.floor((clipped - low) * steps - zero + 0.5) * scale]


def _sum_of_many(operation: Any) -> list[tf.Tensor] | None:
    """AddN of integers, which ONNX's Sum does not take."""
    first, *others = operation.inputs
    if first.dtype.is_floating or first.dtype == tf.variant:
        return None
    for other in others:
        first = first + other
    return [tf.identity(first)]


def _cumulative_logsumexp(operation: Any) -> list[tf.Tensor] | None:
    """For each place the logarithm of the sum of those before it, all pairs of places at once."""
    x, axis = operation.inputs
    known = tf.get_static_value(axis)
    length = None if known is None or x.shape.rank is None else x.shape[int(known)]
    if length is None or length > _MOST_PLACES:
        return None
    order = list(range(x.shape.rank))
    order[int(known)], order[-1] = order[-1], order[int(known)]
    place = np.arange(length)
    before = place[None] < place[:, None] if operation.get_attr("exclusive") else place[None] <= place[:, None]
    before = before[::-1, ::-1] if operation.get_attr("reverse") else before
    rows = tf.transpose(x, order)[..., None, :]
    counted = tf.where(np.ascontiguousarray(before), rows, tf.constant(-np.inf, x.dtype))
    most = tf.reduce_max(counted, -1, keepdims=True)
    finite = tf.where(tf.math.is_finite(most), most, tf.zeros_like(most))
    result = tf.math.log(tf.reduce_sum(tf.exp(counted - finite), -1)) + finite[..., 0]
    return [tf.transpose(result, order)]


def _mean(operation: Any) -> list[tf.Tensor] | None:
    """The mean of no values is NaN; ONNX Runtime gives 0. Only where the axes are not known to have values."""
    x, axes = operation.inputs
    known = tf.get_static_value(axes)
    if known is None or x.shape.rank is None or x.dtype not in (tf.float32, tf.float64):
        return None
    if all(x.shape[axis] for axis in np.ravel(known)):
        return None
    count = tf.reduce_prod(tf.gather(tf.shape(x), np.ravel(known) % x.shape.rank))
    return [tf.reduce_sum(x, axes, operation.get_attr("keep_dims")) / tf.cast(count, x.dtype)]


def _product(operation: Any) -> list[tf.Tensor] | None:
    """Of integers along one short axis: ONNX Runtime's product does not wrap around, as that of two tensors does."""
    x, axes = operation.inputs
    known = tf.get_static_value(axes)
    if known is None or np.size(known) != 1 or x.shape.rank is None or x.dtype not in (tf.int32, tf.int64):
        return None
    axis = int(np.ravel(known)[0])
    length = x.shape[axis]
    if length is None or not 0 < length <= _MOST_FACTORS:
        return None
    value, *others = tf.unstack(x, axis=axis)
    for each in others:
        value *= each
    return [tf.expand_dims(value, axis) if operation.get_attr("keep_dims") else value]


def _truncate_div(operation: Any) -> list[tf.Tensor] | None:
    """Of floats; a converter divides integers."""
    x, y = operation.inputs
    if not x.dtype.is_floating:
        return None
    quotient = x / y
    return [tf.where(quotient < 0, tf.math.ceil(quotient), tf.floor(quotient))]


ELEMENTWISE = {
    "AddN": _sum_of_many,
    "TruncateDiv": _truncate_div,
    "Mean": _mean,
    "Prod": _product,
    "Xlogy": _x_log_y,
    "Xlog1py": _x_log_y,
    "Xdivy": _x_log_y,
    "MulNoNan": _mul_no_nan,
    "Atan2": _atan2,
    "Sigmoid": _sigmoid,
    "LeftShift": _shift,
    "RightShift": _shift,
    "Cross": _cross,
    "FakeQuantWithMinMaxArgs": _fake_quant,
    "FakeQuantWithMinMaxVars": _fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant,
    "CumulativeLogsumexp": _cumulative_logsumexp,
}
