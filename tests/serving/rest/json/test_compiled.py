"""The compiled reader and writer give what Python's own conversions give, for any number and any text."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sysconfig
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ladle.serving.rest.json import compiled, numbers

HAS_COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is not None
HAS_HEADERS = (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()
STATUS = Path("/proc/self/statm")
needs_compiled = pytest.mark.skipif(compiled.read_list is None, reason="this machine has no C compiler")


def read(text: str, dtype: str = "f8") -> tuple[list[Any], tuple[int, ...], int] | None:
    assert compiled.read_list is not None
    found = compiled.read_list(text.encode(), 0, dtype)
    return None if found is None else (np.frombuffer(found[0], dtype).tolist(), *found[1:])


def resident_bytes() -> int:
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_machine_with_a_compiler_has_compiled_it() -> None:
    if not HAS_COMPILER or not HAS_HEADERS:
        pytest.skip("this machine cannot compile")
    assert compiled.read_list is not None
    assert compiled.write_list is not None


DIGITS = st.integers(0, 10**22).map(str)
EXPONENTS = st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 99))
SPELT = st.builds(
    lambda sign, whole, part, exponent: sign + whole + part + exponent,
    st.sampled_from(["", "-"]),
    DIGITS,
    st.just("") | st.builds(lambda zeros, digits: "." + "0" * zeros + digits, st.integers(0, 70), DIGITS),
    st.just("")
    | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 99)),
)


@needs_compiled
@settings(max_examples=2000)
@given(SPELT | st.floats(allow_nan=False, allow_infinity=False).map(repr))
@example("9007199254740993")  # between two doubles
@example("9007199254740993.00000000000000000000000000000000000000000000000000000000000000000000000001")
@example("1.7976931348623157e99")
@example("0.0000000000000000000000000000000000000000000000000000000000000000000001e70")
@example("-0")
@example("-0.0e5")
@example("12345678901234567890123")
def test_a_number_is_the_nearest_double(text: str) -> None:
    found = read(f"[{text}]")
    exponent = text.lower().partition("e")[2].lstrip("+-")
    if len(exponent) > 2 or not np.isfinite(float(text)):
        assert found is None
        return
    assert found is not None
    (number,), shape, end = found
    wanted = 0.0 if text == "-0" else float(text)  # an integer has one zero
    assert struct.pack("d", number) == struct.pack("d", wanted)
    assert (shape, end) == ((1,), len(text) + 2)


@needs_compiled
@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_an_integer_keeps_all_its_digits(number: int) -> None:
    assert read(f"[{number}]", "i8") == ([number], (1,), len(str(number)) + 2)


@needs_compiled
@pytest.mark.parametrize(
    "text",
    ["[1.0]", "[1e3]", "[1000000000000000000]", "[-9223372036854775808]", "[true]"],
)
def test_no_integer_is_left_to_others(text: str) -> None:
    assert read(text, "i8") is None


FAULTS = [
    "", "[", "[]", "[[]]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[01]", "[-]", "[+1]", "[.5]", "[1.]", "[1.e3]",
    "[1e]", "[1e+]", "[1e400]", "[0e999]", "[0x10]", "[1_0]", "[NaN]", "[Infinity]", "[-Infinity]", "[inf]", "[true]",
    "[null]", '["1"]', "[{}]", "[[1],2]", "[1,[2]]", "[[1,2],[3]]", "[[1],[[2]]]", "[[[1]],[2]]", "[[1]", "[1\0]",
    "[" * 33 + "1" + "]" * 33, "1", "{}", "[1\u00a0]", "[１]",
]  # fmt: skip


@needs_compiled
@pytest.mark.parametrize("text", FAULTS)
def test_what_is_no_even_list_of_numbers_is_left_to_others(text: str) -> None:
    assert read(text) is None
    assert read(text, "i8") is None


@needs_compiled
@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.sampled_from(["", " ", "\n\t\r "]))
def test_any_shape_is_read(shape: list[int], blank: str) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    text = json.dumps(array.tolist(), separators=(blank + "," + blank, ":")).replace("[", "[" + blank)
    found = read(text + "x")
    assert found == (array.ravel().tolist(), tuple(shape), len(text))


@needs_compiled
@given(st.text(alphabet='[]{},:.-+eE0123456789 \n"tfn\0é', max_size=40), st.sampled_from(["f4", "f8", "i8"]))
def test_any_text_is_refused_or_read_as_json_has_it(text: str, dtype: str) -> None:
    found = read(text, dtype)
    if found is None:
        return
    numbers, shape, end = found
    array = np.array(json.loads(text.encode()[:end]), np.float64)
    assert array.shape == shape
    np.testing.assert_array_equal(array.ravel().astype(dtype), numbers)


@needs_compiled
@given(st.binary(max_size=60), st.integers(-2, 70))
def test_any_bytes_from_any_place_are_survived(text: bytes, start: int) -> None:
    assert compiled.read_list is not None
    found = compiled.read_list(b"[" + text, start, "f4")
    assert found is None or found[2] <= len(text) + 1


@needs_compiled
def test_a_large_list_lets_other_threads_run() -> None:
    assert compiled.read_list is not None
    text = b"[" + b",".join([b"0.123456789"] * 2_000_000) + b"]"
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(len(compiled.read_list(text, 0, "f4")[0])))  # type: ignore[misc, index]
    turns = 0
    reader.start()
    while reader.is_alive():
        turns += 1  # with the lock held, this thread would get one turn before and one after
        reader.join(1e-4)
    assert seen == [8_000_000]
    assert turns > 3


@needs_compiled
@settings(max_examples=2000)
@given(st.lists(st.floats(width=32), min_size=1, max_size=8))
def test_written_numbers_read_back_and_are_as_short_as_printf_has_them(numbers: list[float]) -> None:
    assert compiled.write_list is not None
    texts = compiled.write_list(np.array(numbers, np.float32), True).decode().split(",")
    for number, text in zip(numbers, texts, strict=True):
        if not np.isfinite(number):
            assert text == {np.inf: "Infinity", -np.inf: "-Infinity"}.get(number, "NaN")
            continue
        short = f"{number:.6g}" if np.float32(f"{number:.6g}") == np.float32(number) else f"{number:.9g}"
        assert text == (short if "." in short or "e" in short else short + ".0")


@needs_compiled
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (2, 3), (2, 1, 3), (1, 2, 2, 1), (2,) * 8])
def test_any_shape_is_written(shape: tuple[int, ...]) -> None:
    assert compiled.write_list is not None
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape), np.float32)
    assert json.loads(compiled.write_list(array, False)) == array.tolist()


@needs_compiled
@pytest.mark.parametrize("dtype", [">f4", "f2", "f8", "i4"])
def test_only_float32_in_the_machines_order_is_written(dtype: str) -> None:
    assert compiled.write_list is not None
    with pytest.raises(ValueError, match="expected float32 in the machine's order of bytes"):
        compiled.write_list(np.array([1, 2], dtype), False)
    if dtype != "i4":
        assert numbers.write(np.array([1, 2], dtype)) == b"[1.0,2.0]"


@needs_compiled
def test_an_empty_array_is_left_to_others() -> None:
    assert compiled.write_list is not None
    with pytest.raises(ValueError, match="expected numbers"):
        compiled.write_list(np.zeros((2, 0), np.float32), False)
    assert numbers.write(np.zeros((2, 0), np.float32)) == b"[[],[]]"


@needs_compiled
@pytest.mark.parametrize("start", [-(2**63), -1, 3, 2**63 - 1])
def test_a_list_outside_of_the_text_is_none(start: int) -> None:
    assert compiled.read_list is not None
    assert compiled.read_list(b"[1]", start, "f4") is None


@needs_compiled
@pytest.mark.skipif(not STATUS.exists(), reason="the memory in use is read from Linux's /proc")
def test_many_lists_in_a_large_text_take_memory_for_their_own_numbers() -> None:
    """An allocation for the rest of the text, given back but for a page, would take 4 KB a list."""
    assert compiled.read_list is not None
    text = b'{"a":[1]},' * 5000 + b" " * 2**24
    before = resident_bytes()
    found = [compiled.read_list(text, at + 5, "f4") for at in range(0, 50_000, 10)]
    assert all(each is not None and each[1] == (1,) for each in found)
    assert resident_bytes() - before < 10_000_000
