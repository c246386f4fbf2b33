"""Positions in sorted values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.training.onnx.decompositions.lengths import as_long_as

_COMPARED = 64
"""Up to so many values, all are compared at once; among more, halves are left out in turn."""
_MOST_HALVINGS = 31


def _bound(operation: Any, is_upper: bool) -> list[tf.Tensor]:
    """UpperBound, LowerBound: sorted_inputs [b, n], values [b, m] -> [b, m]."""
    rows, values = operation.inputs
    values = as_long_as(values, [0], rows, [0])
    dtype = operation.get_attr("out_type")
    known = tf.get_static_value(rows)
    if known is not None and known.shape[1] <= _COMPARED and (np.diff(known, axis=1) >= 0).all():
        return [tf.cast(_counted(rows[:, None, :], values, is_upper), dtype)]
    return [tf.cast(_halved(rows, values, is_upper), dtype)]


def _counted(rows: tf.Tensor, values: tf.Tensor, is_upper: bool) -> tf.Tensor:
    """Of sorted rows. NaN is smaller than nothing, so it comes first or last, as in a search."""
    values = values[..., None]
    if is_upper:
        return tf.shape(rows)[-1] - tf.reduce_sum(tf.cast(values < rows, tf.int32), -1)
    return tf.reduce_sum(tf.cast(rows < values, tf.int32), -1)


def _halved(rows: tf.Tensor, values: tf.Tensor, is_upper: bool) -> tf.Tensor:
    """The search of C++'s std::upper_bound and std::lower_bound, step by step: rows need not be sorted."""
    size = rows.shape[1]
    halvings = _MOST_HALVINGS if size is None else int(math.log2(max(1, size))) + 1
    first = tf.zeros_like(values, tf.int32)
    length = first + tf.shape(rows)[1]
    last = tf.shape(rows)[1] - 1
    for _ in range(halvings):
        half = length // 2
        middle = first + half
        found = tf.gather(rows, tf.minimum(middle, last), batch_dims=1)
        goes_right = found <= values if is_upper else found < values
        if is_upper and values.dtype.is_floating:  # nothing is larger than NaN
            goes_right = tf.logical_or(goes_right, tf.math.is_nan(values))
        goes_right = tf.logical_and(goes_right, length > 0)
        first = tf.where(goes_right, middle + 1, first)
        length = tf.where(goes_right, length - half - 1, half)
    return first


def _bucketize(operation: Any) -> list[tf.Tensor]:
    [values], boundaries = operation.inputs, np.array(operation.get_attr("boundaries"), np.float32)
    if not len(boundaries):
        return [tf.zeros_like(values, tf.int32)]
    if values.dtype != tf.float64:
        values = tf.cast(values, tf.float32)  # C++ compares an integer with a float as floats
    rows = tf.constant(boundaries.astype(values.dtype.as_numpy_dtype))
    if len(boundaries) <= _COMPARED:
        return [_counted(rows, values, is_upper=True)]
    flat = tf.reshape(values, [1, -1])
    return [tf.reshape(_halved(rows[None], flat, is_upper=True), tf.shape(values))]


def _difference(operation: Any) -> list[tf.Tensor]:
    """ListDiff: the elements of x that are not in y, in their order, and their positions."""
    x, y = operation.inputs
    index = operation.get_attr("out_idx")
    found = tf.reduce_sum(tf.cast(tf.equal(x[:, None], y[None]), tf.int32), 1)
    places = tf.where(tf.equal(found, 0))[:, 0]
    return [tf.gather(x, places), tf.cast(places, index)]


def _suppressed(operation: Any) -> None:
    """NonMaxSuppressionV5 stays where it keeps the scores as they are; ONNX's never lowers them."""
    sigma = tf.get_static_value(operation.inputs[5])
    if sigma is None or sigma > 0:
        raise ValueError(
            "NonMaxSuppressionV5 lowers the scores of boxes that overlap (soft_nms_sigma), which ONNX's does not; "
            "rebuild with soft_nms_sigma=0"
        )


SEARCHING = {
    "NonMaxSuppressionV5": _suppressed,
    "UpperBound": lambda operation: _bound(operation, is_upper=True),
    "LowerBound": lambda operation: _bound(operation, is_upper=False),
    "Bucketize": _bucketize,
    "ListDiff": _difference,
}
