from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ladle.clients.wire import rest_json

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4)


@settings(max_examples=100, deadline=None)
@given(array=st.sampled_from(["?", "u1", "i4", "i8", "u8", "f4", "f8"]).flatmap(lambda d: hnp.arrays(d, SHAPES)))
def test_numbers_come_back_exactly(array: np.ndarray[Any, Any]) -> None:
    sent = rest_json.decode(rest_json.encode_request({"x": array}, "s"))
    assert sent["signature_name"] == "s"
    back = rest_json.decode_outputs({"outputs": sent["inputs"]["x"]}, {"x": array.dtype})["x"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@settings(max_examples=100, deadline=None)
@given(array=hnp.arrays(object, SHAPES, elements=st.binary(max_size=20), fill=st.nothing()))
def test_strings_come_back_as_b64_and_as_raw_bytes(array: np.ndarray[Any, Any]) -> None:
    sent = rest_json.decode(rest_json.encode_request({"x_bytes": array}, "s"))["inputs"]["x_bytes"]
    back = rest_json.decode_outputs({"outputs": sent}, {"x_bytes": array.dtype})["x_bytes"]
    assert back.tolist() == array.tolist()
    # As TensorFlow Serving writes other strings: every byte as it is, but quotes, backslashes and controls.
    raw = b'{"outputs": {"x": %s, "y": 1}}' % serving_json(array.tolist())
    dtypes = {"x": np.dtype(object), "y": np.dtype(np.int32)}
    assert rest_json.decode_outputs(rest_json.decode(raw), dtypes)["x"].tolist() == array.tolist()


def serving_json(value: Any) -> bytes:
    if isinstance(value, list):
        return b"[" + b", ".join(serving_json(item) for item in value) + b"]"
    escaped = (b"\\u%04x" % byte if byte < 32 or byte in b'"\\' else bytes([byte]) for byte in value)
    return b'"' + b"".join(escaped) + b'"'


def test_not_a_number_and_infinities_are_tokens() -> None:
    body = rest_json.encode_request({"x": np.array([np.nan, np.inf, -np.inf])}, "s")
    assert b"[NaN,Infinity,-Infinity]" in body


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"predictions": [1]}, {"outputs": {"x": 1}}, {"outputs": {"x": "a", "y": 1}},
     {"outputs": {"x": [1, [2]], "y": 1}}, {"outputs": {"x": None, "y": 1}}, {"outputs": {"x": 2**70, "y": 1}},
     {"outputs": {"x": 1, "y": 1}}, {"outputs": {"x": 1, "y": [{"b64": "=!"}, {}]}}],
    ids=json.dumps,
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_a_value_error(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        rest_json.decode_outputs(answer, {"x": np.dtype(np.int32), "y": np.dtype(object)})
