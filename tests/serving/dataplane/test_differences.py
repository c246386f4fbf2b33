"""When two answers count as the same: numbers by their dtype, everything else exactly."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from ladle.clients.wire.tensors import BFLOAT16
from ladle.serving.dataplane.differences import Difference, compare


def bfloat16(*bits: int) -> Any:
    return np.array(bits, np.uint16).view(BFLOAT16)


def text(*words: bytes) -> Any:
    array = np.empty(len(words), object)
    array[:] = words
    return array


INF = float("inf")
IMAGE = np.full((1, 2, 2), 7, np.uint8)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), Difference(True, 0.0)),
        (np.float64([1]), np.float64([1 + 2**-18]), Difference(False, 2**-18)),
        (np.float32([1]), np.float32([1 + 2**-18]), Difference(True, 2**-18)),
        (np.float32([1]), np.float32([1.5]), Difference(False, 0.5)),
        (np.float32([1000]), np.float32([1000.0625]), Difference(True, 0.0625)),  # a ten-thousandth is 0.1
        (np.float16([1]), np.float16([1 + 2**-7]), Difference(True, 2**-7)),
        (bfloat16(0x3F80), bfloat16(0x3F81), Difference(True, 2**-7)),
        (bfloat16(0x3F80), bfloat16(0x4000), Difference(False, 1.0)),
        (np.complex64([1j]), np.complex64([3j]), Difference(False, 2.0)),
        (np.float32([np.nan, INF, -INF]), np.float32([np.nan, INF, -INF]), Difference(True, 0.0)),
        (np.float32([np.nan]), np.float32([1]), Difference(False, INF)),
        (np.float32([INF]), np.float32([1]), Difference(False, INF)),
        (np.int64([5, 9]), np.int64([5, 6]), Difference(False, 3.0)),
        (np.int64([2**62]), np.int64([2**62 + 1]), Difference(False, 0.0)),  # less than a float64 can tell apart
        (np.uint8([200]), np.uint8([201]), Difference(False, 1.0)),
        (IMAGE, IMAGE + np.uint8(1), Difference(True, 1.0)),
        (IMAGE, IMAGE + np.uint8(2), Difference(False, 2.0)),
        (np.array([True]), np.array([False]), Difference(False, 1.0)),
        (text(b"boot", b"coat"), text(b"boot", b"coat"), Difference(True, None)),
        (text(b"boot"), text(b"coat"), Difference(False, None)),
        (np.float32([1]), np.float32([1, 1]), Difference(False, None)),
        (np.float32([1]), np.float64([1]), Difference(False, None)),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), Difference(True, 0.0)),
    ],
)
def test_a_tolerance_belongs_to_a_dtype(left: Any, right: Any, expected: Difference) -> None:
    assert compare({"y": left}, {"y": right}) == {"y": expected}


def test_a_tolerance_of_ones_own_is_for_floating_point_alone() -> None:
    one, two = np.float32([1]), np.int32([1])
    found = compare({"y": one, "id": two}, {"y": one + 4, "id": two + 4}, tolerance=5.0)
    assert found == {"y": Difference(True, 4.0), "id": Difference(False, 4.0)}


@pytest.mark.parametrize("at", [0, 2**16, 2**18])
def test_a_difference_is_found_anywhere_in_a_large_answer(at: int) -> None:
    one = np.zeros((2**18 + 1, 1), np.float32)
    other = one.copy()
    other[at] = 0.5
    assert compare({"y": one}, {"y": other}) == {"y": Difference(False, 0.5)}
    assert compare({"y": one}, {"y": one}) == {"y": Difference(True, 0.0)}


def test_to_compare_large_answers_takes_little_memory() -> None:
    one = np.ones(2**23, np.float32)  # 32 MiB
    other = one.copy()
    tracemalloc.start()
    try:
        compare({"y": one}, {"y": other})
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_an_output_that_one_answer_lacks_is_different() -> None:
    one = np.float32([1])
    assert compare({"y": one, "z": one}, {"y": one, "w": one}) == {
        "y": Difference(True, 0.0),
        "z": Difference(False, None),
        "w": Difference(False, None),
    }
