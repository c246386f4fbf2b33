"""Sparse tensors (places, values, shape) and ragged rows, with as many entries as there are, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def _counts(ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """How often each of 0..count-1 comes up, int64."""
    ids = tf.cast(ids, tf.int64)
    return tf.tensor_scatter_nd_add(tf.zeros([count], tf.int64), ids[:, None], tf.ones_like(ids))


def _steps(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """How far apart neighbours along each axis are in a dense tensor of this shape, and how many elements it has."""
    steps, total = [], tf.ones([], shape.dtype)
    for n in reversed(range(shape.shape[0])):
        steps.append(total)
        total = total * shape[n]
    return tf.stack(steps[::-1]) if steps else tf.zeros([0], shape.dtype), total


def _fill_empty_rows(operation: Any) -> list[tf.Tensor]:
    """SparseFillEmptyRows: a default in each row without values; the rows are in order."""
    places, values, shape, default = operation.inputs
    count = tf.shape(places, tf.int64)[0]
    is_empty = tf.equal(_counts(places[:, 0], shape[0]), 0)
    rows = tf.where(is_empty)
    columns = tf.zeros(tf.stack([tf.shape(rows, tf.int64)[0], tf.shape(places, tf.int64)[1] - 1]), tf.int64)
    every = tf.concat([places, tf.concat([rows, columns], 1)], 0)
    order = tf.argsort(every[:, 0], stable=True)
    whole = tf.concat([values, tf.fill(tf.shape(rows)[:1], default)], 0)
    back = tf.cast(tf.argsort(order, stable=True), tf.int64)[:count]
    return [tf.gather(every, order), tf.gather(whole, order), is_empty, back]


def _reshaped(operation: Any) -> list[tf.Tensor] | None:
    """SparseReshape; a check demands that the shapes fit each other."""
    places, shape, wanted = operation.inputs
    if shape.shape.num_elements() is None or wanted.shape.num_elements() is None:
        return None
    (own, total), (_, known) = _steps(shape), _steps(tf.where(wanted < 0, tf.ones_like(wanted), wanted))
    made = tf.where(wanted < 0, total // tf.maximum(known, 1), wanted)
    number = tf.reduce_sum(places * own, 1, keepdims=True)
    return [number // tf.maximum(_steps(made)[0], 1) % tf.maximum(made, 1), made]


def _reordered(operation: Any) -> list[tf.Tensor] | None:
    places, values, shape = operation.inputs
    if shape.shape.num_elements() is None:
        return None
    order = tf.argsort(tf.reduce_sum(places * _steps(shape)[0], 1), stable=True)
    return [tf.gather(places, order), tf.gather(values, order)]


def _summed(operation: Any) -> list[tf.Tensor] | None:
    places, values, shape, axes = operation.inputs
    if values.dtype not in (tf.float32, tf.float64, tf.int32, tf.int64):
        return None
    dense = tf.tensor_scatter_nd_add(tf.zeros(shape, values.dtype), places, values)
    return [tf.reduce_sum(dense, axes, operation.get_attr("keep_dims"))]


def _sliced(operation: Any) -> list[tf.Tensor]:
    places, values, shape, start, size = operation.inputs
    # An end beyond int64 is none.
    size = tf.maximum(tf.minimum(size, shape - start), 0)
    inside = tf.reduce_all(tf.logical_and(places >= start, places < start + size), 1)
    kept = tf.where(inside)[:, 0]
    return [tf.gather(places, kept) - start, tf.gather(values, kept), size]


def _multiplied(operation: Any) -> list[tf.Tensor] | None:
    """SparseDenseCwiseMul, Div and Add: the dense tensor's values at the places."""
    places, values, shape, dense = operation.inputs
    there = tf.gather_nd(tf.broadcast_to(dense, shape), places)
    if operation.type.endswith("Div"):
        return [values / there] if values.dtype.is_floating else None
    return [values + there if operation.type.endswith("Add") else values * there]


def _softmax(operation: Any) -> list[tf.Tensor] | None:
    """SparseSoftmax: over the values of each row, which the places but for their last number are."""
    places, values, shape = operation.inputs
    if shape.shape.num_elements() is None:
        return None
    steps, total = _steps(shape[:-1])
    rows = tf.reduce_sum(places[:, :-1] * steps, 1)[:, None]
    most = tf.tensor_scatter_nd_max(tf.fill([total], tf.constant(-np.inf, values.dtype)), rows, values)
    powers = tf.exp(values - tf.gather_nd(most, rows))
    sums = tf.tensor_scatter_nd_add(tf.zeros([total], values.dtype), rows, powers)
    return [powers / tf.gather_nd(sums, rows)]


def _rows_of(splits: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The row of each of `count` values, from the ends of rows."""
    ends = splits[1:]
    passed = tf.tensor_scatter_nd_add(tf.zeros([count + 1], tf.int64), ends[:, None], tf.ones_like(ends))
    return tf.cumsum(passed)[:count]


def _levels(splits: Sequence[tf.Tensor], count: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Of ragged values: the place of each along the ragged axes, and the lengths of these axes."""
    sizes = [tf.size(splits[0], tf.int64) - 1]
    places: list[tf.Tensor] = []
    for n, each in enumerate(splits):
        inner = tf.size(splits[n + 1], tf.int64) - 1 if n + 1 < len(splits) else count
        rows = _rows_of(each, inner)
        places = [tf.gather(place, rows) for place in places] if places else [rows]
        places.append(tf.range(inner, dtype=tf.int64) - tf.gather(each, rows))
        sizes.append(tf.reduce_max(tf.concat([each[1:] - each[:-1], tf.zeros([1], tf.int64)], 0)))
    return places, sizes


def _to_sparse(operation: Any) -> list[tf.Tensor] | None:
    *splits, values = operation.inputs
    if values.shape.rank != 1:
        return None
    whole = [tf.cast(each, tf.int64) for each in splits]
    places, sizes = _levels(whole, tf.size(values, tf.int64))
    return [tf.stack(places, 1), tf.identity(values), tf.stack(sizes)]


def _to_tensor(operation: Any) -> list[tf.Tensor] | None:
    """RaggedTensorToTensor: rows of one length; what is beyond a demanded length is left out."""
    shape, values, default, *partitions = operation.inputs
    kinds = [kind.decode() for kind in operation.get_attr("row_partition_types")]
    rank = values.shape.rank
    if rank is None or shape.shape.rank is None:
        return None
    partitions = [tf.cast(each, tf.int64) for each in partitions]
    count = tf.shape(values, tf.int64)[0]
    if all(kind == "ROW_SPLITS" for kind in kinds):
        places, sizes = _levels(partitions, count)
    elif kinds[0] == "FIRST_DIM_SIZE" and all(kind == "VALUE_ROWIDS" for kind in kinds[1:]):
        places, sizes = _levels_of_rows(partitions[0], partitions[1:])
    else:
        return None
    full = tf.concat([tf.stack(sizes), tf.shape(values, tf.int64)[1:]], 0)
    at = tf.stack(places, 1)
    if shape.shape.rank:
        wanted = tf.cast(shape, tf.int64)
        full = tf.where(wanted < 0, full, wanted)
        inside = tf.where(tf.reduce_all(at < full[: len(sizes)], 1))[:, 0]
        at, values = tf.gather(at, inside), tf.gather(values, inside)
    return [tf.tensor_scatter_nd_update(tf.broadcast_to(default, full), at, values)]


def _levels_of_rows(count: tf.Tensor, rows: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The same from the row of each value, level by level."""
    sizes, places = [tf.reshape(count, [])], list[tf.Tensor]()
    count = sizes[0]
    for each in rows:
        lengths = _counts(each, count)
        starts = tf.cumsum(lengths, exclusive=True)
        number = tf.range(tf.size(each, tf.int64), dtype=tf.int64)
        places = [tf.gather(place, each) for place in places] if places else [each]
        places.append(number - tf.gather(starts, each))
        sizes.append(tf.reduce_max(tf.concat([lengths, tf.zeros([1], tf.int64)], 0)))
        count = tf.size(each, tf.int64)
    return places, sizes


SPARSE = {
    "SparseFillEmptyRows": _fill_empty_rows,
    "SparseReshape": _reshaped,
    "SparseReorder": _reordered,
    "SparseSoftmax": _softmax,
    "SparseReduceSum": _summed,
    "SparseSlice": _sliced,
    "SparseDenseCwiseMul": _multiplied,
    "SparseDenseCwiseDiv": _multiplied,
    "SparseDenseCwiseAdd": _multiplied,
    "RaggedTensorToSparse": _to_sparse,
    "RaggedTensorToTensor": _to_tensor,
}
