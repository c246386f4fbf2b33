"""JSON bodies of REST predict to arrays: row format (`instances`) and columnar format (`inputs`).

Bodies of one numeric tensor, the usual ones, go through simdjson without a Python object per number. All others,
and all faults, go through Python values, for upstream's rules and messages.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import simdjson

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument, ServingError
from ladle.serving.rest.json import values
from ladle.serving.rest.json.text import parse_object, quote
from ladle.serving.servables.saved_model import Signature, TensorInfo

_HEAD = re.compile(rb'\s*\{\s*(?:"signature_name"\s*:\s*"([A-Za-z0-9_.-]*)"\s*,\s*)?"(instances|inputs)"\s*:\s*(?=\[)')
_NUMBERS = b"0123456789+-.eE \t\r\n"
_BUFFER = {"<f4": "d", "<f8": "d", "<i4": "i", "<i8": "i"}
_KEPT_BYTES = 2**20  # of a body whose parser is kept: it keeps six times as many
_MAX_SKELETON = 2**16
_MAX_SHAPES = 256
_shapes: dict[bytes, tuple[int, ...]] = {}
_local = threading.local()  # `parser`: simdjson's serve one thread each


@dataclass
class PredictBody:
    """A parsed body. `document`: as Python values, unless it is one array of numbers, in `numbers`."""

    body: bytes
    signature_name: str
    is_row: bool
    document: dict[str, Any] | None
    numbers: Any = None
    shape: tuple[int, ...] = ()
    max_depth: int = 0

    def read(self, signature: Signature) -> dict[str, Array]:
        """The inputs by alias; InvalidArgument or Unimplemented in upstream's words."""
        if self.numbers is not None:
            array = self._read_numbers(signature)
            if array is not None:
                return array
        if self.document is None:
            self.document = parse_object(self.body, self.max_depth)
        return _read_document(self.document, signature)

    def _read_numbers(self, signature: Signature) -> dict[str, Array] | None:
        if len(signature.inputs) != 1:
            return None
        ((alias, info),) = signature.inputs.items()
        kind = _BUFFER.get(info.numpy.str) if info.numpy is not None else None
        if kind is None:
            return None
        try:
            flat: Array = np.frombuffer(self.numbers.as_buffer(of_type=kind), "<f8" if kind == "d" else "<i8")
        except (TypeError, ValueError):
            return None
        self.numbers = None  # the parser cannot be used again while parts of its document are held
        if flat.size != math.prod(self.shape):  # an empty list looks like one number
            return None
        if info.numpy == np.int32 and flat.size and (flat.max() > 2**31 - 1 or flat.min() < -(2**31)):
            return None
        return {alias: flat.astype(info.numpy).reshape(self.shape)}


def parse(body: bytes, max_depth: int = 0) -> PredictBody:
    """Checks the syntax and finds the signature's name; InvalidArgument for what is not a JSON object.

    max_depth  of lists and objects in each other; 0: any
    """
    head = _HEAD.match(body)
    if head is not None:
        quick = _parse_numbers(body, head)
        if quick is not None and (len(quick.shape) < max_depth or not max_depth):
            return quick
    document = parse_object(body, max_depth)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {quote(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return PredictBody(body, name, "instances" in document, document)


def _parse_numbers(body: bytes, head: re.Match[bytes]) -> PredictBody | None:
    """The body as one array of numbers; None when it is anything else."""
    skeleton = body[head.end() :].translate(None, _NUMBERS)  # "[[,],[,]]}"
    shape = _shapes.get(skeleton)
    if shape is None:
        shape = _read_skeleton(skeleton)
        if shape is None:
            return None
        if len(skeleton) <= _MAX_SKELETON and len(_shapes) < _MAX_SHAPES:
            _shapes[skeleton] = shape
    is_kept = len(body) <= _KEPT_BYTES
    parser = getattr(_local, "parser", None) if is_kept else None
    if parser is None:
        parser = simdjson.Parser()
        if is_kept:
            _local.parser = parser
    try:
        document: Any = parser.parse(body)
    except RuntimeError:  # a request that failed still holds a part of its document
        _local.parser = simdjson.Parser()
        return None
    except ValueError:
        return None
    key = head[2].decode()
    return PredictBody(body, (head[1] or b"").decode(), key == "instances", None, document[key], shape)


def _read_skeleton(skeleton: bytes) -> tuple[int, ...] | None:
    """The shape of an evenly nested array, from its brackets and commas and the `}` after it; else None."""
    if not skeleton.startswith(b"[") or not skeleton.endswith(b"}"):
        return None
    inner = skeleton[:-1]
    rank = len(inner) - len(inner.lstrip(b"["))
    if rank > values.MAX_RANK:
        return None
    shape: tuple[int, ...] = ()
    element = b""  # what stands for one element of the present level; for a number, nothing
    for start in range(rank, 0, -1):
        count = 1 + _repeats(inner, start + len(element), b"," + element)
        element = b"[" + element + (b"," + element) * (count - 1) + b"]"
        shape = (count, *shape)
    return shape if element == inner else None


def _repeats(text: bytes, at: int, pattern: bytes) -> int:
    """How often the pattern stands in a row from `at` on; found in strides, not one by one."""
    found, stride, is_growing = 0, 1, True
    while stride:
        if text.startswith(pattern * stride, at + found * len(pattern)):
            found += stride
            stride = stride * 2 if is_growing else stride // 2
        else:
            is_growing = False
            stride //= 2
    return found


def _read_document(document: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        raise InvalidArgument(
            f"JSON Value: {quote(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if rows:
        return _read_rows(document["instances"], signature.inputs)
    if columns:
        return _read_columns(document["inputs"], signature.inputs)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _read_rows(rows: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if not isinstance(rows, list):
        raise InvalidArgument(f"JSON Value: {quote(rows)} Expecting 'instances' to be an list/array")
    if not rows:
        raise InvalidArgument(f"JSON Value: {quote(rows)} No values in 'instances' array")
    if _is_named(rows[0]):
        return _read_named_rows(rows, inputs)
    if len(inputs) != 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for i, row in enumerate(rows):
        if _is_named(row):
            raise InvalidArgument(f"Expecting value/list but got object at item {i} of input list")
    ((alias, info),) = inputs.items()
    return {alias: _stack(rows, info, "")}


def _read_named_rows(rows: list[Any], inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    for i, row in enumerate(rows):
        if not _is_named(row):
            raise InvalidArgument(f"Expecting object but got list at item {i} of input list")
        for name in row:
            if name not in inputs:
                raise _in_row(i, name, InvalidArgument(f"JSON object: does not have named input: {name}"))
        if len(row) != len(inputs):
            raise InvalidArgument(
                f"Failed to process element: {i} of 'instances' list. JSON object: {quote(row)} keys must be equal to: "
                f"{_join(inputs)}"
            )
    return {alias: _stack([row[alias] for row in rows], info, alias) for alias, info in inputs.items()}


def _stack(rows: list[Any], info: TensorInfo, key: str) -> Array:
    """Rows of one shape as one tensor, the batch axis first."""
    whole = values.regular(rows, info)
    if whole is not None:
        return whole
    arrays: list[Array] = []
    for i, row in enumerate(rows):
        try:
            array = values.read(row, info)
            if arrays and array.size != arrays[0].size:
                raise InvalidArgument(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
            if arrays and array.shape != arrays[0].shape:
                raise InvalidArgument(f"Expecting shape {_shape(arrays[0])} but got: {_shape(array)}")
        except ServingError as error:
            raise _in_row(i, key, error) from None
        arrays.append(array)
    return np.stack(arrays)


def _read_columns(columns: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if not _is_named(columns):
        if len(inputs) != 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((alias, info),) = inputs.items()
        return {alias: values.read(columns, info)}
    arrays = {}
    for alias, info in inputs.items():
        if alias not in columns:
            raise InvalidArgument(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = values.read(columns[alias], info)
    return arrays


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not values.is_base64(value)


def _in_row(i: int, key: str, error: ServingError) -> InvalidArgument:
    named = f" key: {key}" if key else ""
    return InvalidArgument(
        f"Failed to process element: {i}{named} of 'instances' list. Error: {error.code}: {error.message}"
    )


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
