"""Makes outputs of a signature's checks: an ONNX graph cannot refuse a value, but a server can look at a boolean.

tf.debugging.assert_*, check_numerics, ensure_shape, and operations whose kernels refuse values that ONNX Runtime
answers. A check in a loop or a branch stays where it is, so that such a signature stays on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.serving.errors import InvalidArgument
from ladle.training.onnx.effects import CHECKS, called, data_of, is_true, node_of
from ladle.training.onnx.parity import Run
from ladle.training.onnx.rewrites.cases import has_cases
from ladle.training.onnx.rewrites.inline import OLD_LOOPS, REFERENCES, Flat, Pure, Signature

_GUARDS = ("If", "StatelessIf")
_MOST_LETTERS = 300


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


class NestedCheckError(ValueError):
    """A check in a loop or a branch; the message names it."""


def lifted(function: Any) -> tuple[Pure, dict[str, str]]:
    """A computation of the same outputs and of a boolean one for each check, and the checks' messages by output.

    It changes no variable. NestedCheckError for a check that cannot be an output.
    """
    signature = Signature(function)
    checks = list(_checks(signature.flat))
    taken = {*signature.outputs, *signature.given}
    names = [name for n in range(len(checks) + len(taken)) if (name := f"check_{n}") not in taken][: len(checks)]

    def more(tensor: Callable[[str], tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return {
            name: tf.reshape(check.holds(*[tensor(text) for text in check.reads]), [])
            for name, check in zip(names, checks, strict=True)
        }

    wanted = [text for check in checks for text in check.reads]
    messages = dict(zip(names, (check.message for check in checks), strict=True))
    return signature.pure(more, wanted), messages


def is_needed(function: Any) -> bool:
    """Whether a signature has Case, a loop of TensorFlow 1, or an operation that refuses what ONNX Runtime answers."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return has_cases(graph) or any(
        node.op in OLD_LOOPS or (node.op in REFUSING and REFUSING[node.op](node)) for node in nodes
    )


def has_references(function: Any) -> bool:
    """Whether a signature has variables that are nodes of its graph, whose values no other function can read."""
    return any(operation.type in REFERENCES for operation in function.graph.get_operations())


def demanding(run: Run, demands: Mapping[str, str]) -> Run:
    """The same function without these boolean outputs; it raises InvalidArgument with the message of one that is false.

    A server does the same with the step `require`.
    """
    if not demands:
        return run

    def checked(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = dict(run(arrays))
        for name, message in demands.items():
            if not made.pop(name).all():
                raise InvalidArgument(message)
        return made

    return checked


def _checks(flat: Flat) -> Iterator[Check]:
    for node in flat.nodes.values():
        inputs = data_of(node)
        if node.op in REFUSING:
            found = REFUSING[node.op](node)
            if found is not None:
                yield found
        elif node.op == "Assert":
            if not is_true(flat.nodes.get(node_of(inputs[0]))):
                yield Check((inputs[0],), tf.identity, _message(flat.nodes, inputs[1:]))
        elif node.op in ("CheckNumerics", "CheckNumericsV2"):
            said = node.attr["message"].s.decode(errors="replace")
            yield Check((inputs[0],), _is_finite, f"{said} : Tensor had Inf or NaN values")
        elif node.name in flat.ensured:
            shape = flat.ensured[node.name]
            if shape.rank is not None:
                message = (
                    f"Shape of tensor {node.name.rpartition('/')[2]} is not compatible with expected shape {shape}."
                )
                yield Check((inputs[0],), _has_shape(shape.as_list()), message)
        elif node.op in _GUARDS:
            guard = _guard(flat, node)
            if guard is not None:
                yield guard
        else:
            for name in called(node):
                _refuse_inside(flat, name)


def _guard(flat: Flat, node: Any) -> Check | None:
    """The check that a branch is: it does nothing if its condition is true, and refuses if not."""
    names = [node.attr[key].func.name for key in ("then_branch", "else_branch")]
    if not any(_has_check(flat, name, set()) for name in names):
        return None
    condition, *arguments = data_of(node)
    if is_true(flat.nodes.get(node_of(condition))):
        _refuse_inside(flat, names[0])
        return None
    other = flat.function(names[1])
    nodes = {each.name: each for each in other.node_def}
    asserts = [each for each in other.node_def if each.op == "Assert"]
    given = {argument.name: text for argument, text in zip(other.signature.input_arg, arguments, strict=True)}
    is_guard = bool(asserts) and not _has_check(flat, names[0], set())
    is_guard &= not any(True for each in other.node_def for _ in called(each))
    for each in asserts:
        source = node_of(each.input[0])
        while source in nodes and nodes[source].op == "Identity":
            source = node_of(nodes[source].input[0])
        is_guard &= given.get(source) == condition or _is_false(nodes.get(source))
    if not is_guard or node.attr["Tcond"].type != tf.bool.as_datatype_enum:
        raise NestedCheckError("Assert")
    return Check((condition,), tf.identity, _message(nodes, data_of(asserts[0])[1:]))


def _is_false(node: Any) -> bool:
    return node is not None and node.op == "Const" and not tf.make_ndarray(node.attr["value"].tensor).any()


def _refuse_inside(flat: Flat, name: str) -> None:
    """NestedCheckError if a function has a check, or calls one that has."""
    if _has_check(flat, name, set()):
        raise NestedCheckError("Assert")


def _has_check(flat: Flat, name: str, seen: set[str]) -> bool:
    function = flat.function(name)
    if function is None or name in seen:
        return False
    seen.add(name)
    nodes = {node.name: node for node in function.node_def}
    for node in function.node_def:
        if node.op in CHECKS and not (node.op == "Assert" and is_true(nodes.get(node_of(node.input[0])))):
            return True
        if any(_has_check(flat, inner, seen) for inner in called(node)):
            return True
    return False


def _message(nodes: Mapping[str, Any], texts: list[str]) -> str:
    """What TensorFlow says of a failed assertion, without the values of tensors."""
    said = []
    for text in texts:
        node = nodes.get(node_of(text))
        while node is not None and node.op == "Identity":
            node = nodes.get(node_of(node.input[0]))
        if node is None or node.op != "Const" or node.attr["dtype"].type != tf.string.as_datatype_enum:
            continue
        said += [
            each.decode(errors="replace") for each in np.ravel(tf.make_ndarray(node.attr["value"].tensor)).tolist()
        ]
    return ("assertion failed: " + " ".join(f"[{each}]" for each in said if each))[:_MOST_LETTERS].strip()


def _is_finite(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.math.is_finite(x))


def _has_shape(sizes: list[int | None]) -> Callable[[tf.Tensor], tf.Tensor]:
    def holds(x: tf.Tensor) -> tf.Tensor:
        if x.shape.rank is None:
            shape, demands = tf.shape(x), [-1 if size is None else size for size in sizes]
            first = tf.concat([shape, tf.fill([len(sizes)], -1)], 0)[: len(sizes)]
            fits = tf.reduce_all(tf.logical_or(tf.less(demands, 0), tf.equal(first, demands)))
            return tf.logical_and(fits, tf.equal(tf.size(shape), len(sizes)))
        if x.shape.rank != len(sizes):
            return tf.constant(False)
        demanded = [(axis, size) for axis, size in enumerate(sizes) if size is not None and x.shape[axis] != size]
        if not demanded:
            return tf.constant(True)
        shape = tf.shape(x, tf.int64)
        return tf.reduce_all(tf.stack([tf.equal(shape[axis], size) for axis, size in demanded]))

    return holds


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
    """CropAndResize: boxes of images that there are."""
    images, _, places = data_of(node)[:3]

    def holds(images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.logical_and(places >= 0, places < tf.shape(images)[0]))

    return Check((images, places), holds, "box_index has values outside [0, batch_size)")


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
    return lambda node: Check((node.name,), _is_finite, message)


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
}
"""TensorFlow operation -> what its kernel demands of its inputs, where ONNX Runtime answers otherwise."""
