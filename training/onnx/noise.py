"""Made-up inputs: seeded values for a tensor of which only dtype and shape are known."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

LENGTH = 32
"""Length of a free axis beside the batch, unless told otherwise."""


def noise(
    random: np.random.Generator,
    spec: tf.TensorSpec,
    rows: int | None,
    length: int = LENGTH,
    like: np.ndarray | None = None,
) -> np.ndarray:
    """Values for a tensor: normal ones, or 0 and 1 for integers and booleans.

    rows    length of the first axis; None: as the spec says
    length  length of the other free axes
    like    a real value: free axes are as long as its axes, and values lie in its range
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
