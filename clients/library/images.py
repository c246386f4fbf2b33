"""Images as callers have them to the tensors that a signature takes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ladle.clients.errors import InvalidArgument
from ladle.clients.transport.metadata import TensorInfo, describe
from ladle.clients.wire.arrays import Array

Image = str | os.PathLike[str] | bytes | np.ndarray[Any, np.dtype[Any]]
"""A path, an encoded PNG or JPEG, or an array: uint8, or float in [0, 1]; batch and channel axes may be missing."""


def is_encoded(image: Image) -> bool:
    """Whether the server decodes it: a path or bytes."""
    return isinstance(image, str | os.PathLike | bytes)


def read(image: str | os.PathLike[str] | bytes) -> bytes:
    """The encoded bytes of a path, or the bytes themselves."""
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"cannot read the image {os.fspath(image)}: {error.strerror}") from None


def pixels(image: str | os.PathLike[str] | bytes, info: TensorInfo, what: str) -> Array:
    """An encoded image as float32 [h, w, c] in [0, 1], in the size that `info` declares, as servers decode it.

    For signatures that take no bytes. InvalidArgument: not a PNG or JPEG, or `info` is no image.
    """
    from PIL import Image as Pillow

    from ladle.clients.library import preprocess

    shape = info.shape or ()
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise InvalidArgument(f"{what} takes {info}, which is no image")
    data = read(image)
    try:
        with Pillow.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            return preprocess.pixels(picture, shape[1], shape[2], shape[-1])
    except Exception:  # Pillow raises whatever a damaged file provokes
        named = "bytes" if isinstance(image, bytes) else os.fspath(image)
        raise InvalidArgument(f"{what}: {named} is not a readable PNG or JPEG image") from None


def batch(image: Any, info: TensorInfo, what: str) -> tuple[Array, bool]:
    """An array as float32 [b, h, w, c] in [0, 1], and whether it was a single image without a batch axis.

    InvalidArgument names what came and what `info` wants.
    """
    pixels = np.asarray(image)
    scaled = _scale(pixels, what)
    shape = info.shape or (None, None, None, None)
    if len(shape) != 4:  # a model of flat images: the caller shapes them
        single = len(shape) == scaled.ndim + 1
        array = scaled[None] if single else scaled
    else:
        array, single = _with_axes(scaled, shape[-1])
    if info.dtype not in ("float32", "float64", "float16") or not info.admits(array.shape):
        raise InvalidArgument(f"{what} is {describe(pixels)}; wanted {info}, or uint8 of that shape")
    return array.astype(info.numpy, copy=False), single


def _scale(pixels: Array, what: str) -> Array:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.float32)
    if pixels.dtype.kind != "f":
        raise InvalidArgument(f"{what} is {describe(pixels)}; wanted uint8, or float in [0, 1]")
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
        low, high = float(pixels.min()), float(pixels.max())
        raise InvalidArgument(f"{what} has values from {low:g} to {high:g}; wanted float in [0, 1], or uint8")
    return pixels.astype(np.float32, copy=False)


def _with_axes(pixels: Array, channels: int | None) -> tuple[Array, bool]:
    """[h, w], [h, w, c] and, of one channel, [b, h, w] -> [b, h, w, c]; anything else as it is."""
    if pixels.ndim == 2:
        return pixels[None, :, :, None], True
    if pixels.ndim == 3:
        if channels == 1 and pixels.shape[-1] != 1:
            return pixels[..., None], False
        return pixels[None], True
    return pixels, False
