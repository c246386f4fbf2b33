"""Numbers as the dtype of an input: kept exactly or refused, whichever way they are asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.clients.cli.__main__ import main
from ladle.clients.errors import InvalidArgument
from ladle.clients.library.async_client import AsyncClient
from ladle.clients.library.client import Client
from ladle.clients.transport.metadata import TensorInfo
from ladle.clients.wire import tensors

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]
DTYPES = ["bool", *INTEGERS, *FLOATS]
EDGES = [
    edge + step for bits in (0, 7, 8, 11, 15, 16, 24, 31, 32, 53, 63, 64) for edge in (2**bits,) for step in (-1, 0, 1)
]
WHOLE = st.sampled_from([*EDGES, *(-edge for edge in EDGES), 0]) | st.integers(-300, 300)
NUMBERS = (
    WHOLE
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.sampled_from([0.5, 1.5, -0.0, 1e39, 65504.0, 65520.0, float("inf"), float(2**53), float(2**63), float(2**64)])
)


def keeps(value: Any, dtype: str, rounding: bool) -> bool:
    """Whether a dtype holds a number. Python compares an integer with a float exactly."""
    if dtype == "bool":
        return value in (0, 1)
    if dtype in INTEGERS:
        limits = np.iinfo(dtype)
        return (
            value == value
            and value not in (float("inf"), float("-inf"))
            and int(value) == value
            and (limits.min <= value <= limits.max)
        )
    try:
        with np.errstate(over="ignore"):
            held = float(np.dtype(dtype).type(float(value)))
    except OverflowError:
        return False
    return bool(np.isfinite(held) or np.isinf(float(value))) and (rounding or held == value)


def refused(info: TensorInfo, value: Any) -> str | None:
    try:
        info.array(value, 'm: input "x"')
    except InvalidArgument as error:
        return str(error)
    return None


@given(st.sampled_from(DTYPES), st.lists(NUMBERS, min_size=1, max_size=4))
def test_lists_are_kept_or_refused_with_the_first_value_that_does_not_fit(dtype: str, values: list[Any]) -> None:
    info = TensorInfo(dtype, (None,))
    wrong = [number for number, value in enumerate(values) if not keeps(value, dtype, rounding=True)]
    said = refused(info, values)
    if wrong:
        assert f"at [{wrong[0]}]; expected {dtype} [?], " in str(said)
        return
    assert said is None, said
    made = info.array(values, "x")
    assert made.dtype == dtype
    if dtype in FLOATS:
        np.testing.assert_array_equal(made, np.array([float(value) for value in values]).astype(dtype))
    else:
        assert made.tolist() == [int(value) for value in values]


@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.lists(NUMBERS, min_size=1, max_size=4))
def test_arrays_of_another_dtype_are_kept_or_refused(dtype: str, source: str, values: list[Any]) -> None:
    array = np.array([value for value in values if keeps(value, source, rounding=True)]).astype(source)
    info = TensorInfo(dtype, (None,))
    wrong = [number for number, value in enumerate(array.tolist()) if not keeps(value, dtype, rounding=False)]
    said = refused(info, array)
    if wrong:
        assert f"at [{wrong[0]}]" in str(said)
        assert f"expected {dtype} [?]" in str(said)
        return
    assert said is None, said
    assert info.array(array, "x").tolist() == array.tolist()


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("int8", [300], "got 300 at [0]; expected int8 [?], whole numbers from -128 to 127"),
        ("int32", [1, 3000000000], "got 3000000000 at [1]; expected int32 [?], whole numbers from -2147483648 to"),
        ("uint16", [-1], "got -1 at [0]; expected uint16 [?], whole numbers from 0 to 65535"),
        ("uint64", [2**64], "got 18446744073709551616 at [0]; expected uint64 [?], whole numbers from 0 to 18446"),
        ("uint64", [2**63, -1], "got -1 at [1]; expected uint64 [?]"),
        ("int64", [2**63 - 1, 0.5], "got 0.5 at [1]; expected int64 [?]"),
        ("int64", [10.0**19], "got 1e+19 at [0]; expected int64 [?]"),
        ("int32", [float("nan")], "got nan at [0]; expected int32 [?]"),
        ("bool", [2], "got 2 at [0]; expected bool [?], true, false, 0 or 1"),
        ("float32", [1e39], "got 1e+39 at [0]; expected float32 [?], numbers from -3.4028235e+38 to 3.4028235e+38"),
        ("float64", [10**400], "at [0]; expected float64 [?], numbers from -1.7976931e+308"),
        ("float16", [70000], "got 70000 at [0]; expected float16 [?], numbers from -65504 to 65504"),
        ("bfloat16", [1e39], "got 1e+39 at [0]; expected bfloat16 [?], numbers from -3.4028235e+38"),
        ("float32", np.array([2**24 + 1]), "got 16777217 at [0] of int64 [1]; expected float32 [?]; float32 would"),
        ("float32", ["1"], "got string [1]; expected float32 [?]"),
        ("int32", np.array([1j]), "got complex128 [1]; expected int32 [?]"),
        ("int32", [[1], [2, 3]], "got a value that is not a tensor"),
        ("int32", np.array([1, None]), "its row 1 is None"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_one_sentence(dtype: str, value: Any, message: str) -> None:
    said = refused(TensorInfo(dtype, (None,)), value)
    assert str(said).startswith('m: input "x": ')
    assert message in str(said)


def test_floats_of_lists_are_rounded_and_those_of_arrays_are_not() -> None:
    info = TensorInfo("float32", (None,))
    assert info.array([0.1, 16777217], "x").tolist() == [np.float32(0.1), 16777216]
    assert info.array(np.array([0.1]), "x", rounding=True).tolist() == [np.float32(0.1)]
    halves = TensorInfo("bfloat16", (None,)).array([1.0, 1.00390625, 1.01171875, float("nan"), 0.1], "x")
    widened = tensors.widen(halves)
    assert widened[:3].tolist() == [1.0, 1.0, 1.015625]  # ties go to the even one
    assert np.isnan(widened[3])
    assert abs(widened[4] - 0.1) < 1e-3
    assert TensorInfo("complex64", (None,)).array([1, 2j], "x").tolist() == [1, 2j]


CASES: list[tuple[str, Any, Any]] = [
    ("INT8", [-128, 127.0], [-128, 127]),
    ("INT16", [-(2**15)], [-(2**15)]),
    ("INT32", [-(2**31), 2**31 - 1], [-(2**31), 2**31 - 1]),
    ("INT64", [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
    ("UINT8", [1], [1]),
    ("UINT16", [1, 2**16 - 1], [1, 2**16 - 1]),
    ("UINT32", [1, 2**32 - 1], [1, 2**32 - 1]),
    ("UINT64", [1, 2**64 - 1], [1, 2**64 - 1]),
    ("BOOL", [True, 0], [True, False]),
    ("HALF", [0.5], [0.5]),
    ("FLOAT", [1, 0.5], [1, 0.5]),
    ("DOUBLE", [0.1], [0.1]),
    ("INT8", [300], None),
    ("INT32", [3000000000], None),
    ("UINT64", [-1], None),
    ("INT64", [1.5], None),
    ("BOOL", [2], None),
    ("FLOAT", [1e39], None),
]


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize("way", ["client", "async", "verb", "regress"])
def test_every_way_to_ask_keeps_or_refuses_the_same(
    way: str, protocol: str, steady_server: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address = f"grpc://{steady_server.grpc}" if protocol == "grpc" else steady_server.rest

    def by_client(name: str, value: Any) -> Any:
        with Client(address) as client:
            return client.predict(name, value)["y"].tolist()

    def by_async_client(name: str, value: Any) -> Any:
        async def ask() -> Any:
            async with AsyncClient(address) as client:
                return (await client.predict(name, {"x": value}))["y"].tolist()

        return asyncio.run(ask())

    def by_verb(name: str, value: Any) -> Any:
        capsys.readouterr()
        if main(["predict", name, "--input", f"x={json.dumps(value)}", "--json", "--address", address]):
            said = capsys.readouterr().err
            assert len(said.splitlines()) == 1
            raise InvalidArgument(said.removeprefix("ladle: "))
        return json.loads(capsys.readouterr().out)["outputs"]["y"]["values"]

    def by_regress(name: str, value: Any) -> Any:
        with Client(address) as client:
            return client.regress(name, value).tolist()

    ask: Callable[[str, Any], Any] = {
        "client": by_client,
        "async": by_async_client,
        "verb": by_verb,
        "regress": by_regress,
    }[way]
    for dtype, value, expected in CASES:
        name = f"echo_DT_{dtype}"
        if expected is None:
            with pytest.raises(InvalidArgument, match=rf'{name}: input "x": got {value[0]!r}'.replace("+", r"\+")):
                ask(name, value)
        else:
            assert ask(name, value) == expected, name


def test_a_number_beyond_float64_is_refused_by_predict(steady_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "echo_DT_FLOAT", "--input", "x=[1e400]", "--address", f"grpc://{steady_server.grpc}"]) == 1
    assert "got 1e400; expected a number from -1.8e308 to 1.8e308" in capsys.readouterr().err
