"""Infer requests in JSON become the same tensors, or the same errors, with the compiled reader and without."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.serving.errors import ServingError
from ladle.serving.rest.open_inference.request import parse
from tests.serving.rest import ways

DATATYPES = ("FP32", "FP64", "FP16", "BF16", "INT64", "INT8", "UINT64", "UINT8", "BOOL", "BYTES")
NUMBERS = st.integers(-300, 300) | st.floats(-1e3, 1e3) | st.sampled_from([2**31, 2**63, 2**70, 1e39, True, None, "1"])
DATA = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=4))
PAD = " " * 1024


def outcome(body: bytes, max_depth: int) -> Any:
    try:
        head, inputs = parse(body, None, max_depth, 2**30)
    except ServingError as error:
        return type(error), str(error)
    return (
        head.id,
        head.is_binary,
        {name: (str(x.dtype), x.shape, x.tolist() if x.dtype == object else x.tobytes()) for name, x in inputs.items()},
    )


def both(body: bytes, max_depth: int = 0) -> Any:
    """The outcome, the same in both ways."""
    return ways.both(outcome, body, max_depth)


def request(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({**more, "inputs": inputs}, separators=(PAD + ",", ":")).encode()


def tensor(datatype: str, shape: list[int], data: Any, name: str = "x") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


@given(st.sampled_from(DATATYPES), st.lists(st.integers(0, 3), max_size=3), DATA)
def test_any_data_has_the_same_outcome(datatype: str, shape: list[int], data: Any) -> None:
    both(request(tensor(datatype, shape, data)))


@given(st.sampled_from(DATATYPES), st.lists(NUMBERS, min_size=1, max_size=4))
def test_any_flat_data_has_the_same_outcome(datatype: str, data: list[Any]) -> None:
    both(request(tensor(datatype, [len(data)], data)))


@given(
    st.lists(st.sampled_from(['"data"', ":", "[1, 2]", "{", "}", '"', "\\", ",", '"\\u00000"', "[", "]"]), max_size=9)
)
def test_any_text_around_data_has_the_same_outcome(pieces: list[str]) -> None:
    both(
        b'{"inputs": [{"name": "x",%b"datatype": "FP32", "shape": [2], %b}]}' % (PAD.encode(), "".join(pieces).encode())
    )
    both(b'{"id": "%b", "inputs": [%b{"data": [1, 2]}]}' % ("".join(pieces).encode(), PAD.encode()))


def test_several_lists_come_to_their_inputs() -> None:
    text = tensor("BYTES", [1], ["[5]"], "text")
    found = both(
        request(tensor("FP32", [2, 2], [[1, 2.5], [3, -4e-3]]), text, tensor("INT8", [3], [7, 8, -128], "n"), id="i")
    )
    assert found[0] == "i"
    x, n = np.array([[1, 2.5], [3, -4e-3]], np.float32), np.array([7, 8, -128], np.int8)
    assert found[2]["x"] == ("float32", (2, 2), x.tobytes())
    assert found[2]["n"] == ("int8", (3,), n.tobytes())


def test_a_string_in_the_place_of_data_is_no_other_inputs_list() -> None:
    kind, text = both(request(tensor("FP32", [2], "\0"), tensor("FP32", [2], [1, 2], "y")))
    assert "has no data" in text, kind


def test_a_fault_behind_the_data_has_its_place_in_the_whole_text() -> None:
    whole = request(tensor("FP32", [600], [0.5] * 600))
    assert f"at offset: {len(whole) - 1}" in both(whole[:-1] + b"x")[1]


@pytest.mark.parametrize("mark", ['"\\u00000"', '"\0000"', '"\\u0000"'])
def test_no_string_stands_for_the_list_of_another_input(mark: str) -> None:
    first, second = '{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}', '"name": "y", "datatype": "FP32"'
    body = f'{{"inputs": [{first}, {{{second}, "shape": [1], "data": {mark}}}]{PAD}}}'
    assert both(body.encode())[0] is not None
    assert isinstance(both(body.encode())[1], str)  # refused


@pytest.mark.parametrize(
    "odd",
    [
        {"parameters": {"x": {"y": {"z": {"data": [[[1]]]}}}}},
        {"name": {"data": [1]}},
        {"shape": {"data": [1]}},
        {"data": [{"data": [1]}]},
        {"data": [10**20]},
        {"data": [-192, 2**64]},
    ],
)
@pytest.mark.parametrize("datatype", ["FP32", "INT64", "UINT64", "BOOL", "BYTES"])
def test_another_key_of_that_name_changes_nothing(odd: dict[str, Any], datatype: str) -> None:
    both(request({**tensor(datatype, [1], [1]), **odd}), 8)
    both(request(tensor("FP32", [1], [1], "y"), {**tensor(datatype, [2], [1, 2]), **odd}), 100)


@pytest.mark.parametrize("depth", range(1, 8))
def test_nesting_is_limited_alike(depth: int) -> None:
    both(request(tensor("FP32", [1, 1, 1], [[[1.5]]])), depth)
