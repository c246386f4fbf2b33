"""Looks into the bytes of an ONNX file: finds external weights, and frees the shapes of inputs.

ONNX files are protobuf messages (onnx.proto). Walking a few fields in place needs neither the onnx package nor a copy
of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ladle.clients.wire.varints import read_varint, varint

_ELEMENTWISE = (
    "Abs Add And Cast Ceil Clip Cos Div Elu Equal Erf Exp Floor Greater GreaterOrEqual Identity LeakyRelu Less "
    "LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign "
    "Sqrt Sub Sum Tan Tanh Where Xor"
)
"""Operations that compute each element by itself, alike in ONNX and TensorFlow, on tensors of any rank."""

_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Message by field number, for the fields through which tensors can be reached."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _NODE, _OP_TYPE, _VALUE_INFO, _ENDS = 7, 1, 4, 13, (11, 12)
_TYPE, _TENSOR_TYPE, _SHAPE = 2, 1, 2


def external_files(model: memoryview) -> set[str]:
    """Paths of the files with the model's weights, relative to its folder. ValueError: not a protobuf message."""
    return set(_locations(model, "model"))


def is_elementwise(model: memoryview) -> bool:
    """Whether the graph computes each element by itself, so that it can take inputs of any shape."""
    graphs = [value for number, _, _, value in _fields(model) if number == _GRAPH]
    nodes = [value for graph in graphs for number, _, _, value in _fields(graph) if number == _NODE]
    ops = {bytes(value).decode() for node in nodes for number, _, _, value in _fields(node) if number == _OP_TYPE}
    return ops <= set(_ELEMENTWISE.split())


def operations(model: memoryview) -> set[str]:
    """The operations of the graph, its subgraphs and its functions. ValueError when it is not a protobuf message."""
    return set(_operations(model, "model"))


def with_free_shapes(model: memoryview) -> bytes:
    """The model with inputs and outputs of unknown rank. ValueError when it is not a protobuf message."""
    return _rewrite(model, {_GRAPH: _free_graph})


def _free_graph(graph: memoryview) -> bytes:
    parts: list[Any] = []
    for number, wire, whole, value in _fields(graph):
        if number in _ENDS and wire == _BYTES:
            parts.append(_field(number, _rewrite(value, {_TYPE: _free_type})))
        elif number != _VALUE_INFO:  # value_info repeats the shapes of tensors inside the graph: drop them, too
            parts.append(whole)
    return b"".join(parts)


def _free_type(kind: memoryview) -> bytes:
    return _rewrite(kind, {_TENSOR_TYPE: lambda tensor: b"".join(w for n, _, w, _ in _fields(tensor) if n != _SHAPE)})


def _rewrite(message: memoryview, change: dict[int, object]) -> bytes:
    parts: list[Any] = []
    for number, _, whole, value in _fields(message):
        made = change.get(number)
        parts.append(_field(number, made(value)) if callable(made) else whole)
    return b"".join(parts)


def _locations(message: memoryview, kind: str) -> Iterator[str]:
    fields = _MESSAGES[kind]
    for number, wire, _, value in _fields(message):
        inner = fields.get(number)
        if inner is None or wire != _BYTES:
            continue
        if inner == "entry":
            entry = {n: bytes(v) for n, w, _, v in _fields(value) if w == _BYTES}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode("utf-8", "replace")
        else:
            yield from _locations(value, inner)


def _operations(message: memoryview, kind: str) -> Iterator[str]:
    fields = _MESSAGES[kind]
    for number, wire, _, value in _fields(message):
        if wire != _BYTES:
            continue
        if kind == "node" and number == _OP_TYPE:
            yield bytes(value).decode("utf-8", "replace")
        elif fields.get(number) in ("graph", "function", "node", "attribute"):
            yield from _operations(value, fields[number])


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Number, wire type, whole bytes and value of each field (protobuf encoding). ValueError for other bytes."""
    at, end = 0, len(message)
    while at < end:
        start = at
        key, at = _read_varint(message, at)
        wire = key & 7
        if wire == _BYTES:
            length, first = _read_varint(message, at)
            at = first + length
        else:
            first = at
            if wire == _VARINT:
                _, at = _read_varint(message, at)
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
            else:
                raise ValueError("not a protobuf message")
        if at > end:
            raise ValueError("not a protobuf message")
        yield key >> 3, wire, message[start:at], message[first:at]


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    try:
        return read_varint(message, at)
    except IndexError:
        raise ValueError("not a protobuf message") from None


def _field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(value)) + value
