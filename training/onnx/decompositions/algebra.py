"""Matrices, norms, counts and shapes."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.training.onnx.decompositions.lengths import as_long_as, as_terms_say

_MOST_COLUMNS = 24
"""Larger matrices would need thousands of operations: their columns are computed one by one."""


def _solved(operation: Any) -> list[tf.Tensor]:
    """MatrixSolve by the inverse; a check demands that there is one."""
    matrix, right = operation.inputs
    if matrix.shape.rank is not None and matrix.shape.rank == right.shape.rank:
        axes = range(matrix.shape.rank - 2)
        right = as_long_as(right, axes, matrix, axes)
    return [tf.matmul(tf.linalg.inv(matrix, adjoint=operation.get_attr("adjoint")), right)]


def _cholesky(operation: Any) -> list[tf.Tensor] | None:
    """Column by column; a check demands that the result is finite."""
    [matrix] = operation.inputs
    size = matrix.shape[-1]
    if size is None or not 0 < size <= _MOST_COLUMNS or matrix.dtype not in (tf.float32, tf.float64):
        return None
    columns: list[tf.Tensor] = []
    for n in range(size):
        column = matrix[..., n:, n]
        for each in columns:
            column -= each[..., n:] * each[..., n : n + 1]
        column /= tf.sqrt(column[..., :1])
        columns.append(tf.concat([tf.zeros_like(matrix[..., :n, n]), column], -1))
    return [tf.stack(columns, -1)]


def _triangular(operation: Any) -> list[tf.Tensor] | None:
    """MatrixTriangularSolve, row by row."""
    matrix, right = operation.inputs
    size = matrix.shape[-1]
    if size is None or not 0 < size <= _MOST_COLUMNS or matrix.dtype not in (tf.float32, tf.float64):
        return None
    if right.shape.rank is None:
        return None
    right = as_long_as(right, [right.shape.rank - 2], matrix, [matrix.shape.rank - 2])
    lower = operation.get_attr("lower")
    if operation.get_attr("adjoint"):
        matrix, lower = tf.linalg.matrix_transpose(matrix), not lower
    found: dict[int, tf.Tensor] = {}
    for n in range(size) if lower else reversed(range(size)):
        rest = right[..., n : n + 1, :]
        for k, each in found.items():
            rest -= matrix[..., n : n + 1, k : k + 1] * each
        found[n] = rest / matrix[..., n : n + 1, n : n + 1]
    return [tf.concat([found[n] for n in range(size)], -2)]


def _log_determinant(operation: Any) -> list[tf.Tensor]:
    determinant = tf.linalg.det(operation.inputs[0])
    return [tf.sign(determinant), tf.math.log(tf.abs(determinant))]


def _diagonal(operation: Any) -> list[tf.Tensor] | None:
    [x] = operation.inputs
    if operation.type == "Diag":
        return [_on_diagonal(x, tf.zeros([], x.dtype))] if x.shape.rank == 1 else None
    return [tf.linalg.diag_part(x)] if x.shape.rank == 2 else None


def _diagonal_matrices(operation: Any) -> list[tf.Tensor] | None:
    """MatrixDiag and its versions, of a main diagonal in square matrices."""
    diagonal = operation.inputs[0]
    options = [tf.get_static_value(x) for x in operation.inputs[1:4]]
    if len(operation.inputs) > 1 and (options[0] is None or np.any(options[0]) or [*map(int, options[1:])] != [-1, -1]):
        return None
    padding = tf.zeros([], diagonal.dtype) if len(operation.inputs) == 1 else operation.inputs[4]
    return [_on_diagonal(diagonal, tf.cast(padding, diagonal.dtype))]


def _on_diagonal(diagonal: tf.Tensor, padding: tf.Tensor) -> tf.Tensor:
    place = tf.range(tf.shape(diagonal)[-1])
    is_main = tf.equal(place[:, None], place)
    return tf.where(is_main, diagonal[..., None], padding)


def _evenly_spaced(operation: Any) -> list[tf.Tensor]:
    start, stop, count = operation.inputs
    number = tf.cast(count, start.dtype)
    step = (stop - start) / tf.maximum(number - 1, 1)
    values = start + step * tf.cast(tf.range(count), start.dtype)
    is_last = tf.logical_and(tf.equal(tf.range(count), count - 1), count > 1)
    return [tf.where(is_last, stop, values)]


def _band(operation: Any) -> list[tf.Tensor] | None:
    """MatrixBandPart: what is outside of the band is 0, whatever it was; tf2onnx multiplies it by 0."""
    matrix, lower, upper = operation.inputs
    rows, columns = (tf.range(tf.shape(matrix, lower.dtype)[axis]) for axis in (-2, -1))
    below = rows[:, None] - columns
    inside = tf.logical_and(
        tf.logical_or(lower < 0, below <= lower), tf.logical_or(upper < 0, -below <= tf.cast(upper, below.dtype))
    )
    return [tf.where(inside, matrix, tf.zeros([], matrix.dtype))]


def _norm(operation: Any) -> list[tf.Tensor]:
    x, axes = operation.inputs
    return [tf.sqrt(tf.reduce_sum(x * x, axes, operation.get_attr("keep_dims")))]


def _in_top(operation: Any) -> list[tf.Tensor]:
    """Whether fewer than k classes score more than the target; never with values that are not finite."""
    scores, targets = operation.inputs[:2]
    k = operation.inputs[2] if len(operation.inputs) > 2 else operation.get_attr("k")
    targets = as_long_as(targets, [0], scores, [0])
    count = tf.cast(tf.shape(scores)[1], targets.dtype)
    is_there = tf.logical_and(targets >= 0, targets < count)
    own = tf.gather(scores, tf.where(is_there, targets, tf.zeros_like(targets)), batch_dims=1)[:, None]
    more = tf.reduce_sum(tf.cast(scores > own, tf.int32), 1)
    is_finite = tf.reduce_all(tf.logical_or(tf.math.is_finite(scores), tf.logical_not(scores > own)), 1)
    is_finite = tf.logical_and(is_finite, tf.math.is_finite(own[:, 0]))
    return [is_there & is_finite & (more < tf.cast(k, tf.int32))]


def _nth(operation: Any) -> list[tf.Tensor]:
    values, n = operation.inputs
    direction = "DESCENDING" if operation.get_attr("reverse") else "ASCENDING"
    return [tf.gather(tf.sort(values, -1, direction), n, axis=-1)]


def _rank(operation: Any) -> list[tf.Tensor]:
    [x] = operation.inputs
    return [tf.size(tf.shape(x)) if x.shape.rank is None else tf.constant(x.shape.rank)]


def _stitched(operation: Any) -> list[tf.Tensor] | None:
    """DynamicStitch: rows at their places; of two at one place, the later."""
    count = operation.get_attr("N")
    places, parts = list(operation.inputs[:count]), list(operation.inputs[count:])
    if any(place.shape.rank is None for place in places):
        return None
    inner = tf.shape(parts[0])[places[0].shape.rank :]
    places = [tf.reshape(place, [-1]) for place in places]
    size = tf.reduce_max(tf.concat([*places, [-1]], 0)) + 1
    made = tf.zeros(tf.concat([[size], inner], 0), parts[0].dtype)
    for place, part in zip(places, parts, strict=True):
        rows = tf.reshape(part, tf.concat([tf.shape(place), inner], 0))
        made = tf.tensor_scatter_nd_update(made, place[:, None], rows)
    return [made]


def _put_back(operation: Any) -> list[tf.Tensor]:
    """StridedSliceGrad: values at the places from which a slice would take them, 0 elsewhere."""
    shape, *limits, values = operation.inputs
    masks = {f"{name}_mask": operation.get_attr(f"{name}_mask") for name in _MASKS}
    count = tf.size(tf.zeros(shape, tf.int8))
    number = tf.reshape(tf.range(count), shape)
    begin, end, strides = limits
    places = tf.raw_ops.StridedSlice(input=number, begin=begin, end=end, strides=strides, **masks)
    flat = tf.tensor_scatter_nd_update(
        tf.zeros([count], values.dtype), tf.reshape(places, [-1, 1]), tf.reshape(values, [-1])
    )
    return [tf.reshape(flat, shape)]


def _broadcast_shape(operation: Any) -> list[tf.Tensor] | None:
    """BroadcastArgs: the shape of two tensors of these shapes together; those of length 1 become longer."""
    shapes = list(operation.inputs)
    ranks = [shape.shape.num_elements() for shape in shapes]
    if None in ranks:
        return None
    ones = [tf.ones([max(ranks) - rank], shape.dtype) for shape, rank in zip(shapes, ranks, strict=True)]
    first, second = (tf.concat([one, shape], 0) for one, shape in zip(ones, shapes, strict=True))
    return [tf.where(tf.equal(first, 1), second, first)]


def _einsum(operation: Any) -> list[tf.Tensor] | None:
    """Letters for an ellipsis that stands for no axis of some operand, which ONNX Runtime does not take.

    Axes of one letter are of one length.
    """
    inputs, equation = list(operation.inputs), operation.get_attr("equation").decode()
    given, _, result = equation.partition("->")
    terms = given.split(",")
    if any(x.shape.rank is None for x in inputs):
        return None
    counts = [
        x.shape.rank - len(term.replace("...", "")) if "..." in term else 0
        for x, term in zip(inputs, terms, strict=True)
    ]
    if "..." in given and not set(counts) - {0, max(counts)} and 0 in counts:
        letters = "".join([letter for letter in string.ascii_letters if letter not in equation][: max(counts)])
        terms = [term.replace("...", letters if count else "") for term, count in zip(terms, counts, strict=True)]
        result = result.replace("...", letters)
    made = inputs if any("..." in term for term in terms) else as_terms_say(inputs, terms)
    if terms == given.split(",") and all(x is y for x, y in zip(made, inputs, strict=True)):
        return None
    return [tf.raw_ops.Einsum(inputs=made, equation=f"{','.join(terms)}->{result}")]


_MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")

ALGEBRA = {
    "BroadcastArgs": _broadcast_shape,
    "Einsum": _einsum,
    "DynamicStitch": _stitched,
    "ParallelDynamicStitch": _stitched,
    "StridedSliceGrad": _put_back,
    "Rank": _rank,
    "MatrixSolve": _solved,
    "Cholesky": _cholesky,
    "MatrixTriangularSolve": _triangular,
    "LogMatrixDeterminant": _log_determinant,
    "MatrixDiag": _diagonal_matrices,
    "MatrixDiagV2": _diagonal_matrices,
    "MatrixDiagV3": _diagonal_matrices,
    "Diag": _diagonal,
    "DiagPart": _diagonal,
    "LinSpace": _evenly_spaced,
    "MatrixBandPart": _band,
    "EuclideanNorm": _norm,
    "L2Loss": lambda operation: [tf.reduce_sum(operation.inputs[0] * operation.inputs[0]) / 2],
    "AccumulateNV2": lambda operation: [tf.add_n(list(operation.inputs))],
    "Inv": lambda operation: [1 / operation.inputs[0]],
    "ApproximateEqual": lambda operation: [
        tf.abs(operation.inputs[0] - operation.inputs[1]) < operation.get_attr("tolerance")
    ],
    "InTopK": _in_top,
    "InTopKV2": _in_top,
    "NthElement": _nth,
    "ShapeN": lambda operation: [tf.shape(x, operation.get_attr("out_type")) for x in operation.inputs],
    "TopK": lambda operation: list(tf.math.top_k(operation.inputs[0], operation.get_attr("k"))),
}
