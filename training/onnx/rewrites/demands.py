"""What TensorFlow's kernels demand of their inputs, where ONNX Runtime answers otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ladle.training.onnx.effects import data_of


@dataclass(frozen=True)
class Check:
    """A condition that TensorFlow demands.

    reads    tensors of the flat graph
    holds    gets these tensors; a boolean
    message  what TensorFlow says if it does not hold
    """

    reads: tuple[str, ...]
    holds: Callable[..., tf.Tensor]
    message: str


def is_finite(x: tf.Tensor) -> tf.Tensor:
    """Whether no element is infinite or NaN."""
    return tf.reduce_all(tf.math.is_finite(x))


def _counted(node: Any) -> Check:
    """Bincount and DenseBincount: no negative value."""
    values = data_of(node)[0]
    return Check((values,), lambda x: tf.reduce_all(x >= 0), "Input arr must be non-negative!")


def _partitioned(node: Any) -> Check:
    """DynamicPartition: parts that there are."""
    count = node.attr["num_partitions"].i
    message = f"partitions are not all in [0, {count})"
    return Check((data_of(node)[1],), lambda x: tf.reduce_all(tf.logical_and(x >= 0, x < count)), message)


def _scattered(places: int, shape_of: int, is_shape: bool) -> Callable[[Any], Check]:
    """ScatterNd and the like: places inside a tensor, which input `shape_of` is, or whose shape it is."""

    def check(node: Any) -> Check:
        inputs = data_of(node)

        def holds(at: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
            shape = other if is_shape else tf.shape(other, at.dtype)
            sizes = tf.cast(shape, at.dtype)[: tf.shape(at)[-1]]
            return tf.reduce_all(tf.logical_and(at >= 0, at < sizes))

        return Check((inputs[places], inputs[shape_of]), holds, "indices do not index into the shape of the output")

    return check


def _cropped(node: Any) -> Check:
    """CropAndResize: boxes of images that there are, and the number of an image for each box."""
    images, boxes, places = data_of(node)[:3]

    def holds(images: tf.Tensor, boxes: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        are_there = tf.reduce_all(tf.logical_and(places >= 0, places < tf.shape(images)[0]))
        return tf.logical_and(are_there, tf.equal(tf.shape(boxes)[0], tf.size(places)))

    message = "box_index has values outside [0, batch_size), or not one for each box"
    return Check((images, boxes, places), holds, message)


def _labelled(node: Any) -> Check:
    """SparseSoftmaxCrossEntropyWithLogits: labels of classes that there are."""

    def holds(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        classes = tf.cast(tf.shape(scores)[1], labels.dtype)
        return tf.reduce_all(tf.logical_and(labels >= 0, labels < classes))

    return Check(tuple(data_of(node)[:2]), holds, "a label is outside of the range of the classes")


def _segmented(node: Any) -> Check:
    """SegmentMax and the like: an id for each row, in order."""

    def holds(data: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        in_order = tf.reduce_all(tf.concat([ids[:1] >= 0, ids[1:] >= ids[:-1]], 0))
        return tf.logical_and(in_order, tf.equal(tf.shape(data)[0], tf.size(ids)))

    return Check(tuple(data_of(node)[:2]), holds, "segment ids are not increasing, or not one for each row")


def _drawn(node: Any) -> Check:
    """Random numbers of a shape that can be."""
    return Check((data_of(node)[0],), lambda shape: tf.reduce_all(shape >= 0), "the shape has a negative dimension")


def _finite(message: str) -> Callable[[Any], Check]:
    """An operation on matrices whose result is not finite where TensorFlow refuses the matrix."""
    return lambda node: Check((node.name,), is_finite, message)


def _sorted_segments(node: Any) -> Check:
    """SegmentSum, SparseSegmentSum and the like: sorted ids from 0 on, less than the number of segments."""
    inputs = data_of(node)
    is_sparse, has_number = node.op.startswith("Sparse"), node.op.endswith("WithNumSegments")

    def holds(ids: tf.Tensor, *number: tf.Tensor) -> tf.Tensor:
        increases = tf.reduce_all(ids[1:] >= ids[:-1])
        inside = [tf.reduce_all(ids < tf.cast(most, ids.dtype)) for most in number]
        return tf.reduce_all(tf.stack([increases, tf.reduce_all(ids >= 0), *inside]))

    reads = (inputs[2 if is_sparse else 1], *(inputs[3:4] if has_number else ()))
    return Check(reads, holds, "segment ids are not increasing")


def _exponents(node: Any) -> Check | None:
    """Pow of integers: no negative exponent."""
    if not tf.as_dtype(node.attr["T"].type).is_integer:
        return None
    message = "Integers to negative integer powers are not allowed"
    return Check((data_of(node)[1],), lambda y: tf.reduce_all(y >= 0), message)


def _broadcast(node: Any) -> Check:
    """BroadcastTo: axes of length 1 alone become longer. ONNX lengthens the shape that is demanded, too."""
    x, shape = data_of(node)

    def holds(x: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        own = tf.shape(x, shape.dtype)
        missing = tf.maximum(tf.size(shape) - tf.size(own), 0)
        own = tf.concat([tf.ones([missing], shape.dtype), own], 0)
        demanded = tf.concat([shape, own[tf.size(shape) :]], 0)  # too few axes fit no longer axis
        return tf.reduce_all(tf.logical_or(tf.equal(own, demanded), tf.equal(own, 1)))

    return Check((x, shape), holds, "Incompatible shapes for broadcast_to")


def _placed(node: Any) -> Check:
    """SparseToDense: places inside of the tensor, and, if they are validated, in order and each once."""
    at, shape = data_of(node)[:2]
    is_ordered = node.attr["validate_indices"].b if "validate_indices" in node.attr else True

    def holds(at: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        at = tf.reshape(at, [-1, tf.size(shape)]) if at.shape.rank in (0, 1) else at
        inside = tf.reduce_all(tf.logical_and(at >= 0, at < shape))
        if not is_ordered:
            return inside
        steps = tf.math.cumprod(tf.cast(shape, tf.int64), exclusive=True, reverse=True)
        place = tf.reduce_sum(tf.cast(at, tf.int64) * steps, 1)
        return tf.logical_and(inside, tf.reduce_all(place[1:] > place[:-1]))

    return Check((at, shape), holds, "indices are out of bounds, out of order or repeated")


def _multiplied(node: Any) -> Check:
    """SparseTensorDenseMatMul: places inside of the sparse matrix. ONNX counts negative ones from the end."""
    at, values, shape = data_of(node)[:3]

    def holds(at: tf.Tensor, values: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        inside = tf.reduce_all(tf.logical_and(at >= 0, tf.cast(at, shape.dtype) < shape))
        return tf.logical_and(inside, tf.equal(tf.shape(at)[0], tf.size(values)))

    return Check((at, values, shape), holds, "indices do not index into the shape of the sparse matrix")


def _reordered(node: Any) -> Check:
    """SparseReorder: a value at each place."""

    def holds(at: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        return tf.equal(tf.shape(at)[0], tf.size(values))

    return Check(tuple(data_of(node)[:2]), holds, "Number of elements in indices and values do not match")


def _within_time(node: Any) -> Check:
    """CTCGreedyDecoder: a length for each row, none greater than the number of steps."""

    def holds(logits: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        steps, rows = tf.shape(logits)[0], tf.shape(logits)[1]
        return tf.logical_and(tf.reduce_all(lengths <= steps), tf.equal(tf.size(lengths), rows))

    return Check(tuple(data_of(node)[:2]), holds, "sequence_length must not be greater than the number of steps")


def _filled(node: Any) -> Check:
    """SparseFillEmptyRows: rows that there are."""
    at, _, shape = data_of(node)[:3]

    def holds(at: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.logical_and(at[:, 0] >= 0, at[:, 0] < shape[0]))

    return Check((at, shape), holds, "indices of rows are not in the sparse tensor")


def _reshaped(node: Any) -> Check:
    """SparseReshape: as many elements as before, and at most one length to be found."""
    _, shape, wanted = data_of(node)

    def holds(shape: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        total, known = tf.reduce_prod(shape), tf.reduce_prod(tf.where(wanted < 0, tf.ones_like(wanted), wanted))
        free = tf.reduce_sum(tf.cast(tf.equal(wanted, -1), tf.int32))
        fits = tf.logical_and(known > 0, tf.equal(total % tf.maximum(known, 1), 0))
        is_right = tf.where(free > 0, fits, tf.equal(total, known))
        return tf.logical_and(tf.logical_and(is_right, free <= 1), tf.reduce_all(wanted >= -1))

    return Check((shape, wanted), holds, "the sparse tensor cannot be reshaped to the requested shape")


_SPARSE_SEGMENTS = ("Sum", "Mean", "SqrtN", "SumWithNumSegments", "MeanWithNumSegments", "SqrtNWithNumSegments")

REFUSING: dict[str, Callable[[Any], Check | None]] = {
    "Bincount": _counted,
    "DenseBincount": _counted,
    "DynamicPartition": _partitioned,
    "CropAndResize": _cropped,
    "SparseSoftmaxCrossEntropyWithLogits": _labelled,
    **{f"Segment{kind}": _segmented for kind in ("Sum", "Mean", "Max", "Min", "Prod")},
    **{
        f"StatelessRandom{kind}{version}": _drawn
        for kind in ("Uniform", "Normal", "UniformInt", "UniformFullInt")
        for version in ("", "V2")
    },
    "BroadcastTo": _broadcast,
    "Pow": _exponents,
    "SparseTensorDenseMatMul": _multiplied,
    "SparseReorder": _reordered,
    "CTCGreedyDecoder": _within_time,
    "SparseToDense": _placed,
    "SparseFillEmptyRows": _filled,
    "SparseReshape": _reshaped,
    **{f"SparseSegment{kind}": _sorted_segments for kind in _SPARSE_SEGMENTS},
    "ScatterNd": _scattered(0, 2, is_shape=True),
    **{f"TensorScatter{kind}": _scattered(1, 0, is_shape=False) for kind in ("Update", "Add", "Sub", "Max", "Min")},
    "MatrixInverse": _finite("Input is not invertible."),
    "MatrixSolve": _finite("Input matrix is not invertible."),
    "MatrixTriangularSolve": _finite("Input matrix is not invertible."),
    "Cholesky": _finite("Cholesky decomposition was not successful. The input might not be valid."),
    "SelfAdjointEigV2": _finite("Self-adjoint eigen decomposition was not successful. The input might not be valid."),
}
"""TensorFlow operation -> what its kernel demands of its inputs, where ONNX Runtime answers otherwise."""
