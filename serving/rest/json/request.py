"""JSON bodies of REST predict to arrays: row format (`instances`) and columnar format (`inputs`).

The usual body, one tensor of numbers, goes through `compiled.read_list`, or simdjson where that was not compiled,
without a Python object for each number. Any other body, and any fault, goes through Python values, for TensorFlow
Serving's rules and messages.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import simdjson

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import ServingError
from ladle.serving.rest.json import compiled, named, pieces, values
from ladle.serving.rest.json.document import read_document
from ladle.serving.rest.json.text import LARGE_EXPONENT, parse_object, read_signature_name
from ladle.serving.servables.saved_model import Signature, TensorInfo
from ladle.serving.servables.servable import Servable

_HEAD = named.pattern(rb'~\{~(?:"signature_name"~:~"([A-Za-z0-9_.-]*)"~,~)?"(instances|inputs)"~:~(?=\[)')
_NUMBER_BYTES = b"0123456789+-. \t\r\n"  # without the letters of exponents, which most bodies lack
_NO_NUMBERS = (b"{", b'"')
_MAX_HEAD, _MAX_HEADS = 128, 256
_heads: dict[bytes, tuple[str, str]] = {}  # signature name and key, by the text up to the list
_BUFFERS = {"float": ("d", "<f8"), "double": ("d", "<f8"), **dict.fromkeys(values.INTEGERS, ("i", "<i8"))}
"""simdjson's code and NumPy's dtype of the buffer that holds the numbers, by the input's dtype."""
_DTYPES = {"float": "f4", "double": "f8", **dict.fromkeys(values.INTEGERS, "i8")}
"""NumPy's dtype of the numbers that `compiled.read_list` reads, by the input's dtype."""
_BLANKS = b" \t\r\n"
_MAX_KEPT_BODY = 2**20  # bytes; simdjson's parser keeps six times the largest body that it has read
_LARGE_BODY = 2**12  # bytes; in smaller ones, NumPy's calls take longer than a regular expression
_MAX_SKELETON = 2**16
_MAX_SHAPES = 256
_NO_SHAPE: tuple[bytes, tuple[int, ...] | None] = b"", None
_shapes: dict[int, tuple[bytes, tuple[int, ...] | None]] = {}  # the last skeleton of a length, and its shape
Find = Callable[[str], tuple[Servable, Signature]]
_local = threading.local()  # `parser`: simdjson's parsers must not be shared by threads


class PredictBody(NamedTuple):
    """What a body asks for.

    inputs  by alias
    is_row  the body is in row format
    shape   of the input, where the body is one tensor of numbers; None for other bodies
    """

    servable: Servable
    signature: Signature
    inputs: dict[str, Array]
    is_row: bool
    shape: tuple[int, ...] | None = None


def read_predict(body: bytes, find: Find, max_depth: int = 0) -> PredictBody:
    """Reads a body.

    find       the version and the signature for a `signature_name`, "" without one. It is called after the syntax has
               been checked and before the values are: the order of TensorFlow Serving's errors
    max_depth  of nested lists and objects; 0: any

    InvalidArgument or Unimplemented, in TensorFlow Serving's words; and what `find` raises.
    """
    return read_numbers(body, find, max_depth) or read_values(body, find, max_depth)


def read_numbers(body: bytes, find: Find, max_depth: int = 0) -> PredictBody | None:
    """As `read_predict` for a body that is one tensor of numbers, in a few nanoseconds a byte; None for any other."""
    start = body.find(b"[", 0, _MAX_HEAD)
    head = _heads.get(body[:start]) if start > 0 else None
    if head is None:
        found = _HEAD.match(body)
        if found is None:
            return None
        start, head = found.end(), ((found[1] or b"").decode(), found[2].decode())
        if start <= _MAX_HEAD and len(_heads) < _MAX_HEADS:
            _heads[body[:start]] = head
    return _read_numbers(body, start, *head, find, max_depth)


def read_values(body: bytes, find: Find, max_depth: int = 0) -> PredictBody:
    """As `read_predict` for any body, through Python values unless it names lists of numbers: up to 5 µs a byte."""
    if compiled.read_list is not None and len(body) >= named.FROM_BYTES:
        read = _read_named(compiled.read_list, body, find, max_depth)
        if read is not None:
            return read
    document = parse_object(body, max_depth)
    servable, signature = find(read_signature_name(document))
    return PredictBody(servable, signature, read_document(document, signature), "instances" in document)


def _read_numbers(
    body: bytes, start: int, signature_name: str, key: str, find: Find, max_depth: int
) -> PredictBody | None:
    """The body as one tensor of numbers; None when it is anything else, or the input takes something else.

    start  of the list behind `key`
    """
    if body.startswith(_NO_NUMBERS, start + 1):
        return None
    if compiled.read_list is not None and (
        read := _read_list(compiled.read_list, body, start, signature_name, key, find, max_depth)
    ):
        return read
    if len(body) >= pieces.FROM_BYTES and (read := _read_pieces(body, start, signature_name, key, find, max_depth)):
        return read
    shape, has_exponents = _find_shape(body, start)
    if shape is None or 0 < max_depth <= len(shape):
        return None
    document = _parse(body)
    if document is None or (has_exponents and _has_large_exponent(body, start)):
        return None
    servable, signature = find(signature_name)
    if len(signature.inputs) != 1:
        return None
    ((alias, info),) = signature.inputs.items()
    array = _to_array(document[key], info, shape)
    return None if array is None else PredictBody(servable, signature, {alias: array}, key == "instances", shape)


def _find_single(find: Find, signature_name: str) -> tuple[Servable, Signature, str, TensorInfo] | None:
    """The version, the signature, and its only input; None if it has several, or is not there."""
    asked = _find_known(find, signature_name)
    if asked is None or len(asked[1].inputs) != 1:
        return None
    ((alias, info),) = asked[1].inputs.items()
    return *asked, alias, info


def _find_known(find: Find, signature_name: str) -> tuple[Servable, Signature] | None:
    """None where it is not there: a fault in the syntax comes before that."""
    try:
        return find(signature_name)
    except ServingError:
        return None


def _read_list(
    read_list: compiled.ReadList, body: bytes, start: int, signature_name: str, key: str, find: Find, max_depth: int
) -> PredictBody | None:
    """`_read_numbers`, compiled; None where anything is unusual."""
    asked = _find_single(find, signature_name)
    if asked is None:
        return None
    servable, signature, alias, info = asked
    dtype = _DTYPES.get(info.type_name)
    found = read_list(body, start, dtype) if dtype is not None else None
    if found is None:
        return None
    numbers, shape, end = found
    if (body[end:] != b"}" and body[end:].strip(_BLANKS) != b"}") or 0 < max_depth <= len(shape):
        return None
    array = _shaped(np.frombuffer(numbers, dtype), info, shape)
    return None if array is None else PredictBody(servable, signature, {alias: array}, key == "instances", shape)


def _read_named(read_list: compiled.ReadList, body: bytes, find: Find, max_depth: int) -> PredictBody | None:
    """The lists of numbers that a body gives by name; None where anything is unusual."""
    head = named.read_head(body)
    if head is None:
        return None
    asked = _find_known(find, head.signature_name)
    if asked is None:
        return None
    servable, signature = asked
    inputs = signature.inputs
    if not all(info.type_name in _DTYPES for info in inputs.values()):
        return None
    found = named.read(body, head, {alias: _DTYPES[info.type_name] for alias, info in inputs.items()}, read_list)
    if found is None or 0 < max_depth <= (2 if head.is_row else 1) + max(array.ndim for array in found.values()):
        return None
    arrays = {}
    for alias, numbers in found.items():
        array = _shaped(numbers.reshape(-1), inputs[alias], numbers.shape)
        if array is None:
            return None
        arrays[alias] = array
    return PredictBody(servable, signature, arrays, head.is_row)


def _read_pieces(
    body: bytes, start: int, signature_name: str, key: str, find: Find, max_depth: int
) -> PredictBody | None:
    """`_read_numbers` for a large body; None where anything is unusual, which is then read as a small one would be."""
    asked = _find_single(find, signature_name)
    if asked is None:
        return None
    servable, signature, alias, info = asked
    code, dtype = _BUFFERS.get(info.type_name, ("", ""))
    if not code:
        return None
    kept = info.numpy if code == "d" else dtype  # integers are compared with their limits first
    found = pieces.read(body, start, pieces.Buffer(code, dtype, kept), _NUMBER_BYTES)
    if found is None:
        return None
    numbers, skeleton = found
    bare = skeleton.translate(None, b"eE")
    shape = _read_skeleton(bare)
    if shape is None or 0 < max_depth <= len(shape):
        return None
    if len(bare) < len(skeleton) and _has_large_exponent(body, start):
        return None
    array = _shaped(numbers, info, shape)
    return None if array is None else PredictBody(servable, signature, {alias: array}, key == "instances", shape)


def _has_large_exponent(body: bytes, start: int) -> bool:
    """LARGE_EXPONENT in valid JSON, from `start` on; in a large body by NumPy, in a tenth of the time."""
    if len(body) < _LARGE_BODY:
        return LARGE_EXPONENT.search(body, start) is not None
    characters = np.frombuffer(body, np.uint8)[start:]
    at = np.flatnonzero((characters | 32) == ord("e"))
    at = at[(characters[at - 1] == ord("0")) & (characters[at + 1] != ord("-"))]
    third = characters[at + 3 + (characters[at + 1] == ord("+"))]  # digit of the exponent, if it has three
    return bool(((third >= ord("0")) & (third <= ord("9"))).any())


def _find_shape(body: bytes, start: int) -> tuple[tuple[int, ...] | None, bool]:
    """The shape of the evenly nested list at `start`, None when it is not one; and whether numbers may have exponents.

    Brackets and commas alone decide the shape, and are the same in every body of that shape: `[[,],[,]]}`.
    """
    if len(body) < _LARGE_BODY:
        skeleton = body[start:].translate(None, _NUMBER_BYTES)
    else:  # without a copy of the body
        skeleton = body.translate(None, _NUMBER_BYTES)[len(body[:start].translate(None, _NUMBER_BYTES)) :]
    known, shape = _shapes.get(len(skeleton), _NO_SHAPE)
    if known == skeleton:
        return shape, False
    bare = skeleton.translate(None, b"eE") if b"e" in skeleton or b"E" in skeleton else skeleton
    known, shape = _shapes.get(len(bare), _NO_SHAPE)
    if known != bare:
        shape = _read_skeleton(bare)
        if shape is not None and len(bare) <= _MAX_SKELETON:
            if len(_shapes) >= _MAX_SHAPES:
                _shapes.clear()
            _shapes[len(bare)] = bare, shape
    return shape, len(bare) < len(skeleton)


def _parse(body: bytes) -> Any:
    """simdjson's document; None when it cannot parse the body."""
    is_kept = len(body) <= _MAX_KEPT_BODY
    parser = getattr(_local, "parser", None) if is_kept else None
    if parser is None:
        parser = simdjson.Parser()
        if is_kept:
            _local.parser = parser
    try:
        return parser.parse(body)
    except RuntimeError:  # the parser is in use: a request that failed still holds a part of its document
        _local.parser = simdjson.Parser()
    except ValueError:
        pass
    return None


def _to_array(numbers: Any, info: TensorInfo, shape: tuple[int, ...]) -> Array | None:
    code, dtype = _BUFFERS.get(info.type_name, ("", ""))
    if not code:
        return None
    try:
        flat: Array = np.frombuffer(numbers.as_buffer(of_type=code), dtype)
    except (TypeError, ValueError):  # not all are numbers, or integers where integers are needed
        return None
    return _shaped(flat, info, shape)


def _shaped(flat: Array, info: TensorInfo, shape: tuple[int, ...]) -> Array | None:
    """Numbers as a tensor of the input; None when there are fewer or more, or some do not fit its dtype."""
    if flat.size != math.prod(shape):  # an empty list has the skeleton of one number
        return None
    limits = values.INTEGERS.get(info.type_name)
    if limits and flat.size and (flat.max() > limits[1] or flat.min() < limits[0]):
        return None
    return flat.astype(info.numpy, copy=False).reshape(shape)


def _read_skeleton(skeleton: bytes) -> tuple[int, ...] | None:
    """The shape of an evenly nested list, from its brackets and commas and the `}` after it; else None."""
    if not skeleton.startswith(b"[") or not skeleton.endswith(b"}"):
        return None
    inner = skeleton[:-1]
    rank = len(inner) - len(inner.lstrip(b"["))
    if rank > values.MAX_RANK:
        return None
    shape: tuple[int, ...] = ()
    element = b""  # the skeleton of one element of the present level; a number has none
    for start in range(rank, 0, -1):
        count = 1 + _repeats(inner, start + len(element), b"," + element)
        element = b"[" + element + (b"," + element) * (count - 1) + b"]"
        shape = (count, *shape)
    return shape if element == inner else None


def _repeats(text: bytes, at: int, pattern: bytes) -> int:
    """How often the pattern repeats from `at` on. Strides double, then halve: a loop over millions would be slow."""
    found, stride, is_growing = 0, 1, True
    while stride:
        if text.startswith(pattern * stride, at + found * len(pattern)):
            found += stride
            stride = stride * 2 if is_growing else stride // 2
        else:
            is_growing = False
            stride //= 2
    return found
