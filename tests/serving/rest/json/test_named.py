"""Bodies that name their inputs become the same tensors, or the same errors, with the compiled reader and without."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.serving.errors import InvalidArgument, ServingError
from ladle.serving.rest.json import compiled, named
from ladle.serving.rest.json.request import read_predict
from ladle.serving.servables.saved_model import Signature, TensorInfo
from tests.serving.rest import ways

FLOAT, INT32, INT64, DOUBLE = 1, 3, 9, 2
INPUTS = {"a": TensorInfo(FLOAT, None, "a:0"), "b": TensorInfo(INT32, None, "b:0")}
VALUES = st.recursive(
    st.integers(-300, 300) | st.floats(-1e3, 1e3, width=32) | st.sampled_from([2**31, 2**70, 1e39, True, None, "1"]),
    lambda inner: st.lists(inner, max_size=3),
)
NAMES = st.sampled_from(["a", "b", "c"])
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=3)
PAD = " " * named.FROM_BYTES


def outcome(body: bytes, max_depth: int = 0) -> Any:
    def find(name: str) -> Any:
        if name not in ("", "s"):
            raise InvalidArgument(f"no {name}")
        return None, Signature("s", INPUTS, {})

    try:
        found = read_predict(body, find, max_depth)
    except ServingError as error:
        return type(error), str(error)
    assert list(found.inputs) == list(INPUTS)
    return found.is_row, {key: (str(x.dtype), x.shape, x.tobytes()) for key, x in found.inputs.items()}


def both(body: bytes, max_depth: int = 0) -> Any:
    """The outcome, the same in both ways."""
    return ways.both(outcome, body, max_depth)


@given(
    OBJECTS | st.lists(OBJECTS, max_size=3), st.sampled_from(["inputs", "instances"]), st.sampled_from([None, "s", "t"])
)
def test_any_named_values_have_the_same_outcome(value: Any, key: str, signature: str | None) -> None:
    head = {} if signature is None else {"signature_name": signature}
    both(json.dumps({**head, key: value}, separators=(PAD + ",", ":")).encode())


@given(st.text(alphabet='{}[],:"ab1. ', max_size=30))
def test_any_rest_of_a_body_has_the_same_outcome(rest: str) -> None:
    both(('{"instances": [{"a": [1.5, 2], "b": [3]}' + PAD + rest).encode())
    both(('{"inputs": {"a": [1.5, 2], "b": [3]' + PAD + rest).encode())


def test_columns_and_rows_of_lists_are_read_without_values() -> None:
    columns = both(b'{"signature_name": "s", "inputs": {"b": [[7], [8]],%b "a": [0.5, 1e2]}}' % PAD.encode())
    a, b = np.array([0.5, 100], np.float32), np.array([[7], [8]], np.int32)
    assert columns == (False, {"a": ("float32", (2,), a.tobytes()), "b": ("int32", (2, 1), b.tobytes())})
    rows = both(b'{"instances": [{"b": [7], "a": [0.5]},%b{"a": [100], "b": [8]}]}' % PAD.encode())
    assert rows == (True, {"a": ("float32", (2, 1), a.tobytes()), "b": ("int32", (2, 1), b.tobytes())})
    assert compiled.read_list is not None
    head = named.read_head(b'{"inputs": {"a": [0.5, 1e2]}}')
    assert head is not None
    found = named.read(b'{"inputs": {"a": [0.5, 1e2]}}', head, {"a": "f4"}, compiled.read_list)
    assert found is not None
    np.testing.assert_array_equal(found["a"], a)


@pytest.mark.parametrize("depth", range(1, 8))
def test_nesting_is_limited_alike(depth: int) -> None:
    both(b'{"instances": [{"a": [[[1.5]]], %b "b": [1]}]}' % PAD.encode(), depth)
    both(b'{"inputs": {"a": [[[1.5]]], %b "b": [1]}}' % PAD.encode(), depth)


@pytest.mark.parametrize("blank", ["\x0b", "\x0c", "\x85", "\u00a0", "\r\n\t "])
def test_only_the_blanks_of_json_are_blanks(blank: str) -> None:
    for body in (
        '~{~"instances"~:~[~{~"a"~:~[1]~,~"b"~:~[2]~}~,~{"a":[1],"b":[2]}~]~}',
        '{~"inputs"~:~{~"a":[1],"b":[2]~}~}~',
    ):
        for place in range(body.count("~")):
            parts = body.split("~")
            text = "".join(parts[: place + 1]) + blank + "".join(parts[place + 1 :])
            both(text.encode())
            both(text.replace("]", "]" + PAD, 1).encode())
    for place in range(5):
        parts = "~{~'instances'~:~[1]}".replace("'", '"').split("~")
        both(("".join(parts[:place]) + blank + "".join(parts[place:])).encode())
