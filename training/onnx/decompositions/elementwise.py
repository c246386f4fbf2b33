"""Functions of single values, and of few."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.training.onnx.decompositions.lengths import as_long_as


def _x_log_y(operation: Any) -> list[tf.Tensor]:
    x, y = operation.inputs
    value = {"Xlogy": lambda: x * tf.math.log(y), "Xlog1py": lambda: x * tf.math.log1p(y), "Xdivy": lambda: x / y}
    product = value[operation.type]()
    return [tf.where(tf.equal(x, 0), tf.zeros_like(product), product)]


_MOST_PLACES = 1024
_MOST_UNROLLED = 32
_KEEPS = (
    *("Identity", "Reshape", "Squeeze", "ExpandDims", "StridedSlice", "Slice", "Transpose", "GatherV2", "GatherNd"),
    *("ConcatV2", "Pack", "Unpack", "Split", "SplitV", "Tile", "BroadcastTo", "SelectV2", "Select", "Where"),
    *("Max", "Min", "Maximum", "Minimum", "ClipByValue", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Abs", "Neg"),
    *("Mul", "Square", "Sqrt", "Tanh", "Atan", "Asinh", "Erf", "Softsign", "Expm1", "Sum", "Mean", "Prod", "AddN"),
    *("MatMul", "BatchMatMulV2", "Einsum", "Cumsum", "Cumprod"),
)
"""What makes small values of small values."""
_MAGNIFIES = (
    *("Log", "Log1p", "RealDiv", "Div", "DivNoNan", "Reciprocal", "Inv", "Rsqrt", "Pow", "Xlogy", "Xdivy", "Ndtri"),
    *("Sign", "Ceil", "TopKV2", "ArgMax", "ArgMin", "NonMaxSuppressionV3", "NonMaxSuppressionV4"),
    *("NonMaxSuppressionV5", "CombinedNonMaxSuppression", "UnsortedSegmentMax", "LogSoftmax"),
)
"""What makes a great difference of small values."""
_COMPARES = ("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual")
_SMALL = 1e-6
_MOST_READERS = 400
_HALF_LIMIT = 65520.0
"""Where a float32 becomes an infinite float16."""


def _sigmoid(operation: Any) -> list[tf.Tensor] | None:
    """ONNX Runtime's is 0 below -18, where TensorFlow's is small: a logarithm or a quotient tells them apart."""
    [x] = operation.inputs
    if not _is_magnified(operation.outputs[0]):
        return None
    value = 1 / (1 + tf.exp(-x))
    return [tf.where(value < np.finfo(x.dtype.as_numpy_dtype).tiny, tf.zeros_like(x), value)]


_ERFC = (
    *(0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196),
    *(1.00002368, -1.26551223),
)
"""Press et al., Numerical Recipes in C, 1992, section 6.2: erfc to 1.2e-7 of its value, however small that is."""
_ERFC_ENDS = {tf.float32: 16.0, tf.float64: 28.0}
"""Where it is 0 for certain."""


def _erfc(operation: Any) -> list[tf.Tensor] | None:
    """1 - erf(x), as a converter computes it, has no digit left above 4."""
    [x] = operation.inputs
    if x.dtype not in _ERFC_ENDS:
        return None
    size = tf.minimum(tf.abs(x), _ERFC_ENDS[x.dtype])
    t = 1 / (1 + size / 2)
    power = tf.zeros_like(x)
    for coefficient in _ERFC:
        power = power * t + coefficient
    # The square in two parts, of which the first is exact: a rounded square would spoil the power.
    most = tf.floor(size * 64) / 64
    small = t * tf.exp(-most * most) * tf.exp(power - (size - most) * (size + most))
    small = tf.where(small < np.finfo(x.dtype.as_numpy_dtype).tiny, tf.zeros_like(x), small)  # as TensorFlow has it
    return [tf.where(tf.math.is_nan(x), x, tf.where(x < 0, 2 - small, small))]


def _is_magnified(tensor: tf.Tensor) -> bool:
    """Whether something reads a tensor of which the relative size of small values counts."""
    waiting, seen = [tensor], {tensor.name}
    while waiting and len(seen) < _MOST_READERS:
        tensor = waiting.pop()
        for reader in tensor.consumers():
            if reader.type in _COMPARES:
                limits = [tf.get_static_value(x) for x in reader.inputs if x is not tensor]
                if any(limit is None or not (np.abs(limit) > _SMALL).all() for limit in limits):
                    return True
            elif reader.type in ("RealDiv", "Div") and tf.get_static_value(reader.inputs[1]) is not None:
                waiting += [made for made in reader.outputs if made.name not in seen]
            elif reader.type in _MAGNIFIES:
                return True
            elif reader.type in _KEEPS:
                waiting += [made for made in reader.outputs if made.name not in seen]
            seen.update(made.name for made in reader.outputs)
    return False


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


def _cross(operation: Any) -> list[tf.Tensor]:
    a, b = operation.inputs
    if a.shape.rank is not None:
        b = as_long_as(b, range(a.shape.rank), a, range(a.shape.rank))
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
    """AddN, whose terms have one shape. ONNX's Sum takes no integers."""
    first, *others = operation.inputs
    if first.dtype == tf.variant:
        return None
    axes = range(first.shape.rank or 0)
    matched = [as_long_as(x, axes, first, axes) if x.shape.rank == first.shape.rank else x for x in others]
    if first.dtype.is_floating and all(x is y for x, y in zip(matched, others, strict=True)):
        return None
    for other in matched:
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


def _cumulative_product(operation: Any) -> list[tf.Tensor] | None:
    """One factor after another, as TensorFlow multiplies: in another order, a product may leave the range of floats.

    A converter multiplies the other way round, and takes an axis that is counted from the first.
    """
    x, axis = operation.inputs
    known = tf.get_static_value(axis)
    if known is None or not x.shape.rank:
        return None
    options = {name: operation.get_attr(name) for name in ("exclusive", "reverse")}
    at = int(known) % x.shape.rank
    if not 0 < (x.shape[at] or 0) <= _MOST_UNROLLED:
        return [tf.raw_ops.Cumprod(x=x, axis=at, **options)]
    factors = tf.unstack(x, axis=at)
    factors = factors[::-1] if options["reverse"] else factors
    if options["exclusive"]:
        factors = [tf.ones_like(factors[0]), *factors[:-1]]
    products = list(itertools.accumulate(factors, lambda product, factor: product * factor))
    return [tf.stack(products[::-1] if options["reverse"] else products, at)]


def _mean(operation: Any) -> list[tf.Tensor] | None:
    """The mean of no floats is NaN; ONNX Runtime gives 0. Only where the axes are not known to have values.

    Of float16, the sum is float16, too, and infinite where it is too large; ONNX Runtime's mean never is.
    """
    x, axes = operation.inputs
    known = tf.get_static_value(axes)
    if known is None or x.shape.rank is None or x.dtype not in (tf.float16, tf.float32, tf.float64, tf.int64):
        return None
    # ONNX Runtime's mean of int64 is computed in float64.
    if x.dtype not in (tf.int64, tf.float16) and all(x.shape[axis] for axis in np.ravel(known)):
        return None
    shape = tf.shape(x, tf.int64)
    count = math.prod((shape[axis] for axis in np.ravel(known)), start=tf.constant(1, tf.int64))
    if x.dtype == tf.float16:
        total = tf.reduce_sum(tf.cast(x, tf.float32), axes, operation.get_attr("keep_dims"))
        total = tf.where(tf.abs(total) >= _HALF_LIMIT, total * math.inf, total)
        return [tf.cast(total / tf.cast(count, tf.float32), x.dtype)]
    total = tf.reduce_sum(x, axes, operation.get_attr("keep_dims"))
    if x.dtype == tf.int64:
        return [tf.truncatediv(total, tf.maximum(count, 1))]
    return [total / tf.cast(count, x.dtype)]


def _truncate_div(operation: Any) -> list[tf.Tensor] | None:
    """Of floats; a converter divides integers."""
    x, y = operation.inputs
    if not x.dtype.is_floating:
        return None
    quotient = x / y
    return [tf.where(quotient < 0, tf.math.ceil(quotient), tf.floor(quotient))]


def _of_halves(operation: Any) -> list[tf.Tensor] | None:
    """IsFinite and IsInf, for which ONNX has no float16."""
    [x] = operation.inputs
    find = tf.math.is_finite if operation.type == "IsFinite" else tf.math.is_inf
    return [find(tf.cast(x, tf.float32))] if x.dtype == tf.float16 else None


ELEMENTWISE = {
    "IsFinite": _of_halves,
    "IsInf": _of_halves,
    "AddN": _sum_of_many,
    "TruncateDiv": _truncate_div,
    "Mean": _mean,
    "Xlogy": _x_log_y,
    "Xlog1py": _x_log_y,
    "Xdivy": _x_log_y,
    "MulNoNan": _mul_no_nan,
    "Atan2": _atan2,
    "Sigmoid": _sigmoid,
    "Erfc": _erfc,
    "Cross": _cross,
    "FakeQuantWithMinMaxArgs": _fake_quant,
    "FakeQuantWithMinMaxVars": _fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant,
    "CumulativeLogsumexp": _cumulative_logsumexp,
    "Cumprod": _cumulative_product,
}
