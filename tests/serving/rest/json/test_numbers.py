"""Numbers are written as printf does: six digits if they read back to the same value, else nine or seventeen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.serving.rest.json import numbers as json_numbers
from ladle.serving.rest.json.numbers import text_of, write, write_each
from tests.serving.rest.ways import each_way  # noqa: F401

GOLDEN = {
    3.0: "3.0",
    0.1: "0.1",
    1 / 3: "0.333333343",
    -0.0: "-0.0",
    0.00003: "3e-05",
    9000000.0: "9e+06",
    16777216.0: "16777216.0",
    1435774380.0: "1.43577434e+09",
    float("nan"): "NaN",
    float("inf"): "Infinity",
    float("-inf"): "-Infinity",
    0.0001: "0.0001",
    1e-5: "1e-05",
    999999.0: "999999.0",
    1e6: "1e+06",
    1234567.0: "1234567.0",
    1.4e-45: "1.4013e-45",
    3.4028235e38: "3.40282347e+38",
}


def reference(number: float, kind: type[np.floating]) -> str:  # type: ignore[type-arg]
    """Straight from the rule."""
    if number != number:
        return "NaN"
    if number in (float("inf"), float("-inf")):
        return "Infinity" if number > 0 else "-Infinity"
    text = f"{number:.6g}"
    if kind(text) != kind(number):
        text = f"{number:.{9 if kind is np.float32 else 17}g}"
    return text if "." in text or "e" in text else f"{text}.0"


def check(array: np.ndarray) -> None:  # type: ignore[type-arg]
    kind = array.dtype.type
    wanted = [reference(number, kind) for number in array.ravel().tolist()]
    texts = write(array).decode().replace("[", "").replace("]", "").split(",") if array.size else []
    assert texts == wanted
    few = [write(array.ravel()[i : i + 8]).decode()[1:-1] for i in range(0, array.size, 8)]
    assert ",".join(few) == ",".join(wanted)
    digits = 9 if kind is np.float32 else 17
    assert [text_of(number, digits).decode() for number in array.ravel().tolist()] == wanted


def test_the_numbers_of_the_contract() -> None:
    numbers = np.array(list(GOLDEN) * 3, np.float32)
    assert len(numbers) > json_numbers.FEW  # by NumPy, and below one by one
    assert write(numbers).decode() == f"[{','.join([*GOLDEN.values()] * 3)}]"
    for number, text in zip(numbers, GOLDEN.values(), strict=False):
        assert write(number[None]).decode() == f"[{text}]"
    assert write(np.array([1 / 3, 0.1, 1e300, 12345678.0, -0.0])).decode() == (
        "[0.33333333333333331,0.1,1e+300,12345678.0,-0.0]"
    )


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # signalling NaNs
@given(st.lists(st.integers(0, 2**32 - 1), max_size=60))
def test_any_bits_of_a_float(bits: list[int]) -> None:
    check(np.array(bits, np.uint32).view(np.float32))


@given(st.lists(st.floats(width=32) | st.floats(-1, 1, width=32) | st.integers(-(10**8), 10**8), max_size=60))
def test_any_float(numbers: list[float]) -> None:
    check(np.array(numbers, np.float32))


@given(st.lists(st.floats() | st.decimals(-1000, 1000, places=4), max_size=20))
def test_any_double(numbers: list[float]) -> None:
    check(np.array(numbers, np.float64))


@pytest.mark.parametrize(
    "numbers",
    [
        np.exp(np.random.default_rng(0).uniform(-75, 30, 20000)),
        [
            sign * float(f"{step}e{power}")
            for power in range(-45, 38)
            for step in (1, 1.5, 2, 9.99999, 123456)
            for sign in (1, -1)
        ],
        [2.0**power for power in range(-149, 128)],
        np.nextafter(np.float32([float(f"1e{power}") for power in range(-40, 39)]), np.float32(0)),
        np.nextafter(np.float32([float(f"1e{power}") for power in range(-40, 38)]), np.float32(np.inf)),
        np.random.default_rng(1).integers(0, 2**20, 20000) / 2.0 ** np.random.default_rng(2).integers(0, 40, 20000),
        np.random.default_rng(3).integers(0, 2**31, 20000),
        np.arange(1, 20000) * np.float64(1e-6),
    ],
    ids=["magnitudes", "few digits", "powers of two", "below tens", "above tens", "halves", "integers", "steps"],
)
def test_numbers_at_the_edges_of_the_rule(numbers: list[float]) -> None:
    check(np.array(numbers, np.float32))


@pytest.mark.parametrize(
    "shape", [(), (3,), (20,), (2, 10), (3, 1, 7), (0,), (2, 0), (0, 2), (0, 1), (2, 0, 3)], ids=str
)
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_any_shape_is_nested(shape: tuple[int, ...], dtype: str) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    assert write(array).decode() == str(array.tolist()).replace(" ", "")


@pytest.mark.parametrize("unlike", [3, 60], ids=["few", "many"])
def test_tensors_written_together_are_written_as_alone(unlike: int) -> None:
    """Also those that have numbers with other exponents than JSON's usual ones."""
    plain = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4)
    small = np.linspace(0.1, 1, 80, dtype=np.float32).reshape(8, 10)
    small.reshape(-1)[-unlike:] = np.resize(np.array([1e-6, np.nan, 1e9, 3e-7, -np.inf, 1e-30], np.float32), unlike)
    last = np.array([7.25, 1e-5], np.float32)
    assert write_each([plain, small, last]) == [write(plain), write(small), write(last)]
    assert write_each([plain[::-1, ::2], last[:0]]) == [write(plain[::-1, ::2]), b"[]"]


def test_the_array_is_not_changed_and_need_not_be_contiguous() -> None:
    array = np.array([[1e-5, np.nan, 0.1, 1e9]] * 5, np.float32).T
    before = array.copy()
    assert write(array) == write(before)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    "shape", [(20_000,), (1, 128, 128, 2), (3, 5000), (20_000, 1), (2, 1, 10_000), (9000, 0)], ids=str
)
def test_large_arrays_are_written_in_parts(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(np.float32)
    assert write(array).decode() == str(array.tolist()).replace(" ", "")
