"""Makes tensors of lists of tensors that a loop reads while it fills them, or does not fill from the first on.

tf2onnx takes a list for what a loop returns of each round, one after the other. Dynamic programming, recurrences over
two steps, and TensorArray's gather, concat and size need the list itself: here, each is a tensor, its first axis the
places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import function_def_to_graph

from ladle.training.onnx.effects import called, data_of
from ladle.training.onnx.rewrites.lists import step_of

_LOOPS, _BRANCHES = ("While", "StatelessWhile"), ("If", "StatelessIf")
_SIMPLE = ("TensorListReserve", "TensorListFromTensor", "TensorListGetItem", "TensorListSetItem", "TensorListStack")
"""What tf2onnx converts, where a loop writes from the first place to the last."""


def are_needed(graph_def: Any) -> bool:
    """Whether tf2onnx would lose what a list is."""
    bodies = {function.signature.name: function for function in graph_def.library.function}
    every = [graph_def.node, *(function.node_def for function in bodies.values())]
    nodes = [node for part in every for node in part]
    if any(node.op.startswith("TensorList") and node.op not in _SIMPLE for node in nodes):
        return True
    return any(
        _is_odd(bodies[node.attr["body"].func.name], at)
        for node in nodes
        if node.op in _LOOPS
        for at in range(len(data_of(node)))
    )


def _is_odd(body: Any, at: int) -> bool:
    """Whether a loop's body writes to the list that is this argument, and reads it or writes elsewhere than next.

    So is a list that grows, or goes into a branch.
    """
    own = {body.signature.input_arg[at].name}
    writes = reads = 0
    constants = {f"{node.name}:output:0" for node in body.node_def if node.op == "Const"}
    for node in body.node_def:  # in order, so a list comes before what reads it
        data = data_of(node)
        if node.op in _BRANCHES and not own.isdisjoint(data):
            return _is_list(body.signature.input_arg[at])
        if data and data[0] in own:
            if _grows(node):
                return True
            if node.op == "TensorListSetItem" and data[1] in constants:
                return False  # the one place in which Keras keeps the last output of a recurrent layer
            writes += node.op == "TensorListSetItem"
            reads += node.op == "TensorListGetItem"
            if node.op in ("Identity", "TensorListSetItem"):
                own.add(f"{node.name}:{'output' if node.op == 'Identity' else 'output_handle'}:0")
    return writes > 0 and (reads > 0 or writes > 1 or step_of(body, at) not in (1, -1))


def _grows(node: Any) -> bool:
    key = "resize_if_index_out_of_bounds"
    return key in node.attr and bool(node.attr[key].b)


def _is_list(argument: Any) -> bool:
    return bool(argument.type == tf.variant.as_datatype_enum)


def as_tensors(graph_def: Any, outputs: Sequence[str]) -> Any:
    """The GraphDef in which lists are tensors, with the same inputs and with these outputs.

    ValueError for what cannot be a tensor: a list of lists, elements of several shapes.
    """
    with tf.Graph().as_default() as source:
        tf.import_graph_def(graph_def, name="")
    with tf.Graph().as_default() as target:
        tf.import_graph_def(graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library), name="")
        made = _Walk(graph_def).over(source, {}, is_outer=True)
        for text in outputs:
            if made[text].name != text:
                raise ValueError(f"{text} is an output of a loop itself")
    result = target.as_graph_def(add_shapes=True)
    functions = {function.signature.name: function for function in result.library.function}
    wanted, waiting = set[str](), [result.node]
    while waiting:
        names = {name for node in waiting.pop() for name in called(node)} & functions.keys() - wanted
        waiting += [functions[name].node_def for name in names]
        wanted |= names
    del result.library.function[:]
    result.library.function.extend(functions[name] for name in functions if name in wanted)
    return result


class _Walk:
    """Copies operations from one graph to another, and loops with their bodies."""

    def __init__(self, graph_def: Any) -> None:
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._ranks: dict[Any, set[int]] = {}
        self._one: Any = 1
        parts = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
        self._grow = any(_grows(node) for part in parts for node in part)
        for function in graph_def.library.function:
            if any(node.op == "TensorListSetItem" for node in function.node_def):
                for operation in function_def_to_graph.function_def_to_graph(function).get_operations():
                    self._note_rank(operation)

    def _note_rank(self, operation: Any) -> None:
        if operation.type in ("TensorListSetItem", "TensorListPushBack"):
            item = operation.inputs[-1]
            if item.shape.rank is not None:
                self._ranks.setdefault(item.dtype, set()).add(item.shape.rank)

    def over(self, graph: Any, known: Mapping[str, tf.Tensor], *, is_outer: bool = False) -> dict[str, tf.Tensor]:
        """Copy the operations of a graph to the current one. `known` has its inputs; returns all tensors by name."""
        made = dict(known)
        for operation in graph.get_operations():
            if all(tensor.name in made for tensor in operation.outputs) and operation.outputs:
                continue
            self._note_rank(operation)
            inputs = [made[tensor.name] for tensor in operation.inputs]
            if not self._has_lists(operation):
                outputs = _copied(operation, inputs, is_outer).outputs
            else:
                with tf.name_scope(f"{operation.name}/list"):
                    outputs = self._with_tensors(operation, inputs)
            if is_outer and operation.type == "Placeholder" and not operation.outputs[0].shape.is_fully_defined():
                # A constant 1 would be taken for the length that the axis has for ever.
                self._one = tf.minimum(tf.size(outputs[0]), 0) + 1
            made |= {old.name: new for old, new in zip(operation.outputs, outputs, strict=True)}
        return made

    def _has_lists(self, operation: Any) -> bool:
        """Whether an operation takes, gives or, as a loop does in its body, makes lists."""
        if any(tensor.dtype == tf.variant for tensor in (*operation.inputs, *operation.outputs)):
            return True
        if operation.type not in (*_LOOPS, *_BRANCHES):
            return False
        parts = ("body",) if operation.type in _LOOPS else ("then_branch", "else_branch")
        waiting = [operation.get_attr(part).name for part in parts]
        while waiting:
            for node in self._functions[waiting.pop()].node_def:
                if node.op.startswith("TensorList"):
                    return True
                waiting += called(node) if node.op in (*_LOOPS, *_BRANCHES) else []
        return False

    def _with_tensors(self, operation: Any, inputs: Sequence[Any]) -> Sequence[Any]:
        """What an operation on lists gives, of tensors; None is an empty list of elements of unknown rank."""
        if operation.type in ("TensorListReserve", "EmptyTensorList"):
            return [self._empty(operation, *inputs)]
        if any(each is None for each in inputs):
            raise ValueError("a list of elements whose rank is not known")
        if operation.type in _LISTS:
            made: Sequence[Any] = _LISTS[operation.type](operation, *inputs)
            return made
        if operation.type in _LOOPS:
            return self._loop(operation, inputs)
        if operation.type in _BRANCHES:
            return self._branch(operation, *inputs)
        if operation.type == "Identity":
            return inputs
        raise ValueError(f"{operation.type} of a list")

    def _empty(self, operation: Any, shape: tf.Tensor, count: tf.Tensor) -> tf.Tensor | None:
        """Zeros; an axis whose length is not known is 1 until something is written."""
        dtype = tf.as_dtype(operation.get_attr("element_dtype"))
        sizes = tf.get_static_value(operation.inputs[0])
        if sizes is None or sizes.ndim == 0:
            ranks = self._ranks.get(dtype, set())
            if len(ranks) != 1 or (sizes is None and operation.inputs[0].shape.rank != 1):
                return None
            sizes = [-1] * next(iter(ranks))
        if dtype == tf.variant:
            raise ValueError("a list of lists")
        if operation.type == "EmptyTensorList":
            count = tf.constant(0)
        elif self._grow:
            count = count + (self._one - 1)  # no constant, for the same reason
        lengths = [self._one if size < 0 else int(size) for size in sizes]
        return tf.zeros(tf.stack([count, *lengths]), dtype)

    def _loop(self, operation: Any, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        condition, body = self._parts(operation, "cond", "body")
        shapes = [
            tf.TensorShape([None] * new.shape.rank) if old.dtype == tf.variant else old.shape
            for old, new in zip(operation.outputs, inputs, strict=True)
        ]
        if not all(shape.is_compatible_with(new.shape) for shape, new in zip(shapes, inputs, strict=True)):
            raise ValueError("a loop whose values change their shapes")
        found = tf.while_loop(
            lambda *values: self._run(condition, values)[0],
            lambda *values: self._run(body, values),
            list(inputs),
            shape_invariants=shapes,
        )
        return list(found)

    def _branch(self, operation: Any, condition: tf.Tensor, *values: tf.Tensor) -> list[tf.Tensor]:
        first, second = self._parts(operation, "then_branch", "else_branch")
        if condition.shape.rank != 0:
            raise ValueError("a branch by more than one condition")
        is_first = tf.cast(condition, tf.bool)
        return list(tf.cond(is_first, lambda: self._run(first, values), lambda: self._run(second, values)))

    def _parts(self, operation: Any, *names: str) -> list[Any]:
        """The graphs of the functions that these attributes name."""
        functions = [self._functions[operation.get_attr(name).name] for name in names]
        return [function_def_to_graph.function_def_to_graph(function) for function in functions]

    def _run(self, graph: Any, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        made = self.over(graph, {old.name: new for old, new in zip(graph.inputs, values, strict=True)})
        return [made[tensor.name] for tensor in graph.outputs]


def _copied(operation: Any, inputs: Sequence[tf.Tensor], keep_name: bool) -> Any:
    graph = tf.compat.v1.get_default_graph()
    attributes = {key: value for key, value in operation.node_def.attr.items() if not key.startswith("_")}
    return graph._create_op_internal(
        operation.type,
        list(inputs),
        [tensor.dtype for tensor in operation.outputs],
        name=f"{operation.name}/" if keep_name else operation.name,
        attrs=attributes,
        op_def=operation.op_def,
    )


def _widened(values: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """The list with elements of the item's shape: those that were never written are zeros."""
    if values.shape[1:].is_fully_defined() and item.shape.is_fully_defined():
        return values
    return tf.broadcast_to(values, tf.concat([tf.shape(values)[:1], tf.shape(item)], 0))


def _grown(values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The list with so many places, or more if it has more."""
    more = tf.maximum(count - tf.shape(values)[0], 0)
    return tf.concat([values, tf.zeros(tf.concat([[more], tf.shape(values)[1:]], 0), values.dtype)], 0)


def _set(operation: Any, values: tf.Tensor, at: tf.Tensor, item: tf.Tensor) -> list[tf.Tensor]:
    values = _widened(values, item)
    if operation.get_attr("resize_if_index_out_of_bounds"):
        values = _grown(values, at + 1)
    return [tf.tensor_scatter_nd_update(values, tf.reshape(at, [1, 1]), item[None])]


def _stacked(operation: Any, values: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
    made = tf.identity(values)
    if made.shape.rank == operation.outputs[0].shape.rank:
        made.set_shape(operation.outputs[0].shape)
    return [made]


def _joined(operation: Any, values: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
    shape = tf.shape(values)
    made = tf.reshape(values, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))
    return [made, tf.fill(shape[:1], tf.cast(shape[1], tf.int64))]


def _resized(operation: Any, values: tf.Tensor, count: tf.Tensor) -> list[tf.Tensor]:
    return [_grown(values, count)[:count]]


_LISTS: dict[str, Any] = {
    "TensorListFromTensor": lambda operation, tensor, shape: [tf.identity(tensor)],
    "TensorListSetItem": _set,
    "TensorListGetItem": lambda operation, values, at, shape: [_with_shape(operation, tf.gather(values, at))],
    "TensorListStack": _stacked,
    "TensorListLength": lambda operation, values: [tf.shape(values)[0]],
    "TensorListGather": lambda operation, values, at, shape: [_with_shape(operation, tf.gather(values, at))],
    "TensorListConcatV2": _joined,
    "TensorListResize": _resized,
    "TensorListPushBack": lambda operation, values, item: [tf.concat([_widened(values, item), item[None]], 0)],
    "TensorListPopBack": lambda operation, values, shape: [values[:-1], _with_shape(operation, values[-1], 1)],
}
"""Operation -> its outputs, of an operation and its inputs, in which a list is a tensor."""


def _with_shape(operation: Any, made: tf.Tensor, n: int = 0) -> tf.Tensor:
    if made.shape.rank == operation.outputs[n].shape.rank:
        made.set_shape(operation.outputs[n].shape)
    return made
