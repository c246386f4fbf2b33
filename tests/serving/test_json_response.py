"""Arrays of every dtype and rank become JSON that reads back to the same values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidArgument
from serving.json_response import write_predict

DTYPES = ["f4", "f8", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "longlong", "?"]
SHAPES = [(), (3,), (2, 3), (1, 2, 2), (0,), (0, 2)]


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


@pytest.mark.parametrize("is_row", [True, False], ids=["row", "column"])
def test_not_finite_numbers_and_any_bytes_stand_beside_each_other(is_row: bool) -> None:
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
