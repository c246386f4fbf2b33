"""The Open Inference Protocol's datatypes, and tensors as its raw bytes.

Raw bytes are little-endian and row-major. An element of BYTES is its length as uint32, then that many bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.clients.wire.tensors import BFLOAT16

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
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of InferTensorContents that holds a datatype's values; FP16 and BF16 have none."""
LENGTH_HEADER = "Inference-Header-Content-Length"
SIGNATURE = "signature_name"
"""The parameter that chooses a signature. The protocol itself has one function a model."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def name_of(dtype: np.dtype[Any] | None) -> str:
    """The datatype of a NumPy dtype; "" for one that the protocol cannot carry, such as a complex number."""
    return _NAMES.get(dtype, "") if dtype is not None else ""


def unpack(datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """The array in raw bytes; read-only, since it shares them. ValueError: they do not fit the shape."""
    dtype, count = DTYPES[datatype], math.prod(shape)
    if dtype.kind == "O":
        return _unpack_strings(count, raw).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"got {len(raw)} bytes; {datatype} {list(shape)} has {count * dtype.itemsize}")
    return np.frombuffer(raw, dtype).reshape(shape)


def _unpack_strings(count: int, raw: bytes | memoryview) -> Array:
    data = bytes(raw)
    strings: list[bytes] = []
    at = 0
    while at < len(data) and len(strings) < count:
        start = at + 4
        end = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or end > len(data):
            raise ValueError(f"element {len(strings)} of BYTES ends beyond the tensor's bytes")
        strings.append(data[start:end])
        at = end
    if len(strings) != count or at != len(data):
        raise ValueError(
            f"got {len(data)} bytes, which are not {count} elements of BYTES; "
            "expected a uint32 length before each element"
        )
    array = np.empty(count, object)
    array[:] = strings
    return array


def pack(array: Array) -> bytes:
    """The raw bytes of an array."""
    if array.dtype.kind != "O":
        return array.tobytes()
    if array.size == 1:  # the label of one row
        [text] = strings_of(array)
        return len(text).to_bytes(4, "little") + text
    return b"".join([part for text in strings_of(array) for part in (len(text).to_bytes(4, "little"), text)])


def strings_of(array: Array) -> list[bytes]:
    """The elements of an array of strings, as bytes."""
    return [text.encode() if isinstance(text, str) else text for text in array.ravel().tolist()]
