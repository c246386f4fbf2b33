"""Makes outputs of a signature's checks: an ONNX graph cannot refuse a value, but a server can look at a boolean.

tf.debugging.assert_*, check_numerics, ensure_shape, and operations whose kernels refuse values that ONNX Runtime
answers. A check in a loop or a branch stays where it is, so that such a signature stays on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.serving.errors import InvalidArgument
from ladle.training.onnx.effects import CHECKS, called, data_of, is_true, node_of
from ladle.training.onnx.parity import Run
from ladle.training.onnx.rewrites.cases import has_cases
from ladle.training.onnx.rewrites.demands import REFUSING, Check, is_finite
from ladle.training.onnx.rewrites.inline import OLD_LOOPS, REFERENCES, Flat, Pure, Signature

_GUARDS = ("If", "StatelessIf")
_MOST_LETTERS = 300


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
            yield Check((inputs[0],), is_finite, f"{said} : Tensor had Inf or NaN values")
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
