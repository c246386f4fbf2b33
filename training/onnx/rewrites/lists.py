"""Puts lists of tensors in the order that tf2onnx takes for granted: it appends what a loop writes, wherever that is.

tf.scan without an initial value writes the first element before its loop, and a loop may write from the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import node_def_pb2

from ladle.training.onnx.effects import data_of, node_of

_LOOPS = ("While", "StatelessWhile")
_INT32 = tf.int32.as_datatype_enum


def in_order(graph_def: Any) -> None:
    """Let each list that a loop fills start empty and grow at its end; what was there before is put in front."""
    functions = {function.signature.name: function for function in graph_def.library.function}
    _Part(graph_def.node, functions, is_function=False).put_in_order()
    for function in functions.values():
        part = _Part(function.node_def, functions, is_function=True)
        part.put_in_order()
        for name, text in function.ret.items():
            function.ret[name] = part.moved.get(text, text)


@dataclass(frozen=True)
class _List:
    """A list that a loop fills.

    loop, at  the loop, and which of its values the list is
    reserved  the tensor that makes it
    first     what is written before the loop, in the order of the list
    is_falling  whether the loop writes from the end
    """

    loop: Any
    at: int
    reserved: str
    first: tuple[str, ...]
    is_falling: bool


class _Part:
    """The nodes of a graph or of a function.

    moved  references to tensors that are made by other nodes now
    """

    def __init__(self, nodes: Any, functions: Mapping[str, Any], *, is_function: bool) -> None:
        self._nodes, self._functions, self._is_function = nodes, functions, is_function
        self._by_name = {node.name: node for node in nodes}
        self.moved: dict[str, str] = {}

    def put_in_order(self) -> None:
        for node in list(self._nodes):
            if node.op in _LOOPS:
                for at in range(len(data_of(node))):
                    found = self._list(node, at)
                    if found is not None:
                        self._order(found)
        for node in self._nodes if self.moved else ():
            for n, text in enumerate(node.input):
                node.input[n] = self.moved.get(text, text)

    def _list(self, loop: Any, at: int) -> _List | None:
        """The list that is this value of a loop, if it is not in order."""
        text, before = data_of(loop)[at], []
        node = self._source(text)
        while node is not None and node.op == "TensorListSetItem":
            before.append(node)
            text = data_of(node)[0]
            node = self._source(text)
        if node is None or node.op != "TensorListReserve":
            return None
        step = step_of(self._functions[loop.attr["body"].func.name], at)
        if step is None or (step > 0 and not before) or (step < 0 and len(before) > 1):
            return None
        before.reverse()
        if step > 0 and [self._constant(data_of(each)[1]) for each in before] != list(range(len(before))):
            return None
        return _List(loop, at, text, tuple(data_of(each)[2] for each in before), step < 0)

    def _order(self, found: _List) -> None:
        found.loop.input[found.at] = found.reserved
        made = {self._reference(found.loop.name, "output", found.at), f"{found.loop.name}:{found.at}"}
        made |= {found.loop.name} if found.at == 0 and not self._is_function else set()
        for node in list(self._nodes):
            if node.op == "TensorListStack" and data_of(node)[0] in made:
                self._put_behind(node, found)

    def _put_behind(self, stack: Any, found: _List) -> None:
        """Let other nodes stand for the stacked list: those before the loop and those in it, in order."""
        old, dtype = stack.name, stack.attr["element_dtype"].type
        texts = [f"{old}:tensor:0"] if self._is_function else [old, f"{old}:0"]
        stack.name = f"{old}/in_loop"
        stack.attr.pop("_output_shapes", None)
        stack.attr["num_elements"].i = -1
        last = self._reference(stack.name, "tensor", 0)
        if found.is_falling:
            axes = self._constant_node(f"{old}/axes", np.array([0], np.int32))
            last = self._add("ReverseV2", f"{old}/reversed", [last, axes], T=dtype, Tidx=_INT32)
        if found.first:
            first = self._add("Pack", f"{old}/first", list(found.first), T=dtype, N=len(found.first), axis=0)
            parts = [last, first] if found.is_falling else [first, last]
            zero = self._constant_node(f"{old}/axis", np.int32(0))
            whole = self._add("ConcatV2", f"{old}/parts", [*parts, zero], T=dtype, N=2, Tidx=_INT32)
            last = self._add(
                "Reshape", f"{old}/whole", [whole, self._shape(old, first, last, dtype)], T=dtype, Tshape=_INT32
            )
        self.moved |= dict.fromkeys(texts, last)

    def _shape(self, prefix: str, first: str, others: str, dtype: int) -> str:
        """The shape of both parts together: ONNX Runtime does not count rows without elements."""
        own = self._add("Shape", f"{prefix}/shape", [first], T=dtype, out_type=_INT32)
        rank = self._add("Shape", f"{prefix}/rank", [own], T=_INT32, out_type=_INT32)
        rest = self._add("Shape", f"{prefix}/other_shape", [others], T=dtype, out_type=_INT32)
        begin, size, at = (
            self._constant_node(f"{prefix}/{name}", np.array(value, np.int32))
            for name, value in (("begin", [0]), ("size", [1]), ("at", [[0]]))
        )
        count = self._add("Slice", f"{prefix}/count", [rest, begin, size], T=_INT32, Index=_INT32)
        more = self._add("ScatterNd", f"{prefix}/more", [at, count, rank], T=_INT32, Tindices=_INT32)
        return self._add("AddV2", f"{prefix}/both", [own, more], T=_INT32)

    def _add(self, op: str, name: str, inputs: list[str], **attributes: int) -> str:
        node = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            if key.startswith("T") or key in ("Index", "out_type"):
                node.attr[key].type = value
            else:
                node.attr[key].i = value
        self._nodes.append(node)
        return self._reference(name, {"AddV2": "z"}.get(op, "output"), 0)

    def _constant_node(self, name: str, value: Any) -> str:
        node = node_def_pb2.NodeDef(name=name, op="Const")
        node.attr["dtype"].type = _INT32
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        self._nodes.append(node)
        return self._reference(name, "output", 0)

    def _reference(self, name: str, output: str, at: int) -> str:
        if self._is_function:
            return f"{name}:{output}:{at}"
        return name if at == 0 else f"{name}:{at}"

    def _source(self, text: str) -> Any:
        return _through_identities(self._by_name, text)

    def _constant(self, text: str) -> Any:
        node = self._source(text)
        if node is None or node.op != "Const":
            return None
        value = tf.make_ndarray(node.attr["value"].tensor)
        return value.item() if value.size == 1 else None


def step_of(body: Any, at: int) -> int | None:
    """By how much the place moves at which a loop's body writes to a list; None if that is not known."""
    nodes = {node.name: node for node in body.node_def}
    arguments = [argument.name for argument in body.signature.input_arg]

    def argument(text: str) -> str:
        while text not in arguments and node_of(text) in nodes and nodes[node_of(text)].op == "Identity":
            text = nodes[node_of(text)].input[0]
        return text

    writes = [
        node for node in body.node_def if node.op == "TensorListSetItem" and argument(data_of(node)[0]) == arguments[at]
    ]
    place = argument(data_of(writes[0])[1]) if len(writes) == 1 else ""
    if place not in arguments:
        return None
    end = body.ret[body.signature.output_arg[arguments.index(place)].name]
    moved = _through_identities(nodes, end)
    if moved is None or moved.op not in ("Add", "AddV2", "Sub") or argument(data_of(moved)[0]) != place:
        return None
    number = _through_identities(nodes, data_of(moved)[1])
    if number is None or number.op != "Const":
        return None
    by = int(tf.make_ndarray(number.attr["value"].tensor).item())
    return -by if moved.op == "Sub" else by


def _through_identities(nodes: Mapping[str, Any], text: str) -> Any:
    """The node that makes a tensor; None if it is an argument."""
    node = nodes.get(node_of(text))
    while node is not None and node.op == "Identity":
        node = nodes.get(node_of(node.input[0]))
    return node
