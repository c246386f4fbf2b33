"""Preprocessing of images: decoded, grey or in colour, resized, in [0, 1], exactly as the exported signatures do it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ladle.clients.wire.arrays import Array
from ladle.clients.wire.resizing import resize

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def pixels(picture: Image.Image, height: int | None, width: int | None, channels: int) -> Array:
    """A picture as float32 [height, width, channels] in [0, 1].

    height, width  None keeps the picture's own
    channels       1 (grey) or 3 (RGB)
    """
    colour = np.asarray(_rgb(picture))  # [h, w, 3]
    height, width = height or len(colour), width or colour.shape[1]
    if channels == 3 and colour.shape[:2] != (height, width):
        return resize(colour, height, width, scale=1 / 255)
    image = colour.astype(np.float32)
    image /= np.float32(255)  # in place, because photographs are large
    if channels == 1:
        image *= _GREY
        image = image.sum(axis=-1, keepdims=True, dtype=np.float32)  # [h, w, 1]
    return image if image.shape[:2] == (height, width) else resize(image, height, width)


def _rgb(picture: Image.Image) -> Image.Image:
    """RGB at 8 bits: without alpha, palettes expanded, 16 bits cut to the upper 8."""
    if picture.mode.startswith("I"):
        grey = Image.fromarray((np.asarray(picture).astype(np.int32) >> 8).astype(np.uint8))
        return Image.merge("RGB", (grey, grey, grey))
    return picture.convert("RGB")
