"""Datatypes of the Open Inference Protocol, and tensors as its raw bytes.

Raw bytes are little-endian and row-major. An element of BYTES is its length as uint32, then that many bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.clients.wire.tensors import BFLOAT16, MAX_ELEMENTS, MAX_RANK
from ladle.serving.errors import InvalidArgument

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": BFLOAT16,
    "BYTES": np.dtype("O"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def name_of(dtype: np.dtype[Any] | None) -> str:
    """The datatype of a NumPy dtype; "" for one that the protocol cannot carry, such as a complex number."""
    return _NAMES.get(dtype, "") if dtype is not None else ""


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
    dtype, count = dtype_of(tensor, datatype), count_elements(tensor, shape)
    if dtype.kind == "O":
        return _unpack_strings(tensor, count, raw).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise InvalidArgument(
            f'input "{tensor}": got {len(raw)} bytes; {datatype} {list(shape)} has {count * dtype.itemsize}'
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def _unpack_strings(tensor: str, count: int, raw: bytes | memoryview) -> Array:
    data = bytes(raw)
    strings: list[bytes] = []
    at = 0
    while at < len(data) and len(strings) < count:
        start = at + 4
        end = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or end > len(data):
            raise InvalidArgument(f'input "{tensor}": element {len(strings)} of BYTES ends beyond the tensor\'s bytes')
        strings.append(data[start:end])
        at = end
    if len(strings) != count or at != len(data):
        raise InvalidArgument(
            f'input "{tensor}": got {len(data)} bytes, which are not {count} elements of BYTES; '
            "expected a uint32 length before each element"
        )
    array = np.empty(count, object)
    array[:] = strings
    return array


def pack(array: Array) -> bytes:
    """The raw bytes of an output. InvalidArgument: its dtype has no datatype."""
    if array.dtype.kind != "O":
        return array.tobytes()
    return b"".join([part for text in strings_of(array) for part in (len(text).to_bytes(4, "little"), text)])


def strings_of(array: Array) -> list[bytes]:
    """The elements of an array of strings, as bytes."""
    return [text.encode() if isinstance(text, str) else text for text in array.ravel().tolist()]
