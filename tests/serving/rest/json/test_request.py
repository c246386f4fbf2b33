"""JSON arrays of any shape become the same tensors whichever way they are read."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.serving.errors import InvalidArgument, ServingError
from ladle.serving.rest.json import pieces, values
from ladle.serving.rest.json import request as json_request
from ladle.serving.rest.json.text import check_strings, parse_object, quote
from ladle.serving.servables.saved_model import Signature, TensorInfo
from ladle.serving.servables.servable import Servable
from tests.serving.rest.ways import each_way  # noqa: F401

DTYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "int64": 9, "uint32": 22,
    "uint64": 23,
}  # fmt: skip
NUMERIC = sorted(set(DTYPES) - {"string"})
SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple)


def signature(dtype: str) -> Signature:
    return Signature("s", {"x": TensorInfo(DTYPES[dtype], None, "x:0")}, {})


def read(body: bytes, dtype: str = "float32", asked: list[str] | None = None) -> Any:
    """The input `x` of a body; the signature names that were looked up go to `asked`."""

    def find(name: str) -> tuple[Any, Signature]:
        if asked is not None:
            asked.append(name)
        return None, signature(dtype)

    return json_request.read_predict(body, find).inputs["x"]


@given(SHAPES, st.sampled_from(NUMERIC), st.sampled_from(["instances", "inputs"]), st.sampled_from(["", " \n"]))
def test_any_array_is_read_back(shape: tuple[int, ...], dtype: str, key: str, blank: str) -> None:
    if 0 in shape:
        shape = shape[: shape.index(0) + 1]  # JSON has no axes inside an empty list
    if key == "instances" and shape[0] == 0:
        return  # no rows are refused
    array = (np.arange(np.prod(shape)) * 3 - (0 if dtype.startswith("u") else 7)).reshape(shape).astype(dtype)
    if dtype.startswith("float"):
        array = array / 4
    body = json.dumps({"signature_name": "s", key: array.tolist()}, separators=("," + blank, ":" + blank)).encode()
    asked: list[str] = []
    found = read(body, dtype, asked)
    assert asked[0] == "s"
    assert found.dtype == array.dtype
    assert found.shape == shape
    np.testing.assert_array_equal(found, array)


NUMBERS = (
    st.integers(-3, 300) | st.sampled_from([2**31, 2**32, 2**63, -(2**31) - 1]) | st.floats(allow_nan=False, width=32)
)
JSON = st.recursive(
    NUMBERS | st.booleans() | st.none() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)
)


@given(st.lists(JSON, min_size=1, max_size=4), st.sampled_from(NUMERIC))
def test_simdjson_and_python_values_give_the_same_tensors_and_errors(value: Any, dtype: str) -> None:
    body = json.dumps({"inputs": value}).encode()
    outcomes = []
    for way in (
        lambda: read(body, dtype),
        lambda: values.read(value, signature(dtype).inputs["x"]),
    ):
        try:
            array = way()
            outcomes.append((array.shape, array.dtype, array.tolist()))
        except ServingError as error:
            outcomes.append((error.code, error.message))
    assert outcomes[0] == outcomes[1]


def test_exponents_change_neither_the_shape_nor_what_is_refused() -> None:
    for numbers in ("[1.5],[-2.0]", "[15e-1],[-2E0]", "[1.5],[-2.0]", "[0.15e1], [-200e-2]"):
        assert read(b'{"instances":[%b]}' % numbers.encode()).tolist() == [[1.5], [-2.0]]
    for zero in ("0e400", "0E+400"):
        with pytest.raises(InvalidArgument, match="JSON Parse error: "):
            read(b'{"instances":[[%b],[-2.0]]}' % zero.encode())


@pytest.mark.parametrize("value", ["[[1],[]]", "[[],[1]]", "[[1,2],[3],[4,5,6]]", "[[[1]],[1]]", "[1,[2]]", "[[],[]]"])
def test_ragged_lists_are_refused(value: str) -> None:
    body = f'{{"inputs": {value}}}'.encode()
    if value == "[[],[]]":
        assert read(body).shape == (2, 0)
        return
    with pytest.raises(ServingError):
        read(body)


@contextlib.contextmanager
def in_pieces(size: int) -> Iterator[None]:
    """Reads bodies of any size in pieces of at least so many bytes."""
    usual = pieces.FROM_BYTES, pieces._PIECE_BYTES
    pieces.FROM_BYTES, pieces._PIECE_BYTES = 0, size
    try:
        yield
    finally:
        pieces.FROM_BYTES, pieces._PIECE_BYTES = usual


def outcome(body: bytes, dtype: str) -> Any:
    try:
        array = read(body, dtype)
    except ServingError as error:
        return error.code, error.message
    return array.shape, array.dtype, array.tolist()


ALTERED = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 3), st.text('[],:{}"0123.-eE \n\f', max_size=2)), max_size=2
)
NESTED = st.recursive(NUMBERS, lambda inner: st.lists(inner, min_size=1, max_size=4))
EVEN = st.builds(
    lambda shape, number: np.full(shape, number).tolist(), st.lists(st.integers(1, 4), min_size=1, max_size=4), NUMBERS
)


@given(st.lists(NESTED, max_size=4) | EVEN, ALTERED, st.sampled_from(NUMERIC), st.integers(0, 9))
def test_a_body_in_pieces_gives_the_same_tensor_and_errors_as_a_whole_one(
    value: Any, alterations: list[tuple[float, int, str]], dtype: str, size: int
) -> None:
    text = json.dumps({"signature_name": "s", "inputs": value})
    for place, length, other in alterations:
        at = int(place * len(text))
        text = text[:at] + other + text[at + length :]
    body = text.encode()
    with in_pieces(size):
        found = outcome(body, dtype)
    assert found == outcome(body, dtype)


@pytest.mark.parametrize(("dtype", "number"), [("float32", 0.25), ("float64", 0.1), ("int32", 7), ("int64", 2**40)])
def test_a_large_even_list_is_read_in_pieces(dtype: str, number: Any) -> None:
    array = np.full((3, 4, 2), number, dtype)
    array[1, 2] = 0
    body = json.dumps({"signature_name": "s", "instances": array.tolist()}).encode()
    with in_pieces(5):
        found = json_request._read_pieces(
            body, body.index(b"["), "s", "instances", lambda name: (cast(Servable, None), signature(dtype)), 0
        )
    assert found is not None
    np.testing.assert_array_equal(found.inputs["x"], array)
    assert found.inputs["x"].dtype == array.dtype


@pytest.mark.parametrize(
    "body",
    [
        '{"inputs": [[1.5], [2.5]]5}',
        '{"inputs": [[1.5], [2.5]]} 5',
        '{"inputs": [[1.5], [2.5]], "instances": 1}',
        '{"inputs": [[1.5], [2.5]]',
        '{"inputs": [[1.5], [2.5]}',
        '{"inputs": [[1.5], [2.5]], [[3.5]]}',
        '{"inputs": [1.5], [2.5]}',
        '{"inputs": [1.5,, 2.5]}',
        '{"inputs": [[1.5], [2.5],]}',
        '{"inputs": [[1.5, 2.5], [3.5]]}',
        '{"inputs":\f[[1.5], [2.5]]}',
        '{"inputs": [[1.5], [0e400]]}',
        '{"inputs": [[1.5], ["2.5"]]}',
        '{"inputs": [[1.5], [null]]}',
    ],
)
def test_a_fault_is_found_in_pieces_too(body: str) -> None:
    wanted = outcome(body.encode(), "float32")
    for size in range(12):
        with in_pieces(size):
            assert outcome(body.encode(), "float32") == wanted


def test_a_fault_in_a_large_body_comes_before_an_unknown_signature() -> None:
    def find(name: str) -> Any:
        raise InvalidArgument("not found")

    with in_pieces(4), pytest.raises(InvalidArgument, match="JSON Parse error"):
        json_request.read_predict(b'{"instances": [[1.0, 2.0], [3.0, 4.0}', find)
    with in_pieces(4), pytest.raises(InvalidArgument, match="not found"):
        json_request.read_predict(b'{"instances": [[1.0, 2.0], [3.0, 4.0]]}', find)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ServingError):
        read(body)


@pytest.mark.parametrize(
    ("encoded", "data"),
    [("aGk=", b"hi"), ("aGk", b"hi"), (" aG\nk= ", b"hi"), ("", b""), ("/+8=", b"\xff\xef")],
)
def test_base64_needs_no_padding(encoded: str, data: bytes) -> None:
    assert values.decode_base64({"b64": encoded}) == data


@given(st.text("AQ=-/ \n", max_size=12))
def test_base64_is_read_by_one_rule_whatever_its_form(text: str) -> None:
    bare = "".join(text.split()).replace("-", "+")
    kept = bare.rstrip("=")
    wanted = None
    if bare in (kept, kept + "=" * (-len(kept) % 4)) and "=" not in kept and len(kept) % 4 != 1:
        wanted = base64.b64decode(kept + "=" * (-len(kept) % 4))
    try:
        found = values.decode_base64({"b64": text})
    except ServingError:
        found = None
    assert found == wanted


@pytest.mark.parametrize("repeats", [False, True])
def test_of_a_repeated_key_the_first_counts_in_a_large_body_with_few_strings_too(repeats: bool) -> None:
    image = base64.b64encode(bytes(range(256)) * 64).decode()
    more = ', "instances": [{"b64": "AAAA"}]' if repeats else ""
    document = parse_object(f'{{"instances": [{{"b64": "{image}"}}]{more}}}'.encode())
    assert document == {"instances": [{"b64": image}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"b64": "a"}, "Unable to base64 decode"),
        ({"b64": "????"}, "Unable to base64 decode"),
        ({"b64": 1}, 'JSON Value: {"b64":1} not formatted correctly for base64 data'),
        ({"b65": "aGk="}, 'JSON Value: {"b65":"aGk="} not formatted correctly for base64 data'),
    ],
)
def test_malformed_base64_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        values.decode_base64(value)
    assert caught.value.message == message


_LARGE_BODY = """
import os, threading
from pathlib import Path
from tests.serving.rest.json.test_request import read

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

body = b'{"instances": [%b1]}' % (b"0.1," * 5_000_000)

def measure():
    before = resident()
    array = read(body)
    assert array.size == 5_000_001
    del array
    print((resident() - before) / len(body))

reading = threading.Thread(target=measure)
reading.start()
reading.join()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory by /proc")
def test_a_large_body_leaves_no_memory_behind_in_its_thread() -> None:
    # In a process of its own: what the C allocator keeps depends on what was freed before.
    done = subprocess.run([sys.executable, "-c", _LARGE_BODY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 3


@pytest.mark.parametrize("string", [r"a", r"a\\", r"\"", r"\\\"", r"\\\\"], ids=repr)
def test_strings_are_counted_whatever_they_end_in(string: str) -> None:
    most = 10_000
    for count, is_refused in ((most, False), (most + 3000, True)):
        body = b'{"instances": [%b]}' % b",".join([b'"%b"' % string.encode()] * count)
        assert len(json.loads(body)["instances"]) == count
        if is_refused:
            with pytest.raises(InvalidArgument, match=rf"got about {count + 1} strings in the JSON; expected at most"):
                check_strings(body, 32 * most)
        else:
            check_strings(body, 32 * most)


def test_strings_may_hold_any_bytes() -> None:
    body = b'{"instances": ["caf\xc3\xa9", "\xff", {"b64": "AAE="}, "\\u00e9"]}'
    assert read(body, "string").tolist() == [b"caf\xc3\xa9", b"\xff", b"\x00\x01", b"\xc3\xa9"]


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ServingError, match="nested"):
        read(b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(ServingError, match="nested more than 32 deep"):
        read(b'{"inputs": ' + b"[" * 40 + b"]" * 40 + b"}")


def test_a_quoted_value_ends_after_the_token_that_makes_it_long() -> None:
    assert quote([0] * 126) == f"[{','.join('0' * 126)}]"  # 253 bytes
    assert quote([0] * 1_000_000) == "[" + ",".join("0" * 129)  # 258 bytes
    assert quote({"x": ["y" * 300, 1], "z": 2}) == '{"x":["' + "y" * 300 + '"'
    assert len(quote("y" * 1_000_000)) == 1024
    assert quote({"é": [1.5, True, None, float("nan")]}) == '{"é":[1.5,true,null,NaN]}'
