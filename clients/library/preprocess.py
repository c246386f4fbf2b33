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
    image = _rgb(picture).astype(np.float32)  # [h, w, 3]
    image /= np.float32(255)  # in place, because photographs are large
    if channels == 1:
        image *= _GREY
        image = image.sum(axis=-1, keepdims=True, dtype=np.float32)  # [h, w, 1]
    height, width = height or image.shape[0], width or image.shape[1]
    if image.shape[:2] == (height, width):
        return image
    # Pillow resizes floating-point images one channel at a time.
    planes = [Image.fromarray(image[..., channel]) for channel in range(channels)]
    planes = [plane.resize((width, height), Image.Resampling.BILINEAR) for plane in planes]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _rgb(picture: Image.Image) -> Array:
    """uint8 [h, w, 3]: without alpha, palettes expanded, 16 bits cut to the upper 8."""
    if picture.mode.startswith("I"):
        grey = (np.asarray(picture).astype(np.int32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    return np.asarray(picture.convert("RGB"))
