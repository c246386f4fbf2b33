"""Functions of float64 that ONNX Runtime computes in float32 alone, where numbers above 3.4e38 are infinite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_LARGE = 1e100


def _asinh(x: tf.Tensor) -> tf.Tensor:
    size = tf.abs(x)
    safe = tf.minimum(size, _LARGE)  # its square is finite
    value = tf.math.log(safe + tf.sqrt(safe * safe + 1))
    return tf.sign(x) * tf.where(size > _LARGE, tf.math.log(size) + math.log(2), value)


def _acosh(x: tf.Tensor) -> tf.Tensor:
    value = tf.math.log(x + tf.sqrt(x - 1) * tf.sqrt(x + 1))
    return tf.where(x > _LARGE, tf.math.log(x) + math.log(2), value)


def _of_units(compute: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """In float32, a number just above 1 would be 1."""
    return lambda x: tf.where(tf.abs(x) > 1, tf.constant(math.nan, x.dtype), compute(x))


_FUNCTIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "Tan": lambda x: tf.sin(x) / tf.cos(x),
    "Sinh": lambda x: (tf.exp(x) - tf.exp(-x)) / 2,
    "Cosh": lambda x: (tf.exp(x) + tf.exp(-x)) / 2,
    "Asinh": _asinh,
    "Acosh": _acosh,
    "Atanh": lambda x: tf.math.log((1 + x) / (1 - x)) / 2,
    "Softplus": lambda x: tf.maximum(x, 0) + tf.math.log1p(tf.exp(-tf.abs(x))),
    "Asin": _of_units(tf.asin),
    "Acos": _of_units(tf.acos),
}


def _computed(operation: Any) -> list[tf.Tensor] | None:
    [x] = operation.inputs
    return [_FUNCTIONS[operation.type](x)] if x.dtype == tf.float64 else None


DOUBLES = dict.fromkeys(_FUNCTIONS, _computed)
