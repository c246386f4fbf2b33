"""Preprocessing of images: decoded, grey or in colour, resized, in [0, 1], exactly as the exported signatures do it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ladle.clients.wire.arrays import Array

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def pixels(picture: Image.Image, height: int | None, width: int | None, channels: int) -> Array:
    """A picture as float32 [height, width, channels] in [0, 1].

    height, width  None keeps the picture's own
    channels       1 (grey) or 3 (RGB)
    """
    colour = _rgb(picture)
    height, width = height or colour.height, width or colour.width
    if channels == 3 and colour.size != (width, height):
        return _resized(colour, height, width)
    image = np.asarray(colour).astype(np.float32)  # [h, w, 3]
    image /= np.float32(255)  # in place, because photographs are large
    if channels == 1:
        image *= _GREY
        image = image.sum(axis=-1, keepdims=True, dtype=np.float32)  # [h, w, 1]
    if image.shape[:2] == (height, width):
        return image
    grey = Image.fromarray(image[..., 0]).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(grey)[..., np.newaxis]


def _resized(picture: Image.Image, height: int, width: int) -> Array:
    """float32 [h, w, 3] of an RGB picture; the model server computes the same, to the last bit."""
    image = np.empty((height, width, 3), np.float32)
    for channel, plane in enumerate(picture.split()):  # Pillow resizes floating-point images one channel at a time
        image[..., channel] = np.asarray(plane.convert("F").resize((width, height), Image.Resampling.BILINEAR))
    image /= np.float32(255)
    return image


def _rgb(picture: Image.Image) -> Image.Image:
    """RGB at 8 bits: without alpha, palettes expanded, 16 bits cut to the upper 8."""
    if picture.mode.startswith("I"):
        grey = Image.fromarray((np.asarray(picture).astype(np.int32) >> 8).astype(np.uint8))
        return Image.merge("RGB", (grey, grey, grey))
    return picture.convert("RGB")
