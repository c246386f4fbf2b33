"""Random inputs for a tensor of which only dtype and shape are known; seeded, so runs repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

LENGTH = 32
"""Default length of a free axis other than the batch."""
HARD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 10.0, -10.0)
MIXED_FLOATS = HARD_FLOATS[:-2]
"""Without those that are so large that scores end at 1 and 0, where the last digit decides which comes first."""
HARD_INTEGERS = (0, 1, -1, 2, -2, 7, -7, 127, -128, 86_401, -86_401, 2**24 + 1, -(2**24) - 1, 2**53 + 1, -(2**53) - 1)
"""Zeros, both signs, halves that round to even, numbers beyond a byte or a table, and the first integers that float32
and float64 cannot hold."""
NOT_FINITE = (np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1.0, -1.0)


def noise(
    random: np.random.Generator,
    spec: tf.TensorSpec,
    rows: int | None,
    lengths: Sequence[int] = (LENGTH,),
    like: np.ndarray | None = None,
) -> np.ndarray:
    """An array that fits `spec`: standard normal values; for integers and booleans, 0 and 1.

    rows     length of the first axis; None: the length in the spec
    lengths  lengths of the other free axes, in turn
    like     a real value of the tensor: its shape sets the free axes, and its range bounds the values
    """
    shape = _shape(spec, rows, lengths, like)
    dtype = spec.dtype.as_numpy_dtype
    if like is None or not like.size or spec.dtype == tf.bool:
        if spec.dtype.is_floating:
            return random.standard_normal(shape).astype(dtype)
        return random.integers(0, 2, shape).astype(dtype)
    low, high = like.min(), like.max()
    if spec.dtype.is_floating:
        return random.uniform(low, high, shape).astype(dtype)
    return random.integers(low, high, shape, endpoint=True).astype(dtype)


FLOATS = ("normal", "positive")
"""What the floats of made-up inputs may be: of both signs, or above 0 and below 1."""
STEADY_FLOATS = ("bytes", "positive", "small")
"""The same for a network that is chaotic on those: from 0 to 255, as the values of pixels, or near 0."""


def with_floats(
    specs: Mapping[str, tf.TensorSpec], arrays: Mapping[str, np.ndarray], kind: str
) -> dict[str, np.ndarray]:
    """The same inputs with floats of `kind`, of FLOATS or STEADY_FLOATS, in place of normal ones."""
    made = dict(arrays)
    for name, array in arrays.items():
        if specs[name].dtype.is_floating and kind != "normal":
            share = 1 / (1 + np.exp(-array.astype(np.float64)))
            value = {"positive": share, "bytes": 255 * share, "small": 1e-3 * array.astype(np.float64)}[kind]
            made[name] = value.astype(array.dtype)
    return made


INTEGERS = ("bits", "ids", "sorted ids", "lengths", "zeros", "counts", "last ends", "first ends")
"""What the integers of made-up inputs may mean, in the order in which they are tried."""


def with_integers(
    random: np.random.Generator, specs: Mapping[str, tf.TensorSpec], arrays: Mapping[str, np.ndarray], kind: str
) -> dict[str, np.ndarray]:
    """The same inputs with other integers: a graph of nodes and edges refuses a node that is not there.

    kind  of INTEGERS. Ids are of rows in the other inputs: less than each of their free axes, or than their first axis
          if none is free. Lengths of a vector add up to the first axis of another input. Counts are at least 1, for a
          divisor. Ends are of rows of another input, in the last vector or in the first; the
          other integers stay. "bits" stay as they are
    """
    if kind == "bits":
        return dict(arrays)
    others = [name for name in arrays if not specs[name].dtype.is_integer] or list(arrays)
    free = [
        size for name in others for size, axis in zip(arrays[name].shape, specs[name].shape, strict=True) if not axis
    ]
    firsts = [len(arrays[name]) for name in others if arrays[name].ndim]
    limit = max(1, min(free or firsts, default=1))
    made = dict(arrays)
    if kind.endswith(" ends"):
        vectors = [name for name, array in arrays.items() if specs[name].dtype.is_integer and array.ndim == 1]
        for name in vectors[-1:] if kind == "last ends" else vectors[:1]:
            whole = next((len(array) for other, array in arrays.items() if other != name and array.ndim), 0)
            rows = arrays[name].size if specs[name].shape[0] is None else arrays[name].size - 1
            inner = np.sort(random.integers(0, whole + 1, max(0, rows - 1)))
            made[name] = np.array([0, *inner, whole], arrays[name].dtype)
        return made
    for name, array in arrays.items():
        if not specs[name].dtype.is_integer:
            continue
        value: np.ndarray
        if kind == "zeros":
            value = np.zeros(array.shape, np.int64)
        elif kind == "counts":
            value = random.integers(1, 9, array.shape)
        elif kind == "lengths" and array.ndim == 1 and array.size and firsts:
            value = random.multinomial(firsts[0], np.full(array.size, 1 / array.size))
        else:
            value = random.integers(0, limit, array.shape)
            value = np.sort(value, axis=0) if kind == "sorted ids" and array.ndim else value
        made[name] = value.astype(array.dtype)
    return made


def not_finite(
    random: np.random.Generator, spec: tf.TensorSpec, rows: int | None, lengths: Sequence[int], share: float
) -> np.ndarray:
    """An array as `noise` makes it, in which a share of the floats is of NOT_FINITE; if it is 0, one of each row."""
    array = noise(random, spec, rows, lengths)
    if spec.dtype.is_floating and not share and array.size:
        flat = array.reshape(len(array) if array.ndim else 1, -1)
        flat[np.arange(len(flat)), random.integers(flat.shape[1], size=len(flat))] = random.choice(NOT_FINITE[:3])
    elif spec.dtype.is_floating:
        chosen = random.random(array.shape) < share
        array = np.where(chosen, random.choice(NOT_FINITE, array.shape).astype(array.dtype), array)
    return array


def hard(
    random: np.random.Generator,
    spec: tf.TensorSpec,
    rows: int | None,
    lengths: Sequence[int],
    most: int,
    *,
    is_mixed: bool = False,
) -> np.ndarray:
    """An array that fits `spec`, of values on which engines differ: HARD_FLOATS or HARD_INTEGERS.

    most      integers are at most this, and at least -most if the dtype is signed
    is_mixed  whether each float is a little more than one of MIXED_FLOATS, so that hardly two are the same
    """
    shape, dtype = _shape(spec, rows, lengths, None), np.dtype(spec.dtype.as_numpy_dtype)
    if spec.dtype.is_floating:
        if is_mixed:
            return (random.choice(MIXED_FLOATS, shape) + random.uniform(0, 0.2, shape)).astype(dtype)
        return random.choice(HARD_FLOATS, shape).astype(dtype)
    if spec.dtype == tf.bool:
        return random.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype)
    values = [
        n
        for n in (*HARD_INTEGERS, int(limits.max), int(limits.min))
        if abs(n) <= most and limits.min <= n <= limits.max
    ]
    return random.choice(np.array(values, dtype), shape)


def _shape(spec: tf.TensorSpec, rows: int | None, lengths: Sequence[int], like: np.ndarray | None) -> list[int]:
    axes: list[int | None] = spec.shape.as_list() if spec.shape.rank is not None else [None, *_lengths(like)[1:]]
    in_turn = [lengths[(axis - 1) % len(lengths)] for axis in range(len(axes))]
    known = _lengths(like) if like is not None and like.ndim == len(axes) else in_turn
    shape = [free if axis is None else axis for axis, free in zip(axes, known, strict=True)]
    if rows is not None and shape:
        shape[0] = rows
    return shape


def _lengths(like: np.ndarray | None) -> list[int]:
    return [] if like is None else list(like.shape)
