"""Arrays of every dtype and rank become JSON that reads back to the same values."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ladle.serving.errors import InvalidArgument
from ladle.serving.rest.json.response import write_classes, write_predict, write_values
from ladle.serving.scheduling.rows import split

DTYPES = ["f4", "f8", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "longlong", "?"]
SHAPES = [(), (1,), (3,), (1, 3), (1, 40), (2, 3), (1, 2, 2), (0,), (0, 2)]


def array(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return (numbers / 3 if dtype in ("f4", "f8") else numbers).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_written_exactly(dtype: str, shape: tuple[int, ...]) -> None:
    given = array(dtype, shape)
    for outputs in ({"y": given}, {"y": given, "z": given}):
        answer = json.loads(write_predict(outputs, is_row=False))["outputs"]
        found = answer if len(outputs) == 1 else answer["z"]
        np.testing.assert_array_equal(np.array(found, dtype).reshape(shape), given)
        if shape:
            rows = json.loads(write_predict(outputs, is_row=True))["predictions"]
            found = rows if len(outputs) == 1 else [row["z"] for row in rows]
            np.testing.assert_array_equal(np.array(found, dtype).reshape(shape), given)


@given(st.data(), st.integers(2, 6), st.integers(1, 3))
def test_rows_of_a_merged_run_are_written_as_single_requests_are(data: Any, rows: int, count: int) -> None:
    def output() -> np.ndarray[Any, Any]:
        shape = (rows, *data.draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)))
        if data.draw(st.booleans()):
            return data.draw(hnp.arrays(data.draw(st.sampled_from(DTYPES)), shape))
        return data.draw(hnp.arrays(object, shape, elements=st.binary(max_size=4)))

    outputs = {data.draw(st.sampled_from([f"y%{i}", f"y{i}_bytes"])): output() for i in range(count)}
    for part in split(outputs, [1] * rows):
        for is_row in (True, False):
            assert write_predict(part, is_row) == write_predict(dict(part), is_row)


def test_a_dtype_that_json_cannot_hold_is_refused_in_a_merged_run_too() -> None:
    for part in split({"y": np.zeros((3, 2), "c8")}, [1, 1, 1]):
        with pytest.raises(InvalidArgument, match="Failed to write JSON value for tensor type: complex64"):
            write_predict(part, True)


@pytest.mark.parametrize("is_row", [True, False], ids=["row", "column"])
def test_numbers_that_are_not_finite_and_any_bytes_are_written_side_by_side(is_row: bool) -> None:
    strings = np.array([b'a"\\\n', b"\xff", "é".encode()], object)
    numbers = np.array([np.nan, np.inf, 0.1], np.float32)
    text = write_predict({"s": strings, "n": numbers, "i": np.arange(3, dtype="longlong")}, is_row)
    assert b"\xff" in text
    answer = json.loads(text.decode("utf-8", "surrogateescape"))
    rows = (
        answer["predictions"]
        if is_row
        else [dict(zip("sni", row, strict=True)) for row in zip(*(answer["outputs"][k] for k in "sni"), strict=True)]
    )
    assert [row["s"].encode("utf-8", "surrogateescape") for row in rows] == strings.tolist()
    np.testing.assert_array_equal(np.array([row["n"] for row in rows], np.float32), numbers)
    assert [row["i"] for row in rows] == [0, 1, 2]


def test_names_that_end_in_bytes_are_base64_at_any_rank() -> None:
    nested = np.array([[b"hi"], [b"\xff"]], object)
    assert json.loads(write_predict({"x_bytes": nested}, True)) == {
        "predictions": [[{"b64": "aGk="}], [{"b64": "/w=="}]]
    }
    scalar = np.array(b"hi", object)
    assert json.loads(write_predict({"x_bytes": scalar}, False)) == {"outputs": {"b64": "aGk="}}


@pytest.mark.parametrize(
    ("outputs", "is_row", "message"),
    [
        ({"y": np.zeros(())}, True, "Tensor name: y has no shape information "),
        ({"y": np.zeros(2), "z": np.zeros(3)}, True, "Tensor name: z has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.zeros(2, np.float16)}, False, "Failed to write JSON value for tensor type: half"),
        ({"y": np.zeros(2, np.uint16)}, False, "Failed to write JSON value for tensor type: uint16"),
    ],
    ids=["scalar", "batch", "half", "uint16"],
)
def test_outputs_that_json_cannot_hold_are_refused(outputs: Any, is_row: bool, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        write_predict(outputs, is_row)
    assert caught.value.message == message


WRITABLE = [np.dtype(name) for name in ("f4", "f8", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "?")]
ARRAYS = st.sampled_from(WRITABLE).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
)


def same(found: Any, given: np.ndarray[Any, Any]) -> None:
    """Equal values; an axis behind an empty one is not in the text."""
    np.testing.assert_array_equal(np.array(found, given.dtype).reshape(given.shape), given)


@settings(deadline=None)
@given(ARRAYS)
def test_any_array_is_read_back_in_either_format(array: np.ndarray[Any, Any]) -> None:
    same(json.loads(write_predict({"y": array}, is_row=True))["predictions"], array)
    same(json.loads(write_predict({"y": array}, is_row=False))["outputs"], array)
    both = {"y": array, "i": np.arange(len(array))}
    rows = json.loads(write_predict(both, is_row=True))["predictions"]
    assert [row["i"] for row in rows] == list(range(len(array)))
    same([row["y"] for row in rows], array)
    columns = json.loads(write_predict(both, is_row=False))["outputs"]
    same(columns["y"], array)


@settings(deadline=None)
@given(hnp.arrays(object, hnp.array_shapes(max_dims=3, max_side=4), elements=st.binary(max_size=9), fill=st.nothing()))
def test_any_strings_are_read_back_byte_for_byte(array: np.ndarray[Any, Any]) -> None:
    outputs = {"text": array, "data_bytes": array, "100%": array}
    for row in json.loads(write_predict(outputs, is_row=True).decode("utf-8", "surrogateescape"))["predictions"]:
        assert row["text"] == row["100%"]
    columns = json.loads(write_predict(outputs, is_row=False).decode("utf-8", "surrogateescape"))["outputs"]
    flat = np.array(columns["text"], object).ravel().tolist()
    assert [text.encode("utf-8", "surrogateescape") for text in flat] == array.ravel().tolist()
    coded = np.array(columns["data_bytes"], object).ravel().tolist()
    assert [base64.b64decode(value["b64"]) for value in coded] == array.ravel().tolist()


def test_results_of_classify_and_regress() -> None:
    pairs = [([b'a"\x01', b"\xff"], [0.1, float("nan")]), ([b""], [3.0])]
    pairs = [(labels, np.array(scores, np.float32).tolist()) for labels, scores in pairs]
    assert write_classes(pairs) == b'{"results": [[["a\\"\\u0001",0.1],["\xff",NaN]],[["",3.0]]]}\n'
    assert write_values(np.array([1 / 3, -0.0], np.float32)) == b'{"results": [0.333333343,-0.0]}\n'
