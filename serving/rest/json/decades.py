"""The powers of ten that scale float32 numbers to nine digits, for both ways of writing them."""

from __future__ import annotations

import functools

import numpy as np

from ladle.clients.wire.arrays import Array

NO_EXPONENT = -99


@functools.cache
def tables() -> tuple[Array, Array, Array]:
    """What the float32 numbers in [2**b, 2**(b+1)) share, by their biased exponent b + 127.

    tens       [256]      the power of ten among them, or the next one above
    exponents  [2 * 256]  decimal exponents, in pairs: below that power of ten, and from it on; NO_EXPONENT: no number
    scales     [2 * 256]  10**(8 - exponent): the factor that gives nine digits before the point
    """
    tens, exponents, scales = np.full(256, np.inf), np.full(512, NO_EXPONENT), np.ones(512)
    exponent = -38
    for biased in range(1, 255):
        while float(f"1e{exponent + 1}") <= 2.0 ** (biased - 127):
            exponent += 1
        tens[biased] = float(f"1e{exponent + 1}")
        for i in (0, 1):
            exponents[2 * biased + i] = exponent + i
            scales[2 * biased + i] = float(f"1e{8 - exponent - i}")
    return tens, exponents, scales
