"""Stateless random numbers: Philox 4x32-10 in int64, as TensorFlow's kernels draw them on the CPU.

Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". Words of 32 bits are int64 here: ONNX
Runtime adds and multiplies those.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

_HALF, _WORD = 2**16, 2**32
_MULTIPLY = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_SCRAMBLE_KEY = (0x3EC8F720, 0x02461E29)
_ROUNDS = 10
_PHILOX = (1, 3)  # 3 chooses by device, and on the CPU it is Philox

Words = list[tf.Tensor]


def _int64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)


def _product(x: tf.Tensor, constant: int) -> tuple[tf.Tensor, tf.Tensor]:
    """High and low word of a word times a constant. Its halves are multiplied, since int64 has one bit too few."""
    high, low = divmod(constant, _HALF)
    upper, lower = tf.truncatediv(x, _int64(_HALF)), tf.math.floormod(x, _int64(_HALF))
    least = lower * low
    middle = upper * low + lower * high
    least += tf.math.floormod(middle, _int64(_HALF)) * _HALF
    top = upper * high + tf.truncatediv(middle, _int64(_HALF)) + tf.truncatediv(least, _int64(_WORD))
    return top, tf.math.floormod(least, _int64(_WORD))


def _blocks(key: Words, counter: Words) -> Words:
    """The four words of each block."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _product(c0, _MULTIPLY[0])
        high1, low1 = _product(c2, _MULTIPLY[1])
        c0 = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(high1, c1), k0)
        c2 = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(high0, c3), k1)
        c1, c3 = low1, low0
        k0 = tf.math.floormod(k0 + _WEYL[0], _int64(_WORD))
        k1 = tf.math.floormod(k1 + _WEYL[1], _int64(_WORD))
    return [c0, c1, c2, c3]


def _split(value: tf.Tensor) -> Words:
    """Low and high word of an int64."""
    upper = tf.math.floordiv(value, _int64(_WORD))
    return [tf.math.floormod(value, _int64(_WORD)), tf.math.floormod(upper, _int64(_WORD))]


def _of_seed(seed: tf.Tensor) -> tuple[Words, Words]:
    """Key, and counter, of a seed with two elements."""
    seed = tf.cast(seed, tf.int64)
    mixed = _blocks([_int64(word) for word in _SCRAMBLE_KEY], [*_split(seed[0]), *_split(seed[1])])
    return mixed[:2], [_int64(0), _int64(0), *mixed[2:]]


def _of_constants(key: np.ndarray, counter: np.ndarray) -> tuple[Words, Words]:
    words = [[part for value in array.tolist() for part in (value % _WORD, value // _WORD)] for array in (key, counter)]
    return [_int64(word) for word in words[0][:2]], [_int64(word) for word in words[1]]


def _state(operation: Any) -> tuple[Words, Words] | None:
    """Key and counter of an operation; None if they come from elsewhere than a seed."""
    if not operation.type.endswith("V2"):
        return _of_seed(operation.inputs[1])
    key, counter, algorithm = operation.inputs[1:4]
    known = tf.get_static_value(algorithm)
    if algorithm.op.type != "StatelessRandomGetAlg" and (known is None or int(known) not in _PHILOX):
        return None
    if key.op.type == "StatelessRandomGetKeyCounter" and counter.op is key.op:
        return _of_seed(key.op.inputs[0])
    constants = tf.get_static_value(key), tf.get_static_value(counter)
    return None if any(value is None for value in constants) else _of_constants(*constants)


def _words(operation: Any, each: int) -> tuple[tf.Tensor, tf.Tensor] | None:
    """The words of so many blocks that each makes `each` values, int64 [blocks, 4], and the number of values."""
    state = _state(operation)
    if state is None:
        return None
    key, (low, second, *high) = state
    known = tf.get_static_value(low), tf.get_static_value(second)
    if any(value is None or int(value) for value in known):  # a counter that was moved
        return None
    shape = tf.cast(operation.inputs[0], tf.int64)
    if shape.shape.rank is None or shape.shape[0] is None:
        return None
    count = math.prod(tf.unstack(shape), start=_int64(1))
    blocks = tf.range(tf.truncatediv(count + each - 1, _int64(each)))
    zero = tf.zeros_like(blocks)
    made = _blocks(key, [blocks, zero, *(zero + word for word in high)])
    return tf.stack(made, 1), count


def _shaped(operation: Any, values: tf.Tensor, count: tf.Tensor) -> list[tf.Tensor]:
    return [tf.reshape(tf.reshape(values, [-1])[:count], operation.inputs[0])]


def _fraction(words: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Values in [0, 1) of the lowest 23 bits; float64 has 52 bits of two words."""
    if dtype == tf.float64:
        pairs = tf.reshape(words, [-1, 2, 2])
        bits = tf.math.floormod(pairs[:, :, 0], _int64(2**20)) * _WORD + pairs[:, :, 1]
        return tf.cast(bits, tf.float64) / 2.0**52
    return tf.cast(tf.math.floormod(words, _int64(2**23)), tf.float32) / 2.0**23


def _uniform(operation: Any) -> list[tf.Tensor] | None:
    dtype = operation.outputs[0].dtype
    found = _words(operation, 2 if dtype == tf.float64 else 4) if dtype in (tf.float32, tf.float64) else None
    return None if found is None else _shaped(operation, _fraction(found[0], dtype), found[1])


def _normal(operation: Any) -> list[tf.Tensor] | None:
    """Box-Muller: two values of two uniform ones."""
    dtype = operation.outputs[0].dtype
    found = _words(operation, 2 if dtype == tf.float64 else 4) if dtype in (tf.float32, tf.float64) else None
    if found is None:
        return None
    pairs = tf.reshape(_fraction(found[0], dtype), [-1, 2])
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(pairs[:, 0], tf.cast(1e-7, dtype))))
    angle = tf.cast(2 * math.pi, dtype) * pairs[:, 1]
    return _shaped(operation, tf.stack([tf.sin(angle) * radius, tf.cos(angle) * radius], 1), found[1])


def _integers(operation: Any) -> list[tf.Tensor] | None:
    """int32 in [low, high)."""
    if operation.outputs[0].dtype != tf.int32:
        return None
    found = _words(operation, 4)
    if found is None:
        return None
    low, high = (tf.cast(x, tf.int64) for x in operation.inputs[-2:])
    return _shaped(operation, tf.cast(low + tf.math.floormod(found[0], high - low), tf.int32), found[1])


def _all_integers(operation: Any) -> list[tf.Tensor] | None:
    """int32 of all bits."""
    if operation.outputs[0].dtype != tf.int32:
        return None
    found = _words(operation, 4)
    if found is None:
        return None
    words = tf.where(found[0] >= 2**31, found[0] - _WORD, found[0])
    return _shaped(operation, tf.cast(words, tf.int32), found[1])


RANDOM = {
    **dict.fromkeys(("StatelessRandomUniform", "StatelessRandomUniformV2"), _uniform),
    **dict.fromkeys(("StatelessRandomNormal", "StatelessRandomNormalV2"), _normal),
    **dict.fromkeys(("StatelessRandomUniformInt", "StatelessRandomUniformIntV2"), _integers),
    **dict.fromkeys(("StatelessRandomUniformFullInt", "StatelessRandomUniformFullIntV2"), _all_integers),
}
