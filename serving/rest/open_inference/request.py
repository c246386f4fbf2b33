"""Reads an infer request: its JSON part, and the tensors in it or behind it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import SIGNATURE
from ladle.serving.errors import InvalidArgument
from ladle.serving.open_inference import datatypes
from ladle.serving.open_inference.inference import Output, check_parameters
from ladle.serving.rest.http.messages import Request
from ladle.serving.rest.json import compiled
from ladle.serving.rest.json.text import check_strings, parse_object
from ladle.serving.rest.json.values import decode_base64, is_base64

_LENGTH = b"inference-header-content-length"
MAX_CACHED_HEAD = 4096
_NUMBERS_FROM_BYTES = 2**10  # of a JSON part; in smaller ones a list of Python's numbers takes less time
_DATA = re.compile(rb'(?<!\\)"data"\s*:\s*(?=\[)')
_FLOATS = (np.dtype("<f4"), np.dtype("<f8"))
_DEPTH_OF_DATA = 3  # the object, the list of inputs, the input


@dataclass(frozen=True)
class Numbers:
    """A list of numbers, cut out of the JSON part.

    text     as it was written
    doubles  float64 [n], each rounded correctly
    """

    text: bytes
    doubles: Array


@dataclass(frozen=True)
class Input:
    """An input as the JSON part of a request declares it.

    data        its JSON values, or Numbers; None where its bytes follow the JSON part
    start, end  of those bytes, from the end of the JSON part
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any = None
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Head:
    """The JSON part of a request. size_bytes: what must follow it; key: equal for equal forms, None if not reusable."""

    id: str
    signature: str
    timeout_s: float | None
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    is_binary: bool
    size_bytes: int
    key: Any = None

    @functools.cached_property
    def is_raw(self) -> bool:
        """Whether every input's bytes follow, and none holds strings: reading it then takes no time."""
        return self.key is not None and all(entry.datatype != "BYTES" for entry in self.inputs)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Of the outputs that it asks for; empty: all."""
        return tuple([output.name for output in self.outputs])

    @functools.cached_property
    def wants_all(self) -> bool:
        """Whether the answer holds the bytes of all outputs, and nothing of the request."""
        return self.is_binary and not self.outputs and not self.id


Place = tuple[str, np.dtype[Any], tuple[int, ...], int]
"""A tensor's name, dtype and shape, and where it begins behind the JSON part."""


@dataclass(frozen=True, eq=False)
class Form:
    """A JSON part that came before, with all tensors behind it. Hashed by identity: a key of request shapes."""

    head: Head
    places: tuple[Place, ...]

    def read(self, body: bytes, length: int) -> dict[str, Array] | None:
        """The inputs, as `read_inputs` gives them; None when their bytes have another length."""
        if len(body) - length != self.head.size_bytes:
            return None
        tensors = {}  # a loop: a comprehension would be a call of its own
        for name, dtype, shape, start in self.places:
            tensors[name] = np.ndarray(shape, dtype, body, length + start)  # a third of the time of np.frombuffer
        return tensors


def form_of(head: Head) -> Form | None:
    """The form of a JSON part; None unless it may be kept and its tensors are numbers that fit their bytes."""
    if not head.is_raw or head.id:
        return None
    places = []
    for entry in head.inputs:
        dtype, count = datatypes.DTYPES[entry.datatype], math.prod(entry.shape)
        if not count or count * dtype.itemsize != entry.end - entry.start:
            return None
        places.append((entry.name, dtype, entry.shape, entry.start))
    return Form(head, tuple(places))


def read_length(request: Request) -> int | None:
    """The length of the JSON part; None when the whole body is JSON."""
    text = request.headers.get(_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        shown = text[:40].decode("latin-1")
        raise InvalidArgument(f"got Inference-Header-Content-Length {shown!r}; expected the bytes of the JSON part")
    return int(text)


def parse(body: bytes, length: int | None, max_depth: int, max_bytes: int) -> tuple[Head, dict[str, Array]]:
    """A whole body. length: of the JSON part, as `read_length` gives it; InvalidArgument for a malformed body."""
    text = body if length is None else body[:length]
    check_strings(text, max_bytes)
    head = parse_head(text, max_depth)
    return head, read_inputs(head, body, len(body) if length is None else length, max_bytes)


def parse_head(text: bytes, max_depth: int) -> Head:
    """The JSON part. Clients send the same one again and again when tensors are binary, so those are remembered."""
    if len(text) <= MAX_CACHED_HEAD and b'"data"' not in text and b'"id"' not in text:
        return _cached_head(text, max_depth)
    return _new_head(text, max_depth)


def _cut_numbers(text: bytes, max_depth: int) -> tuple[bytes, dict[str, Numbers]]:
    """The text with a string in the place of each `data` that is a list of numbers, and the lists by that string."""
    found: dict[str, Numbers] = {}
    read_list = compiled.read_list
    # A zero byte, which JSON spells in one way, marks the places: no string of the caller may look like a mark.
    if read_list is None or len(text) < _NUMBERS_FROM_BYTES or b"\\u0000" in text or b"\0" in text:
        return text, found
    kept, done = [], 0
    for match in _DATA.finditer(text):
        start = match.end()
        read = read_list(text, start, "f8") if start >= done else None
        if read is None or 0 < max_depth <= len(read[1]) + _DEPTH_OF_DATA:
            continue
        numbers, _, end = read
        mark = f"\0{len(found)}"  # no data is a string
        found[mark] = Numbers(text[start:end], np.frombuffer(numbers, np.float64))
        kept += [text[done:start], b'"\\u0000%d"' % (len(found) - 1)]
        done = end
    return b"".join([*kept, text[done:]]), found


def _new_head(text: bytes, max_depth: int) -> Head:
    bare, numbers = _cut_numbers(text, max_depth)
    if numbers:
        with contextlib.suppress(InvalidArgument):  # the whole text has it, too, and names its places
            head = _head_of(parse_object(bare, max_depth), numbers)
            if sum(isinstance(entry.data, Numbers) for entry in head.inputs) == len(numbers):  # no other key was `data`
                return head
    return _head_of(parse_object(text, max_depth), {})


def _head_of(document: Mapping[str, Any], numbers: Mapping[str, Numbers]) -> Head:
    parameters = object_of(document, "parameters", "the request")
    check_parameters(parameters)
    timeout_us = parameters.get("timeout", 0)
    if not isinstance(timeout_us, int) or isinstance(timeout_us, bool) or timeout_us < 0:
        raise InvalidArgument(f"got the parameter timeout {timeout_us!r}; expected microseconds, as an integer")
    inputs, at = [], 0
    for entry in _list(document, "inputs"):
        read = _read_input(entry, at, numbers)
        inputs.append(read)
        at = read.end
    names = [entry.name for entry in inputs]
    if len(set(names)) != len(names):
        raise InvalidArgument(f"an input is given twice: {', '.join(sorted(names))}")
    outputs = tuple(_read_output(entry) for entry in _list(document, "outputs", optional=True))
    is_reusable = all(entry.data is None for entry in inputs)
    return Head(
        id=_text(document, "id", "the request", optional=True),
        signature=_text(parameters, SIGNATURE, "the request's parameters", optional=True),
        timeout_s=timeout_us / 1e6 if timeout_us else None,
        inputs=tuple(inputs),
        outputs=outputs,
        is_binary=parameters.get("binary_data_output") is True,
        size_bytes=at,
        key=tuple((i.name, i.datatype, i.shape) for i in inputs) + outputs if is_reusable else None,
    )


_cached_head = functools.lru_cache(maxsize=512)(_new_head)


def _read_input(entry: Any, start: int, numbers: Mapping[str, Numbers]) -> Input:
    if not isinstance(entry, dict):
        raise InvalidArgument(f"got {type(entry).__name__} among the inputs; expected objects")
    name = _text(entry, "name", "an input")
    where = f'input "{name}"'
    datatype = _text(entry, "datatype", where)
    datatypes.dtype_of(name, datatype)
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise InvalidArgument(f"{where}: got shape {shape!r:.200}; expected a list of integers")
    datatypes.count_elements(name, shape)
    parameters = object_of(entry, "parameters", where)
    check_parameters(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        data = entry.get("data")
        data = numbers.get(data, data) if isinstance(data, str) else data
        if not isinstance(data, list | Numbers):
            raise InvalidArgument(f"{where} has no data; expected a list, or the parameter binary_data_size")
        return Input(name, datatype, tuple(shape), data, start, start)
    if type(size) is not int or size < 0:
        raise InvalidArgument(f"{where}: got binary_data_size {size!r:.40}; expected the number of its bytes")
    if "data" in entry:
        raise InvalidArgument(f"{where} has both data and binary_data_size; send one of them")
    return Input(name, datatype, tuple(shape), None, start, start + size)


def _read_output(entry: Any) -> Output:
    if not isinstance(entry, dict):
        raise InvalidArgument(f"got {type(entry).__name__} among the outputs; expected objects")
    name = _text(entry, "name", "an output")
    parameters = object_of(entry, "parameters", f'output "{name}"')
    check_parameters(parameters)
    classes, binary = parameters.get("classification", 0), parameters.get("binary_data")
    if type(classes) is not int or classes < 0:
        raise InvalidArgument(f'output "{name}": got classification {classes!r:.40}; expected how many classes')
    if binary is not None and type(binary) is not bool:
        raise InvalidArgument(f'output "{name}": got binary_data {binary!r:.40}; expected true or false')
    return Output(name, classes, binary)


def read_inputs(head: Head, body: bytes, length: int, max_bytes: int) -> dict[str, Array]:
    """The inputs as arrays. length: of the JSON part, after which the binary tensors follow in order."""
    if not head.is_raw:
        datatypes.check_strings([(entry.datatype, entry.shape) for entry in head.inputs], max_bytes)
    if len(body) - length != head.size_bytes:
        if length > len(body):
            raise InvalidArgument(f"got Inference-Header-Content-Length {length}; the body has {len(body)} bytes")
        raise InvalidArgument(
            f"got {len(body) - length} bytes after the JSON part; the inputs' binary_data_size are {head.size_bytes}"
        )
    raw = memoryview(body)
    return {
        entry.name: (
            datatypes.unpack_checked(
                entry.name, entry.datatype, entry.shape, raw[length + entry.start : length + entry.end]
            )
            if entry.data is None
            else from_json(entry)
        )
        for entry in head.inputs
    }


def from_json(entry: Input) -> Array:
    """The array of JSON values, nested or flat. InvalidArgument: their number or type does not fit."""
    where = f'input "{entry.name}"'
    dtype = datatypes.DTYPES[entry.datatype]
    if isinstance(entry.data, Numbers):
        array = _to_array(entry, entry.data, dtype)
        if array is not None:
            return array
        flat: list[Any] = parse_object(b'{"data":%b}' % entry.data.text)["data"]
    else:
        flat = entry.data
    while flat and type(flat[0]) is list:
        if set(map(type, flat)) != {list}:
            raise InvalidArgument(f"{where}: its data mixes lists and values at one level")
        flat = list(itertools.chain.from_iterable(flat))
    count = datatypes.count_elements(entry.name, entry.shape)
    if len(flat) != count:
        raise InvalidArgument(f"{where}: got {len(flat)} values; shape {list(entry.shape)} has {count}")
    kinds = set(map(type, flat))
    if dtype.kind == "O":
        array = np.empty(count, object)
        array[:] = [_to_bytes(value, where) for value in flat]
        return array.reshape(entry.shape)
    allowed: set[type] = {bool} if dtype.kind == "b" else {int} if dtype.kind in "iu" else {int, float}
    if not kinds <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise InvalidArgument(f"{where}: got {wrong!r:.60}; expected a value of {entry.datatype}")
    if dtype.kind in "iu" and flat:
        datatypes.check_range(entry.name, entry.datatype, min(flat), max(flat))
    if dtype == tensors.BFLOAT16:
        return tensors.narrow(np.array(flat, np.float32)).reshape(entry.shape)
    try:
        return np.array(flat, dtype).reshape(entry.shape)
    except OverflowError:
        raise InvalidArgument(f"{where}: an integer is too large for {entry.datatype}") from None


def _to_array(entry: Input, numbers: Numbers, dtype: np.dtype[Any]) -> Array | None:
    """None where values must be looked at one by one: another number of them than the shape has, or another type."""
    if numbers.doubles.size != datatypes.count_elements(entry.name, entry.shape):
        return None
    if dtype in _FLOATS:
        return numbers.doubles.astype(dtype, copy=False).reshape(entry.shape)
    found = compiled.read_list(numbers.text, 0, "i8") if dtype.kind in "iu" and compiled.read_list is not None else None
    if found is None:
        return None
    integers = np.frombuffer(found[0], np.int64)
    datatypes.check_range(entry.name, entry.datatype, int(integers.min()), int(integers.max()))
    return integers.astype(dtype).reshape(entry.shape)


def _to_bytes(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if is_base64(value):
        return decode_base64(value)
    raise InvalidArgument(f'{where}: got {value!r:.60}; expected a string, or {{"b64": ...}} for bytes')


def _text(holder: Mapping[str, Any], key: str, where: str, optional: bool = False) -> str:
    value = holder.get(key, "" if optional else None)
    if not isinstance(value, str):
        raise InvalidArgument(f"{where}: got {key} {value!r:.60}; expected a string")
    return value


def object_of(holder: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """The object in `holder`, by default an empty one; InvalidArgument for another type."""
    value = holder.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where}: got {key} {value!r:.60}; expected an object")
    return value


def _list(holder: Mapping[str, Any], key: str, optional: bool = False) -> list[Any]:
    value = holder.get(key, [] if optional else None)
    if not isinstance(value, list):
        raise InvalidArgument(f"got {key} {value!r:.60}; expected a list of objects")
    return value
