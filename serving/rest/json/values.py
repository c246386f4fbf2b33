"""JSON values to tensors: TensorFlow Serving's rules for element types and nesting, and its messages."""

from __future__ import annotations

import base64
import binascii
import contextlib
import itertools
import re
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument, Unimplemented
from ladle.serving.rest.json.text import quote
from ladle.serving.servables.saved_model import TensorInfo

MAX_RANK = 32
_BLANKS = re.compile(r"[ \t\n\v\f\r]+")
_URL_SAFE = str.maketrans("-_", "+/")
_INT32_RANGE = (-(2**31), 2**31 - 1)
INTEGERS = {
    "int32": _INT32_RANGE,
    "int16": _INT32_RANGE,
    "int8": _INT32_RANGE,
    "uint8": _INT32_RANGE,
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
"""The integers that a JSON number may be, by dtype. The narrow types accept any int32 and wrap it, as upstream does."""
_TYPES: dict[str, set[type]] = {
    "float": {int, float},
    "double": {int, float},
    "bool": {bool},
    "string": {str},
    **{name: {int} for name in INTEGERS},
}


def read(value: Any, info: TensorInfo) -> Array:
    """A JSON value as a tensor. The first element at each level decides the shape.

    InvalidArgument for ragged lists and values of another type, Unimplemented for dtypes that JSON cannot carry.
    """
    array = read_regular(value, info)
    if array is not None:
        return array
    shape = _shape(value)
    flat: list[Any] = []
    _fill(flat, value, shape, 0, info)
    return _to_array(flat, info).reshape(shape)


def read_regular(value: Any, info: TensorInfo) -> Array | None:
    """The tensor of an evenly nested list whose values all fit the dtype; None for any other value.

    It checks a whole level at once, where `read` visits value by value to find the one at fault.
    """
    types = _TYPES.get(info.type_name)
    if types is None or not isinstance(value, list):
        return None
    level, shape = value, [len(value)]
    while level and type(level[0]) is list:
        if len(shape) == MAX_RANK or set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            return None
        shape.append(len(level[0]))
        level = list(itertools.chain.from_iterable(level))
    if not set(map(type, level)) <= types:
        return None
    limits = INTEGERS.get(info.type_name)
    if limits and level and not (limits[0] <= min(level) and max(level) <= limits[1]):
        return None
    return _to_array(level, info).reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > MAX_RANK:
            raise InvalidArgument(f"lists are nested more than {MAX_RANK} deep; a tensor has at most that many axes")
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _fill(flat: list[Any], value: Any, shape: tuple[int, ...], level: int, info: TensorInfo) -> None:
    rank = len(shape)
    if isinstance(value, list):
        if level >= rank:
            raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != shape[level]:
            raise InvalidArgument(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        for element in value:
            _fill(flat, element, shape, level + 1, info)
        return
    if level != rank:
        raise InvalidArgument(
            f"JSON Value: {quote(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {rank}"
        )
    flat.append(_element(value, info))


def _element(value: Any, info: TensorInfo) -> Any:
    name = info.type_name
    if name == "string":
        if isinstance(value, str):
            return value  # `_to_array` encodes it
        if isinstance(value, dict):
            return decode_base64(value)
        raise _type_error(value, name)
    if name not in _TYPES:
        raise Unimplemented(f"Conversion of JSON Value: {quote(value)} to type: {name}")
    if type(value) not in _TYPES[name]:
        raise _type_error(value, name)
    low, high = INTEGERS.get(name, (value, value))
    if not low <= value <= high and value == value:  # NaN is not itself
        raise _type_error(value, name)
    return value


def is_base64(value: Any) -> bool:
    """Whether a value is `{"b64": "..."}`, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """The bytes of `{"b64": "<text>"}`: standard or URL-safe alphabet, optional padding, white space ignored.

    InvalidArgument for anything else.
    """
    if not is_base64(value):
        raise InvalidArgument(f"JSON Value: {quote(value)} not formatted correctly for base64 data")
    text = value["b64"]
    if len(text) % 4 == 0 and not text.endswith("==="):
        with contextlib.suppress(ValueError):  # the usual form, in a sixth of the time: images are large
            return base64.b64decode(text, validate=True)
    text = _BLANKS.sub("", text).translate(_URL_SAFE)
    bare = text.rstrip("=")
    padding = "=" * (-len(bare) % 4)
    if text not in (bare, bare + padding):
        raise InvalidArgument("Unable to base64 decode")
    try:
        return base64.b64decode(bare + padding, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("Unable to base64 decode") from None


def _to_array(flat: list[Any], info: TensorInfo) -> Array:
    if info.type_name == "string":
        strings = np.empty(len(flat), object)
        strings[:] = [text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text for text in flat]
        return strings
    wide = {"float": "f8", "double": "f8", "bool": "?", "uint64": "u8"}.get(info.type_name, "i8")
    try:
        return np.array(flat, wide).astype(info.numpy)
    except OverflowError:
        raise InvalidArgument("JSON Parse error: Number too big to be stored in double.") from None


def _type_error(value: Any, name: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: {quote(value)} Type: {type_of(value)} is not of expected type: {name}")


def type_of(value: Any) -> str:
    """RapidJSON's name for the type of a value."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, dict | list | str):
        return {dict: "Object", list: "Array", str: "String"}[type(value)]
    return "Number"
