"""How far two answers to the same request are apart, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array

_TOLERANCES = {"float64": 1e-6, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2, "complex64": 1e-4}
_IMAGE_RANK = 3
_IMAGE_LEVELS = 1
_PART = 2**16  # elements that are compared at once


class Difference(NamedTuple):
    """Of one output.

    is_same  every element is within the tolerance
    largest  difference of two numbers, infinite where only one is a number; None: not numbers of one shape
    """

    is_same: bool
    largest: float | None


def compare(
    answer: Mapping[str, Array], other: Mapping[str, Array], tolerance: float | None = None
) -> dict[str, Difference]:
    """The difference of each output; an output that only one answer has is different.

    tolerance  of floating-point outputs, times the larger of 1 and the number in `answer`; None: 1e-6 for float64, 1e-4
               for float32, 1e-2 for float16, 5e-2 for bfloat16. Other outputs must be equal, except that the values of
               an image (uint8, three axes or more) may differ by one level
    """
    found = {}
    for name in dict.fromkeys((*answer, *other)):
        both = name in answer and name in other
        found[name] = _difference(answer[name], other[name], tolerance) if both else Difference(False, None)
    return found


def _difference(array: Array, other: Array, tolerance: float | None) -> Difference:
    if array.shape != other.shape or array.dtype != other.dtype:
        return Difference(False, None)
    if array.dtype.kind in "OSU":
        return Difference(bool((array == other).all()), None)
    if not array.size:
        return Difference(True, 0.0)
    is_image = array.dtype == np.uint8 and array.ndim >= _IMAGE_RANK
    flat, other = array.reshape(-1), other.reshape(-1)
    is_same, largest = True, 0.0
    # In parts: the numbers of a large answer take many times its memory while they are compared.
    for start in range(0, len(flat), _PART):
        part = slice(start, start + _PART)
        found = _numbers(flat[part], other[part], tolerance, is_image)
        is_same, largest = is_same and found.is_same, max(largest, cast(float, found.largest))
    return Difference(is_same, largest)


def _numbers(array: Array, other: Array, tolerance: float | None, is_image: bool) -> Difference:
    if array.dtype.kind in "biu":
        # Differences of integers are exact in the widest integers, if these do not overflow: uint64 would.
        wide = np.float64 if array.dtype.itemsize == 8 else np.int64
        largest = float(np.abs(array.astype(wide) - other.astype(wide)).max())
        return Difference(largest <= _IMAGE_LEVELS if is_image else bool((array == other).all()), largest)
    allowed = _TOLERANCES.get(_name(array), 1e-6) if tolerance is None else tolerance
    left, right = _widen(array), _widen(other)
    with np.errstate(invalid="ignore", over="ignore"):
        equal = (left == right) | (np.isnan(left) & np.isnan(right))
        gap = np.where(equal, 0.0, np.abs(left - right))
        gap = np.where(np.isnan(gap), np.inf, gap)  # only one of them is a number
        size = np.abs(left)
        beyond = gap > allowed * np.maximum(1.0, np.where(np.isfinite(size), size, 1.0))
    return Difference(not beyond.any(), float(gap.max()))


def _name(array: Array) -> str:
    return "bfloat16" if array.dtype == tensors.BFLOAT16 else array.dtype.name


def _widen(array: Array) -> Array:
    if array.dtype == tensors.BFLOAT16:
        array = tensors.widen(array)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
