"""What a request says of its tensors, checked: datatypes, shapes, ranges of integers, raw bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ladle.clients.wire import open_inference
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import DTYPES, name_of, pack, strings_of
from ladle.clients.wire.tensors import MAX_ELEMENTS, MAX_RANK
from ladle.serving.errors import InvalidArgument
from ladle.serving.runtime.memory import STRING_BYTES, most_strings

__all__ = [
    "DTYPES",
    "check_range",
    "check_strings",
    "count_elements",
    "dtype_of",
    "name_of",
    "pack",
    "strings_of",
    "unpack",
]


def check_strings(inputs: Iterable[tuple[str, Sequence[int]]], max_bytes: int) -> None:
    """InvalidArgument when the inputs of a request, as pairs of datatype and shape, hold more strings than it may."""
    # A negative size, which is refused when its input is read, must not make up for others.
    count = sum([max(0, math.prod(shape)) for datatype, shape in inputs if datatype == "BYTES"])
    if count > most_strings(max_bytes):
        raise InvalidArgument(
            f"got {count} elements of BYTES; expected at most {most_strings(max_bytes)} in a request, since each "
            f"counts {STRING_BYTES} bytes of --max_request_bytes; send several requests"
        )


def dtype_of(tensor: str, datatype: str) -> np.dtype[Any]:
    """The NumPy dtype of a datatype. InvalidArgument: there is no such datatype."""
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise InvalidArgument(f'input "{tensor}": got datatype {datatype!r}; expected one of {", ".join(DTYPES)}')
    return dtype


def count_elements(tensor: str, shape: Sequence[int]) -> int:
    """The elements of a shape. InvalidArgument: a size is negative, or there are too many elements or axes."""
    if any(size < 0 for size in shape):
        raise InvalidArgument(f'input "{tensor}": got shape {list(shape)}; expected its real sizes, none below 0')
    if len(shape) > MAX_RANK:
        raise InvalidArgument(f'input "{tensor}": got {len(shape)} axes; expected at most {MAX_RANK}')
    if math.prod([size for size in shape if size]) > MAX_ELEMENTS:
        raise InvalidArgument(f'input "{tensor}": shape {list(shape)} has more elements than can be counted')
    return math.prod(shape)


def check_range(tensor: str, datatype: str, least: int, most: int) -> None:
    """InvalidArgument unless the integer datatype holds the least and the most of an input's values."""
    limits = np.iinfo(DTYPES[datatype])
    if least < limits.min or most > limits.max:
        wrong = least if least < limits.min else most
        raise InvalidArgument(f'input "{tensor}": got {wrong}; {datatype} holds {limits.min} to {limits.max}')


def unpack(tensor: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """The array in raw bytes; read-only, since it shares them. InvalidArgument: they do not fit the shape."""
    dtype_of(tensor, datatype)
    count_elements(tensor, shape)
    return unpack_checked(tensor, datatype, shape, raw)


def unpack_checked(tensor: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """As `unpack`, of a datatype and a shape that have been checked."""
    try:
        return open_inference.unpack(datatype, shape, raw)
    except ValueError as error:
        raise InvalidArgument(f'input "{tensor}": {error}') from None
