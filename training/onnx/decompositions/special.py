"""Special functions by series and fits: gamma, inverse error function, modified Bessel functions of order 0.

Lanczos 1964, "A precision approximation of the gamma function"; Giles 2012, "Approximating the erfinv function";
Acklam 2003, an algorithm for the inverse normal distribution. Seven digits, as float32 has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_G = 7.0
_LANCZOS = (
    *(0.99999999999980993227684700473478, 676.520368121885098567009190444019, -1259.13921672240287047156078755283),
    *(771.3234287776530788486528258894, -176.61502916214059906584551354, 12.507343278686904814458936853),
    *(-0.13857109526572011689554707, 9.984369578019570859563e-6, 1.50563273514931155834e-7),
)
_ERFINV_SMALL = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
_ERFINV_LARGE = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)
_ACKLAM_TAIL = (
    (
        *(-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838),
        *(-2.549732539343734, 4.374664141464968, 2.938163982698783),
    ),
    (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996, 3.754408661907416, 1.0),
)
_ACKLAM_MIDDLE = (
    (
        *(-39.69683028665376, 220.9460984245205, -275.9285104469687),
        *(138.3577518672690, -30.66479806614716, 2.506628277459239),
    ),
    (-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1.0),
)
_TAIL = 0.02425
_BESSEL_EDGE = 8.0


def _of_float(
    compute: Callable[[tf.Tensor], tf.Tensor], dtypes: Sequence[tf.DType] = (tf.float32,)
) -> Callable[[Any], list[tf.Tensor] | None]:
    def run(operation: Any) -> list[tf.Tensor] | None:
        [x] = operation.inputs
        return [compute(x)] if x.dtype in dtypes else None

    return run


def _polynomial(coefficients: Sequence[float], x: tf.Tensor) -> tf.Tensor:
    """The first coefficient is that of the highest power."""
    value = tf.zeros_like(x)
    for coefficient in coefficients:
        value = value * x + tf.constant(coefficient, x.dtype)
    return value


def _lanczos(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The series and its derivative at z, z + g + 1/2, and its logarithm."""
    series, slope = tf.zeros_like(z) + _LANCZOS[0], tf.zeros_like(z)
    for n, coefficient in enumerate(_LANCZOS[1:], 1):
        series += coefficient / (z + n)
        slope -= coefficient / ((z + n) * (z + n))
    edge = _G + 0.5
    return series, slope, z + edge, math.log(edge) + tf.math.log1p(z / edge)


def _lgamma(x: tf.Tensor) -> tf.Tensor:
    is_small = x < 0.5
    z = tf.where(is_small, -x, x - 1.0)
    series, _, t, log_t = _lanczos(z)
    value = 0.5 * math.log(2 * math.pi) + (z + 0.5 - t / log_t) * log_t + tf.math.log(series)
    # Reflection: the sine is computed near its zeros, where the argument has its digits.
    part = tf.abs(x) - tf.floor(tf.abs(x))
    part = tf.where(part > 0.5, 1.0 - part, part)
    sine = tf.math.log(tf.sin(math.pi * part))
    mirrored = tf.where(tf.math.is_finite(sine), math.log(math.pi) - sine - value, -sine)
    value = tf.where(is_small, mirrored, value)
    return tf.where(tf.math.is_inf(x), tf.zeros_like(x) + np.inf, value)


def _digamma(x: tf.Tensor) -> tf.Tensor:
    is_small = x < 0.5
    z = tf.where(is_small, -x, x - 1.0)
    series, slope, t, log_t = _lanczos(z)
    value = log_t + slope / series - _G / t
    near = x + tf.abs(tf.floor(x + 0.5))
    mirrored = value - math.pi * tf.cos(math.pi * near) / tf.sin(math.pi * near)
    is_pole = tf.logical_and(x <= 0.0, tf.equal(x, tf.floor(x)))
    value = tf.where(is_small, mirrored, value)
    return tf.where(is_pole, tf.zeros_like(x) + np.nan, value)


def _erfinv(x: tf.Tensor) -> tf.Tensor:
    w = -tf.math.log1p(-x * x)
    small = _polynomial(_ERFINV_SMALL, w - 2.5)
    large = _polynomial(_ERFINV_LARGE, tf.sqrt(tf.maximum(w, 5.0)) - 3.0)
    value = x * tf.where(w < 5.0, small, large)
    return tf.where(tf.equal(tf.abs(x), 1.0), x * np.float32(np.inf), value)


def _ndtri(p: tf.Tensor) -> tf.Tensor:
    """In float64: the terms of its quotients cancel each other."""
    p = tf.cast(p, tf.float64)
    tail = tf.minimum(p, 1.0 - p)
    safe = tf.clip_by_value(tail, np.finfo(np.float64).tiny, _TAIL)
    root = tf.sqrt(-2.0 * tf.math.log(safe))
    outer = _polynomial(_ACKLAM_TAIL[0], root) / _polynomial(_ACKLAM_TAIL[1], root)
    centred = p - 0.5
    square = centred * centred
    inner = centred * _polynomial(_ACKLAM_MIDDLE[0], square) / _polynomial(_ACKLAM_MIDDLE[1], square)
    value = tf.where(tail < _TAIL, tf.where(p < 0.5, outer, -outer), inner)
    value = tf.where(
        tf.equal(p, 0.0), tf.zeros_like(p) - np.inf, tf.where(tf.equal(p, 1.0), tf.zeros_like(p) + np.inf, value)
    )
    return tf.cast(tf.where(tf.logical_or(p < 0.0, p > 1.0), tf.zeros_like(p) + np.nan, value), tf.float32)


@functools.cache
def _bessel_fits() -> tuple[np.ndarray, np.ndarray]:
    """Polynomials for exp(-x) I0(x) below the edge, and for the same times sqrt(x) beyond, in edge/x."""
    points = (np.cos(np.linspace(0, np.pi, 400)) + 1) / 2
    near = points * _BESSEL_EDGE
    below = np.polynomial.Chebyshev.fit(near, np.exp(-near) * np.i0(near), 22, [0, _BESSEL_EDGE])
    share = points[points > 0.02]
    far = _BESSEL_EDGE / share
    values = np.append(np.sqrt(far) * np.exp(-far) * np.i0(far), 1 / np.sqrt(2 * np.pi))
    beyond = np.polynomial.Chebyshev.fit(np.append(share, 0.0), values, 9, [0, 1])
    return below.coef, beyond.coef


def _chebyshev(coefficients: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """Clenshaw's sum for x in [-1, 1]."""
    first, second = tf.zeros_like(x), tf.zeros_like(x)
    for coefficient in coefficients[:0:-1]:
        first, second = 2 * x * first - second + coefficient.astype(np.float32), first
    return x * first - second + coefficients[0].astype(np.float32)


def _i0e(x: tf.Tensor) -> tf.Tensor:
    below, beyond = _bessel_fits()
    x = tf.abs(x)
    near = _chebyshev(below, tf.minimum(x, _BESSEL_EDGE) * (2 / _BESSEL_EDGE) - 1.0)
    large = tf.maximum(x, _BESSEL_EDGE)
    far = _chebyshev(beyond, 2 * _BESSEL_EDGE / large - 1.0) / tf.sqrt(large)
    return tf.where(x < _BESSEL_EDGE, near, tf.where(tf.math.is_nan(x), x, far))


SPECIAL = {
    "Lgamma": _of_float(_lgamma, (tf.float32, tf.float64)),
    "Digamma": _of_float(_digamma, (tf.float32, tf.float64)),
    "Erfinv": _of_float(_erfinv),
    "Ndtri": _of_float(_ndtri),
    "BesselI0e": _of_float(_i0e),
    "BesselI0": _of_float(lambda x: _i0e(x) * tf.exp(tf.abs(x))),
}
