"""NumPy arrays to TensorProto and back, as TensorFlow Serving reads and writes them.

Strings are object arrays of bytes. NumPy lacks bfloat16, so it is the record dtype `BFLOAT16`, which holds the 16 bits;
`widen` makes it float32. Arrays of ml_dtypes' bfloat16 are accepted too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.varints import packed_varints, read_varint, varint

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
MAX_RANK = 32
MAX_ELEMENTS = (2**63 - 1) // 16  # the bytes of any dtype then fit an int64
MAX_BYTES = 2**31 - 1  # the most that one protobuf message holds


@dataclass(frozen=True)
class DType:
    """One element type.

    number, name  on the wire
    numpy         its NumPy dtype
    field         the field of TensorProto that holds its values
    stored        the dtype of that field's elements; a complex number takes two of them
    tag           the field's number and wire type, as bytes
    """

    number: int
    name: str
    numpy: np.dtype[Any]
    field: str
    stored: np.dtype[Any]
    tag: bytes


def _dtypes() -> list[DType]:
    rows: list[tuple[str, Any, str, str]] = [
        ("DT_FLOAT", "<f4", "float_val", "<f4"),
        ("DT_DOUBLE", "<f8", "double_val", "<f8"),
        ("DT_INT32", "<i4", "int_val", "<i4"),
        ("DT_UINT8", "u1", "int_val", "<i4"),
        ("DT_INT16", "<i2", "int_val", "<i4"),
        ("DT_INT8", "i1", "int_val", "<i4"),
        ("DT_STRING", "O", "string_val", "O"),
        ("DT_COMPLEX64", "<c8", "scomplex_val", "<f4"),
        ("DT_INT64", "<i8", "int64_val", "<i8"),
        ("DT_BOOL", "?", "bool_val", "?"),
        ("DT_BFLOAT16", BFLOAT16, "half_val", "<i4"),
        ("DT_UINT16", "<u2", "int_val", "<i4"),
        ("DT_COMPLEX128", "<c16", "dcomplex_val", "<f8"),
        ("DT_HALF", "<f2", "half_val", "<i4"),
        ("DT_UINT32", "<u4", "uint32_val", "<u4"),
        ("DT_UINT64", "<u8", "uint64_val", "<u8"),
    ]
    fields = pb.TensorProto.DESCRIPTOR.fields_by_name
    return [
        DType(pb.DataType.Value(name), name, np.dtype(numpy), field, np.dtype(stored), _tag(fields[field].number))
        for name, numpy, field, stored in rows
    ]


def _tag(field_number: int) -> bytes:
    return varint(field_number << 3 | 2)


DTYPES = {dtype.number: dtype for dtype in _dtypes()}
_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES.values()}
STRING = DTYPES[pb.DataType.Value("DT_STRING")]
_CONTENT_TAG = _tag(pb.TensorProto.DESCRIPTOR.fields_by_name["tensor_content"].number)


def dtype_of(array: Array) -> DType:
    """The element type of an array on the wire. ValueError: it has none."""
    found = _BY_NUMPY.get(array.dtype)
    if found is not None:
        return found
    if array.dtype.kind in "SU":
        return STRING
    if array.dtype.name == "bfloat16":
        return _BY_NUMPY[BFLOAT16]
    found = _BY_NUMPY.get(array.dtype.newbyteorder("<"))
    if found is None:
        known = ", ".join(str(d.numpy) for d in DTYPES.values() if d.numpy.kind not in "OV")
        raise ValueError(f"got dtype {array.dtype}, which cannot be sent; expected one of {known}, bytes or str")
    return found


def widen(array: Array) -> Array:
    """`BFLOAT16` as float32, exactly; any other array as it is."""
    if array.dtype != BFLOAT16:
        return array
    # A bfloat16 is the upper half of a float32.
    return (array["bfloat16"].astype("<u4") << 16).view("<f4")


def narrow(array: Array) -> Array:
    """float32 rounded to the nearest `BFLOAT16`, of two to the one whose last bit is 0; NaN stays NaN."""
    bits: Array = np.asarray(array, "<f4", order="C").view("<u4")
    upper = bits >> 16
    rounded = (bits + (0x7FFF + (upper & 1))) >> 16
    return np.where(np.isnan(array), upper | 0x40, rounded).astype("<u2").view(BFLOAT16)


# TensorProto -> array


def to_array(proto: Any, limit_bytes: int = MAX_BYTES) -> Array:
    """The array in a TensorProto; read-only where it shares the message's bytes.

    As in TensorFlow, `tensor_content` must have the exact length. If typed values are missing, the last one is repeated
    (without any: zeros, empty strings); surplus values are ignored; integers beyond the dtype's range wrap.
    ValueError: the message is malformed, or repeated values would take more than `limit_bytes`.
    """
    dtype = DTYPES.get(proto.dtype)
    if dtype is None:
        raise ValueError(f"dtype {_name(proto.dtype)} is not supported; expected one of {_names()}")
    shape = _shape(proto.tensor_shape)
    count = math.prod(shape)
    content = proto.tensor_content
    if not content:
        return _from_values(dtype, getattr(proto, dtype.field), count, limit_bytes, shape).reshape(shape)
    if dtype is STRING:
        return _split_strings(content, count).reshape(shape)
    if len(content) != count * dtype.numpy.itemsize:
        needed = count * dtype.numpy.itemsize
        raise ValueError(f"tensor_content has {len(content)} bytes; {_say(dtype, shape)} needs {needed}")
    return np.frombuffer(content, dtype.numpy).reshape(shape)


def to_arrays(protos: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays in TensorProtos by name, bfloat16 as float32. ValueError: one is malformed."""
    return {name: widen(to_array(proto)) for name, proto in protos.items()}


def _shape(proto: Any) -> tuple[int, ...]:
    if proto.unknown_rank:
        raise ValueError("tensor_shape has unknown rank; a value needs its dimensions")
    shape = tuple([dim.size for dim in proto.dim])
    if not shape:
        return shape
    if min(shape) < 0:
        raise ValueError(f"tensor_shape {list(shape)} has a negative dimension; a value needs its real size")
    if len(shape) > MAX_RANK:
        raise ValueError(f"tensor_shape has {len(shape)} dimensions; at most {MAX_RANK} are supported")
    if math.prod([size for size in shape if size]) > MAX_ELEMENTS:
        raise ValueError(f"tensor_shape {list(shape)} has more elements than can be counted")
    return shape


def _from_values(dtype: DType, values: Any, count: int, limit_bytes: int, shape: tuple[int, ...]) -> Array:
    per_element = 2 if dtype.numpy.kind == "c" else 1
    present = len(values) // per_element
    if dtype is STRING:
        array = np.empty(present, dtype.numpy)
        array[:] = values[:]
    else:
        array = np.array(values, dtype.stored)[: present * per_element]
        array = _unstore(dtype, array)
    if present >= count:
        return array[:count]
    if count * dtype.numpy.itemsize > limit_bytes:
        needed = count * dtype.numpy.itemsize
        raise ValueError(
            f"{_say(dtype, shape)} needs {needed} bytes but comes with {present} values; "
            f"more than {limit_bytes} bytes are not filled in"
        )
    full = np.empty(count, dtype.numpy)
    full[:present] = array
    full[present:] = array[-1] if present else (b"" if dtype is STRING else np.zeros((), dtype.numpy))
    return full


def _unstore(dtype: DType, array: Array) -> Array:
    if dtype.field == "half_val":
        return array.astype("<u2").view(dtype.numpy)
    if dtype.numpy.kind == "c":
        return array.view(dtype.numpy)
    return array.astype(dtype.numpy, copy=False)


def _split_strings(content: bytes, count: int) -> Array:
    """Strings as TensorFlow writes them into `tensor_content`: the length of each as a varint, then all the bytes."""
    lengths, at = [], 0
    try:
        for _ in range(count):
            length, at = read_varint(content, at)
            lengths.append(length)
    except ValueError:
        raise ValueError("tensor_content holds a string length of more than 64 bits") from None
    except IndexError:
        raise ValueError(f"tensor_content holds {len(lengths)} string lengths; {count} are needed") from None
    if at + sum(lengths) != len(content):
        raise ValueError(f"tensor_content has {len(content)} bytes; its strings need {at + sum(lengths)}")
    strings = np.empty(count, object)
    for i, length in enumerate(lengths):
        strings[i] = content[at : at + length]
        at += length
    return strings


# array -> TensorProto


def fill(proto: Any, array: Array, content: bool = False) -> None:
    """Write an array into an empty TensorProto, e.g. `request.inputs["image"]`. ValueError: its dtype cannot be sent.

    content  write `tensor_content` instead of typed values
    """
    proto.MergeFromString(serialize(array, content))


def serialize(array: Array, content: bool = False) -> bytes:
    """A serialized TensorProto, made several times as fast as through a message object."""
    return b"".join(serialize_parts(array, content))


def serialize_parts(array: Array, content: bool = False) -> tuple[bytes, bytes]:
    """`serialize` in two parts: the head, which is cached by dtype and shape, and the values."""
    dtype = dtype_of(array)
    if dtype is STRING:
        strings = _encoded(array)
        if not content:
            values = b"".join([part for text in strings for part in (dtype.tag, varint(len(text)), text)])
            return _header(dtype.number, array.shape), values
        packed = b"".join([varint(len(text)) for text in strings] + strings)
        return _head(dtype.number, array.shape, _CONTENT_TAG, len(packed)), packed
    if array.dtype != dtype.numpy:  # big-endian, or ml_dtypes' bfloat16
        array = array.view(BFLOAT16) if dtype.numpy == BFLOAT16 else array.astype(dtype.numpy)
    if array.nbytes > MAX_BYTES:
        raise ValueError(f"{_say(dtype, array.shape)} has {array.nbytes} bytes; one message holds {MAX_BYTES}")
    if not array.size:
        return _header(dtype.number, array.shape), b""
    if _is_raw(dtype, content):
        packed = array.tobytes()
    else:
        flat = np.ascontiguousarray(array).reshape(-1)
        packed = packed_varints(flat.view("<u2") if dtype.field == "half_val" else flat)
    return _head(dtype.number, array.shape, _CONTENT_TAG if content else dtype.tag, len(packed)), packed


def serialize_each(arrays: Iterable[Array], content: bool = False) -> list[tuple[bytes, bytes]]:
    """`serialize_parts` of each array."""
    return [serialize_parts(array, content) for array in arrays]


def serialize_rows(array: Array, content: bool = False) -> list[tuple[bytes, bytes]]:
    """`serialize_parts` of each row [1, ...] of an array [n, ...]; the rows share one head and one copy."""
    dtype = dtype_of(array)
    if dtype is STRING or array.dtype != dtype.numpy or not array.size or not _is_raw(dtype, content):
        return [serialize_parts(array[i : i + 1], content) for i in range(len(array))]
    packed = array.tobytes()
    size = len(packed) // len(array)
    head = _head(dtype.number, (1, *array.shape[1:]), _CONTENT_TAG if content else dtype.tag, size)
    return [(head, packed[at : at + size]) for at in range(0, len(packed), size)]


def _is_raw(dtype: DType, content: bool) -> bool:
    """Whether values have the same bytes on the wire as in memory."""
    return content or dtype.stored.kind not in "iu"


def _encoded(array: Array) -> list[bytes]:
    strings = array.ravel().tolist()
    for i, string in enumerate(strings):
        if isinstance(string, str):
            strings[i] = string.encode()
        elif not isinstance(string, bytes):
            raise ValueError(f"got {type(string).__name__} at index {i} of an object array; expected bytes or str")
    return strings


@lru_cache(maxsize=4096)
def _header(number: int, shape: tuple[int, ...]) -> bytes:
    dims = [pb.TensorShapeProto.Dim(size=size) for size in shape]
    header: bytes = pb.TensorProto(dtype=number, tensor_shape=pb.TensorShapeProto(dim=dims)).SerializeToString()
    return header


@lru_cache(maxsize=4096)
def _head(number: int, shape: tuple[int, ...], tag: bytes, size: int) -> bytes:
    """Everything in front of `size` bytes of packed values."""
    return _header(number, shape) + tag + varint(size)


def _say(dtype: DType, shape: tuple[int, ...]) -> str:
    return f"{dtype.name} {list(shape)}"


def _name(number: int) -> str:
    known: str = pb.DataType.Name(number) if number in pb.DataType.values() else str(number)
    return known


def _names() -> str:
    return ", ".join(sorted(dtype.name for dtype in DTYPES.values()))
