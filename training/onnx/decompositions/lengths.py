"""Axes that must be of one length: TensorFlow refuses 1 beside 5, and ONNX Runtime repeats the one.

A reshape to the length that is demanded refuses, too. It is added only where the lengths come from different inputs, or
one from an input and the other from a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def as_long_as(x: tf.Tensor, axes: Sequence[int], like: tf.Tensor, others: Sequence[int]) -> tf.Tensor:
    """`x`, which is refused if one of its axes is not as long as that of `like`."""
    may_differ = _may_differ(x, like)
    pairs = [
        (axis, other)
        for axis, other in zip(axes, others, strict=True)
        if (x.shape[axis], like.shape[other]).count(None) == 1 or (x.shape[axis] is None and may_differ)
    ]
    if not pairs or x.graph.building_function:
        return x
    own, wanted, demanded = tf.shape(x), tf.shape(like), dict(pairs)
    sizes = [wanted[demanded[axis]] if axis in demanded else own[axis] for axis in range(x.shape.rank)]
    # TensorFlow's optimizer replaces a single size that it does not know by -1, which fits always: abs hides the sizes,
    # and a vector gets a second one.
    if x.shape.rank == 1:
        return tf.reshape(x, tf.abs(tf.stack([*sizes, 1])))[:, 0]
    return tf.reshape(x, tf.abs(tf.stack(sizes)))


def as_terms_say(inputs: Sequence[tf.Tensor], terms: Sequence[str]) -> list[tf.Tensor]:
    """The operands of an einsum: axes of one letter are of one length. `terms` without an ellipsis."""
    made: list[tf.Tensor] = []
    for x, term in zip(inputs, terms, strict=True):
        for other, letters in zip(made, terms, strict=False):
            shared = [letter for letter in letters if letter in term]
            x = as_long_as(
                x, [term.index(letter) for letter in shared], other, [letters.index(letter) for letter in shared]
            )
        made.append(x)
    return made


def _may_differ(x: tf.Tensor, y: tf.Tensor) -> bool:
    """Whether the two depend on different inputs with free axes."""
    free = [op for op in x.graph.get_operations() if op.type == "Placeholder" and _is_free(op.outputs[0])]
    if len(free) < 2:
        return False
    return _sources(x) != _sources(y)


def _is_free(tensor: tf.Tensor) -> bool:
    return tensor.shape.rank is None or None in tensor.shape.as_list()


def _sources(tensor: tf.Tensor) -> set[str]:
    """The names of the inputs that a tensor depends on."""
    waiting, seen, found = [tensor.op], {tensor.op.name}, set()
    while waiting:
        operation = waiting.pop()
        if operation.type == "Placeholder" and _is_free(operation.outputs[0]):
            found.add(operation.name)
        for source in operation.inputs:
            if source.op.name not in seen:
                seen.add(source.op.name)
                waiting.append(source.op)
    return found


def _gathered(operation: Any) -> list[tf.Tensor] | None:
    """GatherV2: rows of indices for rows of values."""
    values, places, axis = operation.inputs
    count = operation.get_attr("batch_dims")
    if not count or values.shape.rank is None or places.shape.rank is None:
        return None
    count = count % (places.shape.rank + 1)
    matched = as_long_as(places, range(count), values, range(count))
    return (
        None
        if matched is places
        else [tf.raw_ops.GatherV2(params=values, indices=matched, axis=axis, batch_dims=count)]
    )


def _partitioned(operation: Any) -> list[tf.Tensor] | None:
    """DynamicPartition: a part for each row."""
    values, parts = operation.inputs
    if values.shape.rank is None or not parts.shape.rank:
        return None
    axes = range(parts.shape.rank)
    matched = as_long_as(values, axes, parts, axes)
    if matched is values:
        return None
    count = operation.get_attr("num_partitions")
    return list(tf.raw_ops.DynamicPartition(data=matched, partitions=parts, num_partitions=count))


def _chosen(operation: Any) -> list[tf.Tensor] | None:
    """Select of TensorFlow 1: values of one shape, and a condition of that shape or for each row."""
    condition, first, second = operation.inputs
    ranks = [x.shape.rank for x in operation.inputs]
    if None in ranks or ranks[1] != ranks[2] or not ranks[0]:
        return None
    axes = range(ranks[1])
    made = [
        as_long_as(condition, range(ranks[0]), first, range(ranks[0])),
        first,
        as_long_as(second, axes, first, axes),
    ]
    if made[0] is condition and made[2] is second:
        return None
    return [tf.raw_ops.Select(condition=made[0], x=made[1], y=made[2])]


def _labelled(operation: Any) -> list[tf.Tensor] | None:
    """SparseSoftmaxCrossEntropyWithLogits, of whose outputs only the losses serve; a check looks at the labels.

    tf2onnx takes the logarithm of a softmax: infinite where the score of the label is far below the others.
    """
    scores, labels = operation.inputs
    if operation.outputs[1].consumers():
        return None
    labels = as_long_as(labels, [0], scores, [0])
    moved = scores - tf.reduce_max(scores, 1, keepdims=True)
    own = tf.gather(moved, labels, batch_dims=1)
    losses = tf.math.log(tf.reduce_sum(tf.exp(moved), 1)) - own
    return [losses, tf.zeros_like(scores)]


def _labelled_by_shares(operation: Any) -> list[tf.Tensor] | None:
    """SoftmaxCrossEntropyWithLogits, whose inputs may have one row or one class: both are repeated first."""
    scores, labels = operation.inputs
    if operation.outputs[1].consumers() or (scores.shape[1] is not None and scores.shape[1] == labels.shape[1]):
        return None
    scores, labels = scores + tf.zeros_like(labels), labels + tf.zeros_like(scores)
    return list(tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=scores, labels=labels))


def _set_diagonal(operation: Any) -> list[tf.Tensor] | None:
    """MatrixSetDiag and its versions: a diagonal for each matrix."""
    matrix, diagonal, *place = operation.inputs
    matched = diagonal
    if matrix.shape.rank is not None and diagonal.shape.rank is not None:
        axes = range(matrix.shape.rank - 2)
        matched = as_long_as(diagonal, axes, matrix, axes)
    if matched is diagonal and operation.type == "MatrixSetDiagV3":
        return None
    align = operation.get_attr("align") if operation.type == "MatrixSetDiagV3" else "LEFT_LEFT"
    k = place[0] if place else 0
    return [tf.raw_ops.MatrixSetDiagV3(input=matrix, diagonal=matched, k=k, align=align)]


def _set_operation(operation: Any) -> list[tf.Tensor] | None:
    """DenseToDenseSetOperation: a set for each set."""
    first, second = operation.inputs
    if first.shape.rank is None or first.shape.rank != second.shape.rank:
        return None
    axes = range(first.shape.rank - 1)
    matched = as_long_as(second, axes, first, axes)
    if matched is second:
        return None
    options = {name: operation.get_attr(name) for name in ("set_operation", "validate_indices")}
    return list(tf.raw_ops.DenseToDenseSetOperation(set1=first, set2=matched, **options))


LENGTHS = {
    "GatherV2": _gathered,
    "DynamicPartition": _partitioned,
    "Select": _chosen,
    "SparseSoftmaxCrossEntropyWithLogits": _labelled,
    "SoftmaxCrossEntropyWithLogits": _labelled_by_shares,
    **dict.fromkeys(("MatrixSetDiag", "MatrixSetDiagV2", "MatrixSetDiagV3"), _set_diagonal),
    "DenseToDenseSetOperation": _set_operation,
}
