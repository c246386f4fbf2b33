"""Floating-point numbers as TensorFlow Serving writes them in JSON.

They are printf's `%.6g` where that reads back to the same value, else its `%.9g` (float) or `%.17g` (double), with `.0`
after whole numbers; and NaN, Infinity, -Infinity.

Formatting number by number takes 600 ns each. A float tensor goes another way, at 50 ns each: NumPy rounds it to the
decimals that upstream shows, as doubles, and orjson writes the shortest digits that read back: just those decimals. (No
decimal of six digits is so near to the middle between two floats that an inexact scale could decide wrongly: all were
tried.) The two lay numbers out alike from 0.0001 to 999999. Below and above, exponents are put right in the text, and
what cannot be is written one by one, in the place of a `null`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp
from typing import NamedTuple

import numpy as np
import orjson

from ladle.clients.wire.arrays import Array

_FEW = 16
"""Up to so many numbers, one by one is quicker."""
_FEW_UNLIKE = 48
"""Up to so many of a tensor's numbers that need another exponent than orjson's, likewise."""
_MANY = 2**13
"""So many at a time: what is computed on the way stays in the cache, and other threads come in between."""
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_ALIKE_FROM, _ALIKE_TO = (int(np.float32(limit).view("<u4")) for limit in (1e-4, 1e6))
_NOWHERE = np.zeros(0, np.intp)
_NONE = -99
_LEAST = -28


def _tables() -> tuple[Array, Array, Array]:
    """What float32 numbers in [2**b, 2**(b+1)) have in common, by the biased exponent b + 127.

    tens       the power of ten among them, or the next one
    exponents  decimal: of those below, then of those from the power of ten on [2 * 256]; _NONE where there are none
    scales     10**(8 - exponent), which brings nine digits before the point
    """
    tens, exponents, scales = np.full(256, np.inf), np.full(512, _NONE), np.ones(512)
    for biased in range(1, 255):
        exponent = next(e for e in range(-38, 40) if float(f"1e{e + 1}") > 2.0 ** (biased - 127))
        tens[biased] = float(f"1e{exponent + 1}")
        for i in (0, 1):
            exponents[2 * biased + i] = exponent + i
            scales[2 * biased + i] = float(f"1e{8 - exponent - i}")
    return tens, exponents, scales


_TENS, _EXPONENTS, _SCALES = _tables()
_POWERS = np.array([float(f"1e{exponent}") for exponent in range(23)])
"""All powers of ten that a double holds exactly: what is multiplied or divided by one is rounded once."""


def _near() -> list[tuple[float, float, float, float]]:
    """By `frexp`'s exponent + 149: the power of ten among these float32 numbers, or the next one; the scales that make
    nine digits of a number below and from there on; and half the distance to the next number, at the first scale, and
    a little: a number farther than that from a thousand needs more than six digits.
    """
    near = [(0.0, 0.0, 0.0, 0.0)] * 278
    for biased in range(1, 255):
        below, above = float(_SCALES[2 * biased]), float(_SCALES[2 * biased + 1])
        near[biased - 126 + 149] = float(_TENS[biased]), below, above, 2.0 ** (biased - 151) * below * 1.01
    return near


_NEAR = _near()
_WHOLE = 1.5 * 2.0**52
"""Added to a double of fewer than 51 bits before the point, and taken away again, it rounds it, halves to even."""


def write(array: Array) -> bytes:
    """float32 or float64 of any shape as nested JSON lists."""
    if array.dtype.itemsize == 8:
        return nest([text_of(number, 17) for number in array.ravel().tolist()], array.shape)
    if array.size <= _FEW:
        text = _write_few(array.ravel().tolist())
        return text if array.ndim == 1 else nest(text[1:-1].split(b",") if array.size else [], array.shape)
    if array.size > _MANY:
        rows = max(1, len(array) * _MANY // array.size)
        parts = (
            [write(array[0])]
            if len(array) == 1
            else [write(array[i : i + rows])[1:-1] for i in range(0, len(array), rows)]
        )
        return b"[%b]" % b",".join(parts)
    with np.errstate(invalid="ignore"):
        return _write_floats(np.ascontiguousarray(array))


def write_each(arrays: Sequence[Array]) -> list[bytes]:
    """`write` of each float32 array, of rank 1 or more.

    A few numbers are computed all together: most of the time goes into NumPy's calls, not into the numbers.
    """
    sizes = [array.size for array in arrays]
    if len(arrays) < 2 or not _FEW < sum(sizes) <= _MANY or not all(sizes):
        return [write(array) for array in arrays]
    with np.errstate(invalid="ignore"):
        found = _digits(np.concatenate([array.reshape(-1) for array in arrays]))
    texts, start = [], 0
    for array, size in zip(arrays, sizes, strict=True):
        shown = found.shown[start : start + size].reshape(array.shape)
        at = found.unlike
        if at.size:
            at = at[(at >= start) & (at < start + size)] - start
        texts.append(_write_alike(array, shown, at) if at.size <= _FEW_UNLIKE else write(array))
        start += size
    return texts


class _Digits(NamedTuple):
    """What is computed of float32 numbers, arrays of their shape.

    shown       as doubles with just the digits of the text    scaled, nine, six  nine digits before the point: exact,
    reads_back  whether six digits do                          rounded to nine, and to six
    decade      where in `_EXPONENTS` and `_SCALES`            unlike  indices of those that orjson lays out otherwise
    """

    shown: Array
    reads_back: Array
    scaled: Array
    nine: Array
    six: Array
    decade: Array
    unlike: Array


def _digits(array: Array) -> _Digits:
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
    unlike = (bits - _ALIKE_FROM) >= _ALIKE_TO - _ALIKE_FROM  # unsigned: what is below the first is large, too
    at = np.flatnonzero(unlike & (bits != 0)) if unlike.any() else _NOWHERE
    return _Digits(shown, reads_back, scaled, nine, six, decade, at)


def _write_floats(array: Array) -> bytes:
    found = _digits(array)
    shown, at = found.shown, found.unlike
    if at.size <= _FEW_UNLIKE:
        return _write_alike(array, shown, at)
    is_six = found.reads_back.ravel()[at]
    digits = found.nine.ravel()[at]
    doubt = np.abs(np.abs(found.scaled.ravel()[at] - digits) - 0.5) < 1e-6  # not every scale is exact
    digits = np.where(is_six, found.six.ravel()[at], digits)
    exponents = np.where(doubt, _NONE, _EXPONENTS[found.decade.ravel()[at]])
    return _write_unlike(array, shown, at, digits, exponents, is_six)


def _write_unlike(array: Array, shown: Array, at: Array, digits: Array, exponents: Array, is_six: Array) -> bytes:
    """The text when the elements `at` are below 0.0001 or above 999999, or not finite.

    digits     nine before the point        exponents  decimal, or _NONE
    orjson writes 0.00001, 1e-6, 1e-10; wanted are 1e-05, 1e-06, 1e-10. From the scale 1e22 on, doubles are not exact.
    So -5 and what is below -14 are written with exponents from 16 on, which nothing else here has.
    """
    whole = np.abs(digits) == 1e9
    digits, exponents = np.where(whole, digits / 10, digits), exponents + whole
    flat = shown.reshape(-1)
    coded = (exponents == -5) | ((exponents < -14) & (exponents >= _LEAST))
    flat[at[coded]] = digits[coded] * _POWERS[np.where(exponents == -5, 16, 2 - exponents)[coded] - 8]
    small = (exponents <= -6) & (exponents >= -14)
    flat[at[small]] = digits[small] / _POWERS[8 - exponents[small]]
    others = at[~(coded | small | ((exponents >= 6) & (exponents <= 8) & ~is_six))]
    flat[others] = np.nan
    return _filled(_mend_exponents(orjson.dumps(shown, option=_NUMPY)), array, others)


def _write_alike(array: Array, shown: Array, at: Array) -> bytes:
    """The text where orjson lays all numbers out right but those `at` a few places, which are written one by one."""
    if at.size:
        shown.reshape(-1)[at] = np.nan
    return _filled(orjson.dumps(shown, option=_NUMPY), array, at)


def _filled(text: bytes, array: Array, at: Array) -> bytes:
    """The text with these elements of the array in the places of its `null`s."""
    if not at.size:
        return text
    texts = [text_of(number) for number in array.reshape(-1)[at].tolist()]
    return b"".join([part for pair in zip(text.split(b"null"), [*texts, b""], strict=True) for part in pair])


def _mend_exponents(text: bytes) -> bytes:
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
    """float32 numbers one by one, as a flat list. Those that need nine digits go to orjson as doubles that have just
    these; up to the scale 1e12, that of 0.0001, all products are exact."""
    shown: list[float | None] = []
    others = []
    for number in numbers:
        size = abs(number)
        if 1e-4 <= size < 1e6:
            ten, below, above, half = _NEAR[frexp(number)[1] + 149]
            scale = below if size < ten else above
            scaled = number * scale
            if (scaled + half) % 1000.0 > 2 * half:
                shown.append((scaled + _WHOLE - _WHOLE) / scale)
                continue
        shown.append(None)
        others.append(text_of(number))
    text: bytes = orjson.dumps(shown)
    if not others:
        return text
    pieces = text.split(b"null")
    return b"".join([part for pair in zip(pieces, [*others, b""], strict=True) for part in pair])


def text_of(number: float, digits: int = 9) -> bytes:
    """One number; digits 9 of a float32, 17 of a double."""
    text = b"%.6g" % number
    off = abs(float(text) - number)
    if off:  # so it is, too, of NaN and the infinities
        if off != off:
            return b"NaN" if number != number else b"Infinity" if number > 0 else b"-Infinity"
        half = abs(number) * 2**-25  # of the distance to the next float32, or less
        if digits == 17 or (off > half and (off > 2 * half >= 2**-150 or np.float32(float(text)) != number)):
            text = b"%.*g" % (digits, number)
    return text if b"." in text or b"e" in text else text + b".0"


def nest(texts: Sequence[bytes], shape: Sequence[int]) -> bytes:
    """The texts of a tensor's elements as nested lists."""
    if not shape:
        return texts[0]
    count = len(texts)
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        count = count // size if size else int(np.prod(shape[:axis]))
        texts = [b"[%b]" % b",".join(texts[i * size : (i + 1) * size]) for i in range(count)]
    return b"[%b]" % b",".join(texts)
