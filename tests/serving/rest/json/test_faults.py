"""Faults in JSON bodies are reported as RapidJSON 1.1.0 reports them: its texts, offsets in bytes."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ladle.serving.errors import InvalidArgument
from ladle.serving.rest.json.faults import find_fault
from ladle.serving.rest.json.text import parse_object

FAULTS = {
    b"   ": ("The document is empty.", 3),
    b"}": ("The document is empty.", 0),
    b"nul": ("Invalid value.", 3),
    b"{": ("Missing a name for object member.", 1),
    b'{"a": 1,}': ("Missing a name for object member.", 8),
    b'{"a" 1}': ("Missing a colon after a name of object member.", 5),
    b'{"a": 1e}': ("Miss exponent in number.", 8),
    b'{"a": 1e+ }': ("Miss exponent in number.", 9),
    b'{"a": [1.]}': ("Miss fraction part in number.", 9),
    b'{"a": [.5]}': ("Invalid value.", 7),
    b'{"a": [-]}': ("Invalid value.", 8),
    b'{"a": [01]}': ("Missing a comma or ']' after an array element.", 8),
    b'{"a": [None]}': ("Invalid value.", 8),
    b'{"a": [nan]}': ("Invalid value.", 8),
    b'{"a": [Infinite]}': ("Invalid value.", 14),
    b'{"a": [truth]}': ("Invalid value.", 10),
    b'{"a": [1 2]}': ("Missing a comma or ']' after an array element.", 9),
    b'{"a": {"b": 1]}': ("Missing a comma or '}' after an object member.", 13),
    b'{"a": [[1], [2]': ("Missing a comma or ']' after an array element.", 15),
    b'{"a": 1 \x00}': ("Missing a comma or '}' after an object member.", 8),
    b'{"a": "b': ("Missing a closing quotation mark in string.", 8),
    b'{"a": "b\x00"}': ("Missing a closing quotation mark in string.", 8),
    b'{"a": "b\n"}': ("Invalid escape character in string.", 8),
    b'{"a": "b\\x"}': ("Invalid escape character in string.", 8),
    b'{"a": "\\u12x4"}': ("Incorrect hex digit after \\u escape in string.", 7),
    b'{"a": "\\ud800"}': ("The surrogate pair in string is invalid.", 7),
    b'{"a": "\\ud800\\u0041"}': ("The surrogate pair in string is invalid.", 7),
    b'{"a": "\\ud800\\u00x1"}': ("Incorrect hex digit after \\u escape in string.", 7),
    b'{"a": 1e309}': ("Number too big to be stored in double.", 6),
    b'{"instances": [[1], [0e400]]}': ("Number too big to be stored in double.", 21),
    b'{"instances": [-0.00E+311]}': ("Number too big to be stored in double.", 15),
    b'{"instances": [{"x": 0e309}]}': ("Number too big to be stored in double.", 21),
    b'{"a": NaN, "b": 0e309}': ("Number too big to be stored in double.", 16),
    b'{"instances": [%b0.0e+400]}' % (b"1.0e-05,0.0e+00," * 1000): ("Number too big to be stored in double.", 16015),
    b'{"instances": [%b0E400]}' % (b"0e1,1e+02," * 1000): ("Number too big to be stored in double.", 10015),
    b'{"a": 1.25e311}': ("Number too big to be stored in double.", 6),
    b'{"a": %b}' % (b"9" * 310): ("Number too big to be stored in double.", 6),
    '{"ä": "€\xff" 1}'.encode(): ("Missing a comma or '}' after an object member.", 15),
    b'\xef\xbb\xbf{"a": ]}': ("Invalid value.", 9),
    b'{"a": [NaN, Inf, Inf, 1.]}': ("Miss fraction part in number.", 24),
}


@pytest.mark.parametrize("body", FAULTS, ids=[repr(body)[2:40] for body in FAULTS])
def test_a_fault_is_told_in_the_words_of_rapidjson_with_its_offset(tiny_server: Any, body: bytes) -> None:
    text, offset = FAULTS[body]
    status, answer = tiny_server.send("POST", "/v1/models/half_plus_two:predict", body)
    assert (status, json.loads(answer)["error"]) == (400, f"JSON Parse error: {text} at offset: {offset}")


def test_every_token_for_a_number_that_is_not_finite_is_read(tiny_server: Any) -> None:
    body = b'{"signature_name": "float32", "instances": [-NaN, NaN, -Infinity, -Inf, Infinity, Inf, 9e308]}'
    status, answer = tiny_server.send("POST", "/v1/models/identities:predict", body)
    assert status == 200, answer
    assert answer.split(b"[")[1].split(b"]")[0].replace(b" ", b"").split(b",") == [
        b"NaN",
        b"NaN",
        b"-Infinity",
        b"-Infinity",
        b"Infinity",
        b"Infinity",
        b"Infinity",
    ]


def test_the_second_half_of_a_pair_alone_is_three_bytes() -> None:
    found = parse_object(b'{"a": "\\udcff", "b": "-NaN \\ud83d\\ude00", "c": -NaN}')
    assert found["a"].encode("utf-8", "surrogateescape") == b"\xed\xb3\xbf"
    assert found["b"] == "-NaN \U0001f600"
    assert found["c"] != found["c"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a": [1, {"b": []}, "c\\n\\u00e9"]} and more',
        b'{"a": NInf}',
        b'{"a": NaN.5}',
        b'{"a": [0e308, 0.0e309]}',
        b'{"a": "0e400"}',
    ],
    ids=["empty", "text after it", "N and Inf", "NaN with a fraction", "largest exponents", "a string"],
)
def test_what_rapidjson_accepts_has_no_fault(body: bytes) -> None:
    assert find_fault(body) is None
    parse_object(body)


@pytest.fixture
def frozen_heap() -> Iterator[None]:
    """Leaves the objects of other tests out of garbage collections, as the server leaves out those of its start."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize(
    "piece", [b"1.5,", b"[1,2],", b'"a\\n",', b'{"a":[]},'], ids=["numbers", "rows", "strings", "objects"]
)
def test_a_fault_at_the_end_of_a_large_body_is_found_in_linear_time(piece: bytes) -> None:
    def seconds(size: int) -> float:
        body = b'{"a": [' + piece * (size // len(piece))
        began = time.thread_time()
        with pytest.raises(InvalidArgument, match=f"Invalid value. at offset: {len(body)}"):
            parse_object(body)
        return time.thread_time() - began

    small, large = (min(seconds(size) for _ in range(2)) for size in (2**17, 2**20))
    assert large < 24 * small + 0.1  # 8 times the body; in quadratic time 64 times as long
