"""Values that are summed by segment, and sparse tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def _unsorted(operation: Any) -> list[tf.Tensor] | None:
    data, ids, count = operation.inputs
    if ids.shape.rank is None or data.shape.rank is None:
        return None
    return [_by_segment(operation.type.removeprefix("UnsortedSegment"), data, ids, count)]


def _by_segment(kind: str, data: tf.Tensor, ids: tf.Tensor, count: tf.Tensor, start: float | None = None) -> tf.Tensor:
    """Negative ids do not count; ids beyond `count` are refused. `start` is in place of the least or largest number."""
    inner = tf.shape(data)[ids.shape.rank :]
    ids, count = tf.reshape(tf.cast(ids, tf.int32), [-1]), tf.cast(count, tf.int32)
    data = tf.reshape(data, tf.concat([tf.shape(ids), inner], 0))
    # Negative ids go to a row of their own, behind the others, and ids beyond the others go beyond that one.
    ids = tf.where(ids < 0, count, tf.where(ids >= count, tf.maximum(ids, ids + 1), ids))
    if kind == "Prod":  # TensorFlow has no scatter that multiplies
        return tf.math.unsorted_segment_prod(data, ids, count + 1)[:-1]
    if start is None:
        start = {"Sum": 0, "Max": data.dtype.min, "Min": data.dtype.max}[kind]
    made = tf.fill(tf.concat([[count + 1], inner], 0), tf.constant(start, data.dtype))
    scatter = {"Sum": tf.tensor_scatter_nd_add, "Max": tf.tensor_scatter_nd_max, "Min": tf.tensor_scatter_nd_min}[kind]
    return scatter(made, ids[:, None], data)[:-1]


def _sorted(operation: Any) -> list[tf.Tensor] | None:
    """SegmentSum and the like; a check demands that the ids are sorted and not negative. Empty segments are 0, or 1."""
    data, ids = operation.inputs
    if data.shape.rank is None:
        return None
    kind = operation.type.removeprefix("Segment")
    if kind == "Mean" and not data.dtype.is_floating:
        return None
    ids = tf.cast(ids, tf.int32)
    count = tf.reduce_max(tf.concat([ids, [-1]], 0)) + 1
    if kind in ("Sum", "Mean"):
        return [_averaged(kind, data, ids, count)]
    ends = {"Max": -np.inf, "Min": np.inf} if data.dtype.is_floating else {}
    made = _by_segment(kind, data, ids, count, ends.get(kind))
    if kind == "Prod":
        return [made]
    counts = _by_segment("Sum", tf.ones_like(ids), ids, count)
    counts = tf.reshape(counts, tf.concat([[-1], tf.ones_like(tf.shape(data)[1:])], 0))
    return [tf.where(counts > 0, made, tf.zeros_like(made))]


def _sorted_mean_or_sum(operation: Any) -> list[tf.Tensor] | None:
    """SparseSegmentSum, SparseSegmentMean, SparseSegmentSqrtN: rows of a table, by segment."""
    data, positions, ids = operation.inputs[:3]
    count = operation.inputs[3] if len(operation.inputs) > 3 else tf.reduce_max(tf.concat([ids, [-1]], 0)) + 1
    kind = operation.type.removeprefix("SparseSegment").removesuffix("WithNumSegments")
    return [_averaged(kind, tf.gather(data, positions), ids, count)]


def _averaged(kind: str, data: tf.Tensor, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    summed = _by_segment("Sum", data, ids, count)
    if kind == "Sum":
        return summed
    counts = tf.maximum(_by_segment("Sum", tf.ones_like(ids, data.dtype), ids, count), 1)
    counts = tf.sqrt(counts) if kind == "SqrtN" else counts
    counts = tf.reshape(counts, tf.concat([[-1], tf.ones_like(tf.shape(data)[1:])], 0))
    return summed / counts if data.dtype.is_floating else tf.truncatediv(summed, counts)


def _sparse_product(operation: Any) -> list[tf.Tensor] | None:
    at, values, shape, dense = operation.inputs
    if operation.get_attr("adjoint_a") or operation.get_attr("adjoint_b"):
        return None
    rows = tf.gather(dense, at[:, 1]) * values[:, None]
    return [_by_segment("Sum", rows, at[:, 0], shape[0])]


def _histogram(operation: Any) -> list[tf.Tensor]:
    values, limits, count = operation.inputs
    low, high = tf.cast(limits[0], tf.float64), tf.cast(limits[1], tf.float64)
    step = (high - low) / tf.cast(count, tf.float64)
    place = (tf.maximum(tf.cast(values, tf.float64), low) - low) / step
    place = tf.cast(tf.minimum(place, tf.cast(count - 1, tf.float64)), tf.int32)
    is_bin = tf.equal(tf.reshape(place, [-1, 1]), tf.range(count))
    return [tf.reduce_sum(tf.cast(is_bin, operation.get_attr("dtype")), 0)]


def _scatter(operation: Any) -> list[tf.Tensor] | None:
    """ScatterNd adds values that come to one place; ONNX keeps one of them."""
    at, values, shape = operation.inputs
    if values.dtype not in (tf.float32, tf.float64, tf.int32, tf.int64):
        return None
    return [tf.tensor_scatter_nd_add(tf.zeros(shape, values.dtype), at, values)]


SEGMENTS = {
    "ScatterNd": _scatter,
    "UnsortedSegmentSum": _unsorted,
    "UnsortedSegmentMax": _unsorted,
    "UnsortedSegmentMin": _unsorted,
    "UnsortedSegmentProd": _unsorted,
    **{f"Segment{kind}": _sorted for kind in ("Sum", "Mean", "Prod", "Max", "Min")},
    "SparseSegmentSum": _sorted_mean_or_sum,
    "SparseSegmentMean": _sorted_mean_or_sum,
    "SparseSegmentSqrtN": _sorted_mean_or_sum,
    "SparseTensorDenseMatMul": _sparse_product,
    "HistogramFixedWidth": _histogram,
}
