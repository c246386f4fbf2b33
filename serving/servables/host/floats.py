"""Floats in a loop on text, such as a batch of images that is decoded and resized one by one, as TensorFlow has them.

Only what gives the same digits in every engine: each result is one operation on single numbers. Sums, which differ in
the order of their terms, are no part of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host.limits import check_size

Attributes = Mapping[str, Any]
Function = Callable[..., Any]


def _quietly(function: Function) -> Callable[[Attributes], Function]:
    """Infinity and NaN are results like others."""

    def compute(*arrays: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(*arrays))

    return lambda attributes: compute


def _sampled(attributes: Attributes, length: int, size: int, is_nearest: bool) -> tuple[Array, Array, Array]:
    """Of each new pixel along an axis: the old pixels below and above, and how far it is from the lower one."""
    align, half = bool(attributes.get("align_corners")), bool(attributes.get("half_pixel_centers"))
    is_aligned = align and size > 1
    scale = np.float32(length - 1) / np.float32(size - 1) if is_aligned else np.float32(length) / np.float32(size)
    at = np.arange(size, dtype=np.float32)
    if is_nearest:
        at = (at + np.float32(0.5)) * scale if half else at * scale
        near = np.floor(at + np.float32(0.5)) if align else np.floor(at)
        near = np.clip(near.astype(np.int64), 0, length - 1)
        return near, near, at
    at = (at + np.float32(0.5)) * scale - np.float32(0.5) if half else at * scale
    low = np.floor(at)
    below, above = np.maximum(low.astype(np.int64), 0), np.minimum(np.ceil(at).astype(np.int64), length - 1)
    return np.minimum(below, length - 1), above, at - low


def _checked(image: Array, size: Array) -> tuple[int, int]:
    if image.ndim != 4:
        raise InvalidArgument(f"input must be 4-dimensional{list(image.shape)}")
    height, width = (int(n) for n in np.ravel(size))
    if height <= 0 or width <= 0:
        raise InvalidArgument("output dimensions must be positive")
    if not image.shape[1] or not image.shape[2]:
        raise InvalidArgument("input image must be of non-zero size")
    check_size([image.shape[0], height, width, image.shape[3]])
    return height, width


def _bilinear(attributes: Attributes) -> Function:
    def resize(image: Array, size: Array) -> Array:
        height, width = _checked(image, size)
        if (height, width) == image.shape[1:3]:
            return image.astype(np.float32)
        top, bottom, down = _sampled(attributes, image.shape[1], height, is_nearest=False)
        left, right, along = _sampled(attributes, image.shape[2], width, is_nearest=False)
        down, along = down[:, None, None], along[:, None]
        rows = image[:, top].astype(np.float32), image[:, bottom].astype(np.float32)
        with np.errstate(all="ignore"):
            upper, lower = (row[:, :, left] + (row[:, :, right] - row[:, :, left]) * along for row in rows)
            return np.asarray(upper + (lower - upper) * down)

    return resize


def _nearest(attributes: Attributes) -> Function:
    def resize(image: Array, size: Array) -> Array:
        height, width = _checked(image, size)
        row, _, _ = _sampled(attributes, image.shape[1], height, is_nearest=True)
        column, _, _ = _sampled(attributes, image.shape[2], width, is_nearest=True)
        return np.asarray(image[:, row][:, :, column])

    return resize


IN_LOOPS: dict[str, Callable[[Attributes], Function]] = {
    "RealDiv": _quietly(np.divide),
    "Sqrt": _quietly(np.sqrt),
    "Square": _quietly(np.square),
    "ResizeBilinear": _bilinear,
    "ResizeNearestNeighbor": _nearest,
}
"""Operations that run on the host in the bodies of its loops alone."""
OF_FLOATS = frozenset({"Add", "AddV2", "Sub", "Mul", "Neg", "Abs", "Less", "LessEqual", "Greater", "GreaterEqual"})
"""Arithmetic of integers that gives the same digits for floats."""
