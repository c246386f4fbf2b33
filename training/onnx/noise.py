"""Random inputs for a tensor of which only dtype and shape are known; seeded, so runs repeat."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

LENGTH = 32
"""Default length of a free axis other than the batch."""


def noise(
    random: np.random.Generator,
    spec: tf.TensorSpec,
    rows: int | None,
    length: int = LENGTH,
    like: np.ndarray | None = None,
) -> np.ndarray:
    """An array that fits `spec`: standard normal values; for integers and booleans, 0 and 1.

    rows    length of the first axis; None: the length in the spec
    length  length of the other free axes
    like    a real value of the tensor: its shape sets the free axes, and its range bounds the values
    """
    axes: list[int | None] = spec.shape.as_list() if spec.shape.rank is not None else [None, *_lengths(like)[1:]]
    known = _lengths(like) if like is not None and like.ndim == len(axes) else [length] * len(axes)
    shape = [free if axis is None else axis for axis, free in zip(axes, known, strict=True)]
    if rows is not None and shape:
        shape[0] = rows
    dtype = spec.dtype.as_numpy_dtype
    if like is None or not like.size or spec.dtype == tf.bool:
        if spec.dtype.is_floating:
            return random.standard_normal(shape).astype(dtype)
        return random.integers(0, 2, shape).astype(dtype)
    low, high = like.min(), like.max()
    if spec.dtype.is_floating:
        return random.uniform(low, high, shape).astype(dtype)
    return random.integers(low, high, shape, endpoint=True).astype(dtype)


def _lengths(like: np.ndarray | None) -> list[int]:
    return [] if like is None else list(like.shape)
