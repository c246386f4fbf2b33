"""Integers, where ONNX Runtime computes in float64, stops at the largest, or has no kernel for their dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

_MOST_FACTORS = 64


def _shift(operation: Any) -> list[tf.Tensor] | None:
    """By 0 to one less than the number of bits, which is where TensorFlow cuts other counts off.

    ONNX shifts unsigned integers alone, so signed ones are multiplied and divided.
    """
    x, count = operation.inputs
    bits = 8 * x.dtype.size
    known = tf.get_static_value(count)
    if x.dtype.is_unsigned:
        if x.dtype == tf.uint64 or (known is not None and (known < bits).all()):
            return None
        cut = tf.cast(tf.minimum(tf.cast(count, tf.int64), bits - 1), x.dtype)
        shift = tf.bitwise.left_shift if operation.type == "LeftShift" else tf.bitwise.right_shift
        return [shift(x, cut)]
    cut = tf.clip_by_value(tf.cast(count, tf.int32), 0, bits - 1) if count.dtype != tf.int64 else None
    if cut is None:
        cut = tf.cast(tf.clip_by_value(count, 0, bits - 1), tf.int32)
    limits = np.iinfo(x.dtype.as_numpy_dtype)
    powers = tf.constant([*(2**n for n in range(bits - 1)), limits.min], x.dtype)
    if operation.type == "LeftShift":
        return [x * tf.gather(powers, cut)]
    half = cut // 2  # the highest power is no positive number
    return [x // tf.gather(powers, half) // tf.gather(powers, cut - half)]


def _power(operation: Any) -> list[tf.Tensor] | None:
    """Of integers, by squaring: ONNX Runtime computes it in float64. A check demands that no exponent is negative."""
    x, exponent = operation.inputs
    if not x.dtype.is_integer:
        return None
    known = tf.get_static_value(exponent)
    if known is not None and known.size == 1 and known.min() >= 0:
        shape = tf.broadcast_static_shape(x.shape, exponent.shape)
        rest, square, result = int(known.max()), tf.reshape(x, shape) if x.shape.rank is None else x, None
        while rest:
            if rest % 2:
                result = square if result is None else result * square
            rest //= 2
            square = square * square if rest else square
        result = tf.ones_like(x) if result is None else result
        return [result + tf.zeros_like(exponent) if exponent.shape.rank != 0 else result]
    zero, one = tf.zeros([], x.dtype), tf.ones([], x.dtype)
    start = [tf.ones_like(x + exponent), x + tf.zeros_like(exponent), exponent + tf.zeros_like(x)]

    def step(result: tf.Tensor, square: tf.Tensor, rest: tf.Tensor) -> list[tf.Tensor]:
        is_odd = tf.equal(rest % tf.cast(2, x.dtype), one)
        return [tf.where(is_odd, result * square, result), square * square, rest // tf.cast(2, x.dtype)]

    return [tf.while_loop(lambda _, __, rest: tf.reduce_any(rest > zero), step, start)[0]]


def _widened(operation: Any) -> list[tf.Tensor] | None:
    """Maximum and Minimum of 16 bits, of which ONNX Runtime has none."""
    x, y = operation.inputs
    if x.dtype not in (tf.int16, tf.uint16):
        return None
    compare = {"Maximum": tf.maximum, "Minimum": tf.minimum}[operation.type]
    return [tf.cast(compare(tf.cast(x, tf.int32), tf.cast(y, tf.int32)), x.dtype)]


def _places(operation: Any) -> list[tf.Tensor] | None:
    """Where: the places of values other than 0. ONNX Runtime does not look for those of few bits."""
    [x] = operation.inputs
    known = (tf.bool, tf.float32, tf.int32, tf.int64, tf.uint8)
    return None if x.dtype in known else [tf.where(tf.not_equal(x, tf.zeros([], x.dtype)))]


def _product(operation: Any) -> list[tf.Tensor] | None:
    """Of integers: ONNX Runtime's is computed in float64, and does not wrap around as that of two tensors does."""
    x, axes = operation.inputs
    known = tf.get_static_value(axes)
    if known is None or x.shape.rank is None or not x.dtype.is_integer:
        return None
    reduced = sorted({int(axis) % x.shape.rank for axis in np.ravel(known)})
    if not reduced:
        return [tf.identity(x)]
    kept = [axis for axis in range(x.shape.rank) if axis not in reduced]
    shape = tf.shape(x)
    sizes = [tf.constant([1]) if axis in reduced else shape[axis : axis + 1] for axis in range(x.shape.rank)]
    sizes = sizes if operation.get_attr("keep_dims") else [sizes[axis] for axis in kept]
    result_shape = tf.concat(sizes, 0) if sizes else tf.constant([], tf.int32)
    lengths = [x.shape[axis] for axis in reduced]
    length = None if None in lengths else int(np.prod(lengths))
    width = math.prod((shape[axis] for axis in kept), start=tf.constant(1))
    count = math.prod((shape[axis] for axis in reduced), start=tf.constant(1))
    rows = x if [*reduced, *kept] == sorted([*reduced, *kept]) else tf.transpose(x, [*reduced, *kept])
    rows = tf.reshape(rows, tf.stack([count, width]))  # [length, others]
    if length is None or length > _MOST_FACTORS:
        product = _halved_product(rows)
    elif not length:
        product = tf.ones([width], x.dtype)
    else:
        rows.set_shape([length, None])
        product, *factors = tf.unstack(rows)
        for each in factors:
            product *= each
    return [tf.reshape(product, result_shape)]


def _halved_product(rows: tf.Tensor) -> tf.Tensor:
    """rows [length, n] -> [n]: pairs are multiplied until one is left."""
    rows = tf.concat(
        [rows, tf.ones_like(rows[:1]) if rows.shape[0] else tf.ones([1, tf.shape(rows)[1]], rows.dtype)], 0
    )

    def halved(rows: tf.Tensor) -> list[tf.Tensor]:
        odd = tf.shape(rows)[0] % 2
        rows = tf.concat([rows, tf.ones_like(rows[:odd])], 0)
        return [rows[::2] * rows[1::2]]

    shape = [tf.TensorShape([None, rows.shape[1]])]
    return tf.while_loop(lambda rows: tf.shape(rows)[0] > 1, halved, [rows], shape_invariants=shape)[0][0]


INTEGERS = {
    "LeftShift": _shift,
    "RightShift": _shift,
    "Pow": _power,
    "Prod": _product,
    "Maximum": _widened,
    "Minimum": _widened,
    "Where": _places,
}
