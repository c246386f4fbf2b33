"""Floating-point numbers as TensorFlow Serving writes them in JSON.

A number is printf's `%.6g` if that reads back to the same value, else `%.9g` (float32) or `%.17g` (float64); whole
numbers get `.0`; the rest are NaN, Infinity and -Infinity.

Formatting number by number takes 600 ns each. `compiled.write_list` writes float32 tensors, at 20 ns each. Where it was
not compiled, they take another way, at 50 ns each:

1. NumPy finds the decimal exponent of each number, scales it to nine digits before the point, and rounds it to six and
   to nine of them. The first that reads back to the same float32 is the decimal to show.
2. As a double, that decimal is the shortest text that reads back to itself. orjson writes just such texts, so it writes
   exactly these digits.
3. orjson and printf lay numbers out alike from 0.0001 up to 999999. Outside of that, exponents are repaired in the text
   (`1e-6` to `1e-06`), and what cannot be repaired is NaN to orjson, which writes `null` in its place; the text of the
   number then replaces the `null`.

Not every scale is exact as a double. With six digits this cannot change a result: no decimal of six digits lies that
close to the middle between two floats (all were tried). With nine, outside the range of 3, it can: there numbers in
doubt are formatted one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import frexp
from typing import NamedTuple

import numpy as np
import orjson

from ladle.clients.wire.arrays import Array
from ladle.serving.rest.json import compiled, decades

FEW = 32
"""Numbers; up to here Python's arithmetic, 0.6 µs a number, takes less time than NumPy's calls, 35 µs."""
_FEW_EXPONENTS = 48
"""Numbers outside orjson's range in one tensor; up to here they are formatted one by one."""
_PART = 2**13
"""Numbers at a time: intermediate arrays stay in the processor's cache, and other threads get the GIL in between."""
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
# The range that orjson and printf lay out alike, as bits: those of positive floats are in the order of the floats.
_PLAIN_FROM, _PLAIN_TO = (int(np.float32(limit).view("<u4")) for limit in (1e-4, 1e6))
_NOWHERE = np.zeros(0, np.intp)
_MIN_CODED = -28  # the smallest exponent that `_write_exponents` can code


_TENS, _EXPONENTS, _SCALES = decades.tables()
_POWERS = np.array([float(f"1e{exponent}") for exponent in range(23)])
"""The powers of ten that a double holds exactly; a product or quotient with one of them is rounded once."""


def _scalar_tables() -> list[tuple[float, float, float, float, float]]:
    """For `_write_few`, by `frexp`'s exponent + 149: power of ten, scale below it, scale from it on, half a step,
    a step.

    The step is the distance to the next float32, at the first scale, and a little more. A number that is farther than
    half a step from a multiple of a thousand does not read back from six digits. Numbers that orjson lays out otherwise
    than printf have the scale NaN.
    """
    nan = float("nan")
    rows = [(0.0, nan, nan, 0.0, 0.0)] * 278
    for biased in range(1, 255):
        ten, below, above = float(_TENS[biased]), float(_SCALES[2 * biased]), float(_SCALES[2 * biased + 1])
        half = 2.0 ** (biased - 151) * below * 1.01
        first, last = 2.0 ** (biased - 127), 2.0 ** (biased - 126)
        is_below, is_above = first >= 1e-4 and min(last, ten) <= 1e6, max(first, ten) >= 1e-4 and last <= 1e6
        rows[biased - 126 + 149] = ten, below if is_below else nan, above if is_above else nan, half, 2 * half
    return rows


_SCALARS = _scalar_tables()
_WHOLE = 1.5 * 2.0**52
"""Added to a double below 2**51 and subtracted again, it rounds the double to an integer: no bits are left for more."""


def write(array: Array) -> bytes:
    """A float32 or float64 array of any shape as nested JSON lists."""
    if array.dtype.itemsize == 8:
        return nest([text_of(number, 17) for number in array.ravel().tolist()], array.shape)
    if compiled.write_list is not None and array.size and array.dtype.char == "f":
        return compiled.write_list(_contiguous(array), False)
    if array.size <= FEW:
        text = _write_few(array.ravel().tolist())
        return text if array.ndim == 1 else nest(text[1:-1].split(b",") if array.size else [], array.shape)
    if array.size > _PART:
        rows = max(1, len(array) * _PART // array.size)
        parts = (
            [write(array[0])]
            if len(array) == 1
            else [write(array[i : i + rows])[1:-1] for i in range(0, len(array), rows)]
        )
        return b"[%b]" % b",".join(parts)
    with np.errstate(invalid="ignore"):
        return _write_floats(np.ascontiguousarray(array))


def write_each(arrays: Sequence[Array]) -> list[bytes]:
    """`write` of each float32 array [n, ...].

    Small arrays are rounded in one go: most of their time is the overhead of NumPy's calls, which they then share.
    """
    sizes = [array.size for array in arrays]
    if compiled.write_list is not None or not FEW < sum(sizes) <= _PART or len(arrays) < 2 or not all(sizes):
        return [write(array) for array in arrays]
    whole = np.concatenate([array.reshape(-1) for array in arrays])
    with np.errstate(invalid="ignore"):
        rounded = _round(whole)
    shown, at = rounded.shown, rounded.outside
    if at.size > _FEW_EXPONENTS:
        return [write(array) for array in arrays]
    others: Iterator[bytes] = iter(())
    if at.size:
        shown[at] = np.nan
        others = map(text_of, whole[at].tolist())
    texts, start = [], 0
    for array, size in zip(arrays, sizes, strict=True):
        text = orjson.dumps(shown[start : start + size].reshape(array.shape), option=_NUMPY)
        if at.size:
            first, *pieces = text.split(b"null")
            text = b"".join([first, *[part for piece in pieces for part in (next(others), piece)]])
        texts.append(text)
        start += size
    return texts


def write_flat(arrays: Sequence[Array]) -> list[bytes]:
    """The numbers of each float32 array, without brackets: one to FEW in each."""
    if compiled.write_list is not None:
        return [compiled.write_list(_contiguous(array), True) for array in arrays]
    return [_write_few(array.ravel().tolist())[1:-1] for array in arrays]


def _contiguous(array: Array) -> Array:
    return array if array.flags.c_contiguous and array.dtype.isnative else np.array(array, np.float32, order="C")


class _Rounded(NamedTuple):
    """float32 numbers in decimal; all but `outside` are arrays of their shape.

    shown       doubles with exactly the digits to write
    reads_back  whether six digits read back to the same float32
    scaled      nine digits before the point, not rounded
    nine, six   `scaled`, rounded to nine and to six digits
    decade      index into `_EXPONENTS` and `_SCALES`
    outside     flat indices of the numbers that orjson lays out otherwise than printf
    """

    shown: Array
    reads_back: Array
    scaled: Array
    nine: Array
    six: Array
    decade: Array
    outside: Array


def _round(array: Array) -> _Rounded:
    bits = array.view("<u4") & 0x7FFFFFFF  # the sign is left out
    biased = bits >> 23
    wide = array.astype("<f8")
    decade = 2 * biased + (np.abs(wide) >= _TENS[biased])
    scales = _SCALES[decade]
    scaled = wide * scales
    nine = np.rint(scaled)
    six = np.rint(scaled * 1e-3) * 1e3
    shown = six / scales
    reads_back = shown.astype("<f4") == array
    shown = np.where(reads_back, shown, nine / scales)
    is_outside = (bits - _PLAIN_FROM) >= _PLAIN_TO - _PLAIN_FROM  # one test for both ends: below, unsigned bits wrap
    at = np.flatnonzero(is_outside & (bits != 0)) if is_outside.any() else _NOWHERE
    return _Rounded(shown, reads_back, scaled, nine, six, decade, at)


def _write_floats(array: Array) -> bytes:
    rounded = _round(array)
    shown, at = rounded.shown, rounded.outside
    if at.size <= _FEW_EXPONENTS:
        return _write_plain(array, shown, at)
    is_six = rounded.reads_back.ravel()[at]
    digits = rounded.nine.ravel()[at]
    doubt = np.abs(np.abs(rounded.scaled.ravel()[at] - digits) - 0.5) < 1e-6  # not every scale is exact
    digits = np.where(is_six, rounded.six.ravel()[at], digits)
    exponents = np.where(doubt, decades.NO_EXPONENT, _EXPONENTS[rounded.decade.ravel()[at]])
    return _write_exponents(array, shown, at, digits, exponents, is_six)


def _write_exponents(array: Array, shown: Array, at: Array, digits: Array, exponents: Array, is_six: Array) -> bytes:
    """The text when many elements, those `at`, are below 0.0001 or above 999999, or not finite.

    digits     nine before the point
    exponents  decimal, or decades.NO_EXPONENT

    orjson writes 0.00001, 1e-6 and 1e-10, where printf writes 1e-05, 1e-06 and 1e-10. Exponents below -14 need powers
    of ten above 1e22, which doubles do not hold exactly. So both -5 and those below -14 are written with an exponent of
    16 and more, which no other number here has, and `_repair_exponents` puts the true one into the text.
    """
    whole = np.abs(digits) == 1e9
    digits, exponents = np.where(whole, digits / 10, digits), exponents + whole
    flat = shown.reshape(-1)
    coded = (exponents == -5) | ((exponents < -14) & (exponents >= _MIN_CODED))
    flat[at[coded]] = digits[coded] * _POWERS[np.where(exponents == -5, 16, 2 - exponents)[coded] - 8]
    small = (exponents <= -6) & (exponents >= -14)
    flat[at[small]] = digits[small] / _POWERS[8 - exponents[small]]
    others = at[~(coded | small | ((exponents >= 6) & (exponents <= 8) & ~is_six))]
    flat[others] = np.nan
    return _fill_nulls(_repair_exponents(orjson.dumps(shown, option=_NUMPY)), array, others)


def _write_plain(array: Array, shown: Array, at: Array) -> bytes:
    """The text where orjson lays out all numbers as printf does, except a few, those `at`, formatted one by one."""
    if at.size:
        shown.reshape(-1)[at] = np.nan
    return _fill_nulls(orjson.dumps(shown, option=_NUMPY), array, at)


def _fill_nulls(text: bytes, array: Array, at: Array) -> bytes:
    """The text with its `null`s replaced by these elements of the array, in order."""
    if not at.size:
        return text
    texts = [text_of(number) for number in array.reshape(-1)[at].tolist()]
    return b"".join([part for pair in zip(text.split(b"null"), [*texts, b""], strict=True) for part in pair])


def _repair_exponents(text: bytes) -> bytes:
    """e+16 -> e-05, e+17 -> e-15, ..., e+30 -> e-28; and e-6 -> e-06, ..., e-9 -> e-09."""
    letters = np.frombuffer(bytearray(text), "u1")
    marks = np.flatnonzero(letters == ord("e"))
    coded = marks[letters[marks + 1] == ord("+")]
    if coded.size:
        codes = 10 * (letters[coded + 2] - 48) + letters[coded + 3] - 48
        exponents = np.where(codes == 16, 5, codes - 2)
        letters[coded + 1] = ord("-")
        letters[coded + 2] = 48 + exponents // 10
        letters[coded + 3] = 48 + exponents % 10
    short = marks[letters[marks + 3] - 48 > 9]  # a comma or bracket, also in unsigned arithmetic
    return np.insert(letters, short + 2, 48).tobytes() if short.size else letters.tobytes()


def _write_few(numbers: Sequence[float]) -> bytes:
    """A flat list of float32 numbers, one by one.

    Those that need nine digits go to orjson as doubles with exactly these digits, as in `_round`. Here every scale is
    exact: that of 0.0001 is 1e12.
    """
    shown: list[float | None] = []
    others = []
    rows, whole = _SCALARS, _WHOLE
    for number in numbers:
        ten, below, above, half, step = rows[frexp(number)[1] + 149]
        scale = below if -ten < number < ten else above
        scaled = number * scale
        if (scaled + half) % 1000.0 > step:  # never for NaN
            shown.append((scaled + whole - whole) / scale)
        else:
            shown.append(None)
            others.append(text_of(number))
    text: bytes = orjson.dumps(shown)
    if not others:
        return text
    pieces = text.split(b"null")
    return b"".join([part for pair in zip(pieces, [*others, b""], strict=True) for part in pair])


def text_of(number: float, digits: int = 9) -> bytes:
    """One number; `digits` is 9 for a float32, 17 for a double."""
    text = b"%.6g" % number
    off = abs(float(text) - number)
    if off:  # NaN and the infinities come here, too: their difference is NaN, which is true
        if off != off:
            return b"NaN" if number != number else b"Infinity" if number > 0 else b"-Infinity"
        # Half the distance to the next float32, or a little less: decides most cases without NumPy.
        half = abs(number) * 2**-25
        if digits == 17 or (off > half and (off > 2 * half >= 2**-150 or np.float32(float(text)) != number)):
            text = b"%.*g" % (digits, number)
    return text if b"." in text or b"e" in text else text + b".0"


def nest(texts: Sequence[bytes], shape: Sequence[int]) -> bytes:
    """The texts of a tensor's elements, in order, as nested lists of this shape."""
    if not shape:
        return texts[0]
    count = len(texts)
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        count = count // size if size else int(np.prod(shape[:axis]))
        texts = [b"[%b]" % b",".join(texts[i * size : (i + 1) * size]) for i in range(count)]
    return b"[%b]" % b",".join(texts)
