"""Numbers as another dtype. What does not fit is named and refused; nothing wraps or is cut."""

from __future__ import annotations

from typing import Any

import numpy as np

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array

_EXACT_FLOAT64 = 2**53
"""Up to this size, float64 holds every whole number."""
_MANTISSA_BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


class MisfitError(ValueError):
    """A value that the dtype does not hold; the text begins with "got"."""

    def __init__(self, what: str, expected: str = "", rounded: bool = False) -> None:
        super().__init__(what)
        self.expected, self.rounded = expected, rounded


def cast(array: Array, dtype: str, rounding: bool = False) -> Array:
    """Booleans or numbers as `dtype`, a name as `TensorInfo` has it: bool, numbers of any kind, or bfloat16.

    rounding  a float dtype may round the values to its nearest; without it, every value must stay the same

    MisfitError names the first value that does not fit, and its place. TypeError: `array` holds no numbers, or complex
    ones where `dtype` is real.
    """
    array = array.astype(np.float32) if array.dtype.name == "bfloat16" else tensors.widen(array)  # both exactly
    if array.dtype.kind not in ("biufc" if dtype.startswith("complex") else "biuf"):
        raise TypeError(f"{array.dtype} is not {dtype}")
    if dtype == "bool":
        return _as_bools(array)
    if dtype == "bfloat16":
        return _as_floats(array, dtype, rounding)
    if np.dtype(dtype).kind in "iu":
        return _as_integers(array, np.dtype(dtype))
    return _as_floats(array, dtype, rounding)


def cast_values(value: Any, dtype: str) -> Array:
    """Numbers or nested lists as `dtype`; floats are rounded as a literal is. MisfitError, TypeError: as `cast`.

    ValueError: the rows differ in length, or something in them is no number.
    """
    array = np.asarray(value)
    whole = dtype != "bool" and dtype != "bfloat16" and np.dtype(dtype).kind in "iu"
    mixed = array.dtype.kind == "f" and whole and array.size and not np.all(np.abs(array) < _EXACT_FLOAT64)
    if array.dtype.kind != "O" and not mixed:
        return cast(array, dtype, rounding=True)
    # NumPy has no integers beyond 64 bits, and makes floats of a list that mixes large integers with others.
    leaves = np.array(value, object)
    _refuse_others(leaves)
    if not whole:
        try:
            return cast(leaves.astype(np.float64), dtype, rounding=True)
        except OverflowError:
            huge = [abs(leaf) >= 2**1024 if isinstance(leaf, int) else False for leaf in leaves.ravel()]
            raise _misfit(leaves, np.array(huge).reshape(leaves.shape), dtype) from None
    limits = np.iinfo(dtype)
    wrong = [not _is_whole(leaf) or not limits.min <= leaf <= limits.max for leaf in leaves.ravel()]
    if any(wrong):
        raise _misfit(leaves, np.array(wrong).reshape(leaves.shape), dtype)
    return np.array([int(leaf) for leaf in leaves.ravel()], dtype).reshape(leaves.shape)


def refuse_none(leaves: Array) -> None:
    """ValueError names the row of the first None in an array of objects."""
    for place in np.ndindex(leaves.shape):
        if leaves[place] is None:
            row = f"its row {place[0]} {'is' if leaves.ndim == 1 else 'holds'}" if place else "it is"
            raise ValueError(f"{row} None")


def _refuse_others(leaves: Array) -> None:
    refuse_none(leaves)
    if not all(isinstance(leaf, int | float | np.number | np.bool_) for leaf in leaves.ravel()):
        raise ValueError("its rows differ in length or hold something other than numbers")


def _is_whole(leaf: Any) -> bool:
    return not isinstance(leaf, float | np.floating) or bool(np.isfinite(leaf) and leaf == int(leaf))


def range_of(dtype: str) -> str:
    """The values that `dtype` holds, in words."""
    if dtype == "bool":
        return "true, false, 0 or 1"
    if dtype in ("bfloat16", "complex64"):  # both have the range of float32
        return range_of("float32")
    if dtype == "complex128":
        return range_of("float64")
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return f"whole numbers from {limits.min} to {limits.max}"
    most = np.finfo(dtype).max
    return f"numbers from {-most:.8g} to {most:.8g}"


def _as_bools(array: Array) -> Array:
    wrong = (array != 0) & (array != 1)
    if np.any(wrong):
        raise _misfit(array, wrong, "bool")
    return array.astype(bool)


def _as_integers(array: Array, dtype: np.dtype[Any]) -> Array:
    limits, fits = np.iinfo(dtype), np.can_cast(array.dtype, dtype)
    wrong = np.zeros(array.shape, bool)
    if array.dtype.kind == "f":
        # The first whole number above the limits is a power of two, which floats hold; the last one below may not be.
        wide = array.astype(np.promote_types(array.dtype, np.float64))
        wrong = ~((wide >= float(limits.min)) & (wide < float(limits.max + 1)) & (np.trunc(wide) == wide))  # also NaN
    elif not fits and array.size:
        source = np.iinfo(array.dtype)
        if source.min < limits.min:
            wrong |= array < limits.min
        if source.max > limits.max:
            wrong |= array > limits.max
    if np.any(wrong):
        raise _misfit(array, wrong, str(dtype))
    return array.astype(dtype)


def _as_floats(array: Array, dtype: str, rounding: bool) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        made = tensors.narrow(array.astype(np.float32)) if dtype == "bfloat16" else array.astype(dtype)
    back = tensors.widen(made)
    beyond = np.isinf(back) & np.isfinite(array)
    if np.any(beyond):
        raise _misfit(array, beyond, dtype)
    if rounding or array.dtype.kind == "b":
        return made
    changed = (
        ~_holds(array, dtype) if array.dtype.kind in "iu" else (back != array) & ~(np.isnan(back) & np.isnan(array))
    )
    if np.any(changed):
        raise _misfit(array, changed, dtype, rounded=True)
    return made


def _holds(whole: Array, dtype: str) -> Array:
    """Which whole numbers keep their value as floats of `dtype`.

    Those do whose bits, from the highest one to the lowest one that is set, fit its mantissa.
    """
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    # The magnitude of the lowest int64 has no int64, but as uint64 its bits are right.
    size = (whole if whole.dtype.kind == "u" else np.abs(whole.astype(np.int64))).astype(np.uint64)
    lowest_bit = np.maximum(size & (~size + np.uint64(1)), np.uint64(1))
    held: Array = size // lowest_bit < np.uint64(1 << _MANTISSA_BITS[real])
    return held


def _misfit(array: Array, wrong: Array, dtype: str, rounded: bool = False) -> MisfitError:
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    at = f" at [{', '.join(map(str, place))}]" if place else ""
    value = array[place]
    text = str(value) if isinstance(value, np.generic | int | float) else repr(value)
    return MisfitError(f"got {text}{at}", range_of(dtype), rounded)
