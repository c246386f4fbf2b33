"""Compose images in NumPy: grids, and masks over images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ladle.models._network import VOID
from ladle.training.data.dataset import Array

COLOURS = np.array(
    [
        [0, 0, 0],
        [230, 85, 60],
        [50, 140, 220],
        [60, 175, 90],
        [240, 180, 40],
        [150, 90, 200],
        [30, 190, 190],
        [225, 100, 170],
    ],
    np.uint8,
)
"""Colours of classes in overlays. Class 0 stays uncoloured; from class 8 on the colours repeat."""
GAP, GAP_COLOUR = 2, 255
FEW = 15
"""A report shows all test images if there are this many or fewer."""


def rgb(images: Array) -> Array:
    """Images as uint8 [..., h, w, 3].

    images  uint8, or float32 in [0, 1]; [..., h, w, c]. If c is not 3, the first channel is shown in grey
    """
    if images.dtype != np.uint8:
        images = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, axis=-1)


def stretched(image: Array) -> Array:
    """An image with its contrast stretched: the darkest 1 % black, the brightest 1 % white; uint8 [h, w, 3]."""
    low, high = np.percentile(image, (1, 99))
    return rgb(((image - low) / max(high - low, 1e-6)).astype(np.float32))


def grid(images: Array, columns: int | None = None) -> Array:
    """Images [n, h, w, c] side by side on white: uint8 [H, W, 3]; nearly square by default."""
    tiles = rgb(images)
    count, height, width, _ = tiles.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    shape = (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    canvas = np.full(shape, GAP_COLOUR, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * (height + GAP) + GAP, (i % columns) * (width + GAP) + GAP
        canvas[y : y + height, x : x + width] = tile
    return canvas


def columns(*stacks: Array) -> Array:
    """Corresponding images in rows: each stack [n, h, w, c] is a column; uint8 [H, W, 3]."""
    tiles = np.stack([rgb(stack) for stack in stacks], axis=1)  # [n, stacks, h, w, 3]
    return grid(tiles.reshape(-1, *tiles.shape[2:]), columns=len(stacks))


def interleaved(stacks: Sequence[Array], across: int) -> Array:
    """Rows of `across` images, from each stack in turn: uint8 [H, W, 3]."""
    count = len(stacks[0]) // across * across or len(stacks[0])
    across = min(across, count)
    tiles = [rgb(stack[i : i + across]) for i in range(0, count, across) for stack in stacks]
    return grid(np.concatenate(tiles), columns=across)


def overlay(images: Array, masks: Array, opacity: float = 0.45) -> Array:
    """Masks of class ids [n, h, w] drawn in colour over images [n, h, w, c]: uint8 [n, h, w, 3]; VOID stays bare."""
    base = rgb(images).astype(np.float32)
    masks = np.where(masks == VOID, 0, masks).astype(np.int64)
    colour = COLOURS[np.where(masks > 0, (masks - 1) % (len(COLOURS) - 1) + 1, 0)]
    mixed = base * (1 - opacity) + colour * opacity
    return np.where(masks[..., None] > 0, mixed, base).astype(np.uint8)
