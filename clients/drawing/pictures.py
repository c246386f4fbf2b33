"""Results as pictures: grids of images, class maps over images, and the colours of classes."""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ladle.clients.wire.arrays import Array

# Okabe and Ito 2008, without black: far apart in hue and lightness, for colour-blind eyes too.
OKABE_ITO = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
GAP = 2
"""Pixels between the images of a grid."""
SHOWN = 84
"""Small images are enlarged by a whole factor to about this many pixels."""


def palette(classes: int) -> Array:
    """The colour of each class id, uint8 [classes, 3]; class 0, the background, is black."""
    colours = [(0, 0, 0), *OKABE_ITO]
    for number in range(classes - len(colours)):
        # Steps by the golden ratio put each hue far from all hues before it.
        red, green, blue = colorsys.hls_to_rgb((number * 0.618034) % 1, 0.45 + 0.2 * (number % 2), 0.65)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return np.array(colours[:classes], np.uint8).reshape(classes, 3)


def to_image(pixels: Array) -> Image.Image:
    """uint8 [h, w, 1|3], or float in [0, 1] of that shape, as a picture."""
    if pixels.dtype != np.uint8:
        pixels = np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def grid(images: Array, columns: int | None = None) -> Image.Image:
    """Images uint8 [n, h, w, 1|3], or float in [0, 1], in a grid with `columns` columns (default: about square)."""
    count, height, width = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    scale = max(1, SHOWN // max(height, width))
    height, width = height * scale, width * scale
    rows = math.ceil(count / columns)
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    sheet = Image.new("L" if images.shape[-1] == 1 else "RGB", size, "white")
    for number, pixels in enumerate(images):
        row, column = divmod(number, columns)
        tile = to_image(pixels).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (column * (width + GAP), row * (height + GAP)))
    return sheet


def mask(class_map: Array) -> Image.Image:
    """Class ids [h, w] as a grey picture whose pixel values are the ids. ValueError: an id is outside 0 to 255."""
    if class_map.size and not 0 <= int(class_map.min()) <= int(class_map.max()) <= 255:
        raise ValueError(f"got class ids from {class_map.min()} to {class_map.max()}; a PNG mask holds 0 to 255")
    return Image.fromarray(class_map.astype(np.uint8))


def colour_mask(class_map: Array, opacity: float = 1.0) -> Image.Image:
    """Class ids [h, w] as RGBA in the colours of `palette`; class 0 is transparent."""
    colours = palette(int(class_map.max(initial=0)) + 1)[class_map]
    alpha = np.where(class_map > 0, round(255 * opacity), 0).astype(np.uint8)
    return Image.fromarray(np.dstack([colours, alpha]))


def overlay(
    image: Image.Image, class_map: Array, opacity: float = 0.5, labels: Sequence[str] | None = None
) -> Image.Image:
    """A class map [h, w] over its image, RGB; with `labels`, a legend of the classes in it stands below."""
    layer = colour_mask(class_map, opacity)
    picture = image.convert("RGBA").resize(layer.size, Image.Resampling.BILINEAR)
    picture = Image.alpha_composite(picture, layer).convert("RGB")
    return _with_legend(picture, class_map, labels) if labels else picture


def shares(class_map: Array) -> dict[int, float]:
    """The share of the pixels of each class in the map, the largest first."""
    ids, counts = np.unique(class_map, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {int(ids[i]): float(counts[i]) / class_map.size for i in order}


def png(image: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def png_of(pixels: Array) -> bytes:
    """An array as `to_image` takes it, as PNG."""
    return png(to_image(pixels))


def _with_legend(picture: Image.Image, class_map: Array, labels: Sequence[str]) -> Image.Image:
    font = ImageFont.load_default(13)
    present = [i for i in shares(class_map) if 0 < i < len(labels)]
    colours = palette(int(class_map.max(initial=0)) + 1)
    row = 20
    sheet = Image.new("RGB", (max(picture.width, 160), picture.height + row * len(present) + GAP * 2), "white")
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for number, class_id in enumerate(present):
        top = picture.height + GAP * 2 + number * row
        red, green, blue = (int(value) for value in colours[class_id])
        draw.rectangle((6, top + 3, 18, top + 15), fill=(red, green, blue))
        draw.text((26, top + 1), labels[class_id], fill="black", font=font)
    return sheet
