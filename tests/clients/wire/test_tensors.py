from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

NUMBERS = [dtype for dtype in tensors.DTYPES.values() if dtype is not tensors.STRING]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
CONTENT = pytest.mark.parametrize("content", [False, True], ids=["typed", "content"])


def tensor(dtype: str, shape: list[int], **fields: Any) -> Any:
    proto = pb.TensorProto(dtype=pb.DataType.Value(dtype), **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def sent(array: np.ndarray[Any, Any], content: bool = False) -> Any:
    """What a receiver parses."""
    return pb.TensorProto.FromString(tensors.serialize(array, content))


def same(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


@CONTENT
@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_numbers_come_back_bit_for_bit(dtype: tensors.DType, content: bool, data: Any) -> None:
    shape = data.draw(SHAPES)
    if dtype.numpy.kind == "b":
        array = data.draw(hnp.arrays(dtype.numpy, shape))
    else:  # any bits, NaN payloads among them
        size = math.prod(shape) * dtype.numpy.itemsize
        array = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), dtype.numpy).reshape(shape)
    proto = sent(array, content)
    assert bool(proto.tensor_content) == (content and array.size > 0)
    same(tensors.to_array(proto), array)


@CONTENT
@settings(max_examples=60, deadline=None)
@given(array=hnp.arrays(object, SHAPES, elements=st.binary(max_size=300), fill=st.nothing()))
def test_strings_come_back_byte_for_byte(content: bool, array: np.ndarray) -> None:
    same(tensors.to_array(sent(array, content)), array)


@pytest.mark.parametrize("size", [1, 63, 64, 5000])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers_of_any_width_are_varints_that_protobuf_reads(dtype: str, size: int) -> None:
    limits = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(limits.min, limits.max, size, dtype, endpoint=True)
    for part in (array, array & 1, abs(array) & 0x7F, array & 0x3FFF if limits.bits > 8 else array):
        values = getattr(sent(part.astype(dtype)), tensors.dtype_of(part.astype(dtype)).field)
        assert list(values) == part.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10)[::-2],
        np.array(7, np.longlong),
    ],
    ids=["big-endian", "transposed", "strided", "longlong"],
)
@CONTENT
def test_memory_layout_does_not_matter(array: np.ndarray, content: bool) -> None:
    back = tensors.to_array(sent(array, content))
    np.testing.assert_array_equal(back, array)
    assert back.shape == array.shape


def test_str_is_sent_as_utf_8() -> None:
    for array in (np.array(["Schuh", "löffel"]), np.array(["Schuh", "löffel"], object)):
        assert tensors.to_array(sent(array)).tolist() == [b"Schuh", "löffel".encode()]


def test_bfloat16_of_ml_dtypes_is_taken_and_widens_exactly() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([[1.5, -2.0, np.inf]], ml_dtypes.bfloat16)
    back = tensors.to_array(sent(array))
    assert back.dtype == tensors.BFLOAT16
    same(tensors.widen(back), np.array([[1.5, -2.0, np.inf]], np.float32))


def test_float32_is_rounded_to_bfloat16_as_ml_dtypes_rounds_it() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.random.default_rng(0).integers(0, 2**32, 4000, np.uint32)
    ties = (bits[:1000] & 0xFFFF0000) | 0x8000
    values = np.concatenate([bits, ties, [0, 0x80000000, 0x7F7FFFFF, 0x7F800000]]).astype(np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(tensors.widen(tensors.narrow(values)), expected)
    assert tensors.narrow(np.float32(1.5)).shape == ()


def test_missing_values_repeat_the_last_one() -> None:
    assert tensors.to_array(tensor("DT_FLOAT", [2, 2], float_val=[1, 2])).tolist() == [[1, 2], [2, 2]]
    assert tensors.to_array(tensor("DT_STRING", [3], string_val=[b"a", b"b"])).tolist() == [b"a", b"b", b"b"]
    assert tensors.to_array(tensor("DT_COMPLEX64", [2], scomplex_val=[1, 2, 9])).tolist() == [1 + 2j, 1 + 2j]


def test_no_values_are_zeros_or_empty_strings() -> None:
    assert tensors.to_array(tensor("DT_INT64", [2])).tolist() == [0, 0]
    assert tensors.to_array(tensor("DT_STRING", [])).item() == b""
    assert tensors.to_array(tensor("DT_BFLOAT16", [1])).dtype == tensors.BFLOAT16


def test_surplus_values_are_ignored() -> None:
    assert tensors.to_array(tensor("DT_FLOAT", [2], float_val=[1, 2, 3])).tolist() == [1, 2]
    assert tensors.to_array(tensor("DT_STRING", [], string_val=[b"a", b"b"])).item() == b"a"


@pytest.mark.parametrize(
    ("dtype", "value", "wrapped"),
    [("DT_UINT8", 300, 44), ("DT_INT8", 200, -56), ("DT_UINT16", -1, 65535), ("DT_INT16", 40000, -25536)],
)
def test_integers_out_of_range_wrap(dtype: str, value: int, wrapped: int) -> None:
    assert tensors.to_array(tensor(dtype, [1], int_val=[value])).tolist() == [wrapped]


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (tensor("DT_INVALID", [1]), "dtype DT_INVALID is not supported"),
        (tensor("DT_QINT8", [1]), "dtype DT_QINT8 is not supported"),
        (tensor("DT_FLOAT", [2, -1], float_val=[1]), r"tensor_shape \[2, -1\] has a negative dimension"),
        (tensor("DT_FLOAT", [2**40, 2**40], float_val=[1]), "more elements than can be counted"),
        (tensor("DT_FLOAT", [0, 2**62, 2**62]), "more elements than can be counted"),
        (tensor("DT_FLOAT", [1] * 40, float_val=[1]), "40 dimensions"),
        (tensor("DT_FLOAT", [2**40], float_val=[1]), "needs 4398046511104 bytes but comes with 1 values"),
        (tensor("DT_FLOAT", [2, 2], tensor_content=b"123"), r"3 bytes; DT_FLOAT \[2, 2\] needs 16"),
        (tensor("DT_FLOAT", [2**40], tensor_content=b"1234"), "has 4 bytes"),
        (tensor("DT_STRING", [2**40], tensor_content=b"\1\1ab"), "string lengths"),
        (tensor("DT_STRING", [2], tensor_content=b"\1\1abc"), "its strings need 4"),
        (tensor("DT_STRING", [1], tensor_content=b"\xff\xff"), "0 string lengths; 1 are needed"),
        (tensor("DT_STRING", [1], tensor_content=b"\xff" * 10_000), "a string length of more than 64 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_tensor_is_refused(proto: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tensors.to_array(proto)


def test_unknown_rank_is_refused() -> None:
    proto = tensor("DT_FLOAT", [], float_val=[1])
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="unknown rank"):
        tensors.to_array(proto)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), dtype=st.sampled_from(sorted(tensors.DTYPES)))
def test_any_bytes_give_an_array_or_a_value_error(data: bytes, dtype: int) -> None:
    proto = pb.TensorProto()
    try:
        proto.MergeFromString(data)
        proto.dtype = dtype
    except Exception:  # not a message at all: the transport's concern
        return
    try:
        array = tensors.to_array(proto, limit_bytes=2**20)
    except ValueError:
        return
    assert array.shape == tuple(dim.size for dim in proto.tensor_shape.dim)


def test_an_array_without_a_wire_type_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype datetime64"):
        sent(np.array(["2020-01-01"], "M8[s]"))
    with pytest.raises(ValueError, match="got int at index 0 of an object array; expected bytes or str"):
        sent(np.array([1, "a"], object))
