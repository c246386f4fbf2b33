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


def _fake_quant_per_channel(operation: Any) -> list[tf.Tensor]:
    """Rounds each channel to one of 2^bits levels between its least and largest value, which are moved to hold 0."""
    x, low, high = operation.inputs
    least, most = int(operation.get_attr("narrow_range")), 2 ** operation.get_attr("num_bits") - 1
    scale = (high - low) / (most - least)
    zero = least - low / scale
    moved = tf.where(zero < least, float(least), tf.where(zero > most, float(most), tf.floor(zero + 0.5)))
    low, high = (least - moved) * scale, (most - moved) * scale
    clipped = tf.clip_by_value(x, low, high)
    level = tf.floor((clipped - low) * (1.0 / scale) + 0.5)
    return [level * scale + low]


def _cumulative_logsumexp(operation: Any) -> list[tf.Tensor]:
    x, axis = operation.inputs
    most = tf.reduce_max(x, axis, keepdims=True)
    most = tf.where(tf.math.is_finite(most), most, tf.zeros_like(most))
    exclusive, reverse = operation.get_attr("exclusive"), operation.get_attr("reverse")
    return [tf.math.log(tf.cumsum(tf.exp(x - most), axis, exclusive, reverse)) + most]


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


def _truncate_div(operation: Any) -> list[tf.Tensor] | None:
    """Of floats; a converter divides integers."""
    x, y = operation.inputs
    if not x.dtype.is_floating:
        return None
    quotient = x / y
    return [tf.where(quotient < 0, tf.math.ceil(quotient), tf.floor(quotient))]


ELEMENTWISE = {
    "TruncateDiv": _truncate_div,
    "Mean": _mean,
    "Xlogy": _x_log_y,
    "Xlog1py": _x_log_y,
    "Xdivy": _x_log_y,
    "MulNoNan": _mul_no_nan,
    "LeftShift": _shift,
    "RightShift": _shift,
    "Cross": _cross,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant_per_channel,
    "CumulativeLogsumexp": _cumulative_logsumexp,
}
