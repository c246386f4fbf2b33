"""The V2 messages of the benchmarks, byte by byte."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.requests import payloads, v2


def test_a_request_has_the_fields_of_v2() -> None:
    array = np.array([[1, 2]], np.float32)
    # name "m", one input: name "x", datatype "FP32", shape [1, 2]; raw contents
    expected = b"\n\x01m*\r\n\x01x\x12\x04FP32\x1a\x02\x01\x02:\x08" + array.tobytes()
    assert v2.request("m", "x", array) == expected


def test_a_json_request_has_its_numbers_in_one_list() -> None:
    body = json.loads(payloads.v2_json("x", np.array([[0.1], [2]], np.float32)))
    assert body == {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [0.1, 2.0]}]}


def test_raw_outputs_become_arrays() -> None:
    array = np.array([[0.5, 2]], np.float32)
    tensor = b"\n\x01y\x12\x04FP32\x1a\x02\x01\x02"
    content = b"*" + bytes([len(tensor)]) + tensor + b"2" + bytes([array.nbytes]) + array.tobytes()
    (found,) = v2.arrays(content)
    np.testing.assert_array_equal(found, array)
