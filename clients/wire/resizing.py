"""Resizes images as `tf.image.resize(method="bilinear", antialias=True)` does, in float32.

Each output is a mean of a few neighbours: the weights of a side are a band around the diagonal. The band is cut into
small dense blocks, so that BLAS multiplies it, which takes two thirds of the time of Pillow's loops.
"""

from __future__ import annotations

import functools

import numpy as np

from ladle.clients.wire.arrays import Array

_ROWS, _COLUMNS = 8, 8  # outputs of a block: larger ones multiply more zeros, smaller ones are more calls
_KEPT_SIDES = 16
_LONGEST_SIDE = 2**12
"""The weights of a side take up to 360 bytes a pixel, and a few bytes can hold an image of one long row."""

Blocks = tuple[list[int], Array]
"""The first input of each block, and the blocks' weights."""


def resize(image: Array, height: int, width: int, scale: float = 1.0) -> Array:
    """An image, uint8 or float32 [h, w, c] -> float32 [height, width, c], each value times `scale`.

    Where an image shrinks, a pixel is the mean of all that it covers, weighted by a triangle (antialiased).
    """
    own_height, own_width, channels = image.shape
    if max(own_height, own_width) > _LONGEST_SIDE:
        return _by_pillow(image, height, width, scale)
    starts, weights = _blocks(own_height, height, _ROWS, scale)
    tall = np.empty((height, own_width * channels), np.float32)
    for i, (start, block) in enumerate(zip(starts, weights, strict=True)):
        out = tall[i * _ROWS : (i + 1) * _ROWS]
        rows = image[start : start + block.shape[1]].reshape(block.shape[1], -1)
        np.matmul(block[: len(out)], rows.astype(np.float32, copy=False), out=out)
    starts, weights = _interleaved(own_width, width, channels)
    resized = np.empty((height, width * channels), np.float32)
    for i, (start, block) in enumerate(zip(starts, weights, strict=True)):
        out = resized[:, i * _COLUMNS * channels : (i + 1) * _COLUMNS * channels]
        columns = tall[:, start * channels : start * channels + len(block)]
        np.matmul(columns, block[:, : out.shape[1]], out=out)
    return resized.reshape(height, width, channels)


def _by_pillow(image: Array, height: int, width: int, scale: float) -> Array:
    """`resize` without weights in memory, one channel at a time."""
    from PIL import Image  # those who have images have imported it

    resized = np.empty((height, width, image.shape[2]), np.float32)
    for channel in range(image.shape[2]):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        resized[..., channel] = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
    resized *= np.float32(scale)
    return resized


@functools.lru_cache(maxsize=_KEPT_SIDES)
def _interleaved(source: int, target: int, channels: int) -> Blocks:
    """The blocks of a side for pixels whose channels lie side by side: weights [blocks, inputs * c, outputs * c]."""
    starts, weights = _blocks(source, target, _COLUMNS)
    blocks, outputs, inputs = weights.shape
    spread = np.zeros((blocks, inputs, channels, outputs, channels), np.float32)
    for channel in range(channels):
        spread[:, :, channel, :, channel] = weights.transpose(0, 2, 1)
    return starts, spread.reshape(blocks, inputs * channels, outputs * channels)


@functools.lru_cache(maxsize=_KEPT_SIDES)
def _blocks(source: int, target: int, outputs: int, scale: float = 1.0) -> Blocks:
    """The blocks that make `target` pixels of a side from `source`: weights [blocks, outputs, inputs].

    The last block may have more outputs than the side; what lies beyond it is not used.
    """
    ratio = source / target
    reach = max(ratio, 1.0)  # half the width of a triangle, in inputs
    blocks = -(-target // outputs)
    centres = (np.arange(blocks * outputs, dtype=np.float64).reshape(blocks, outputs) + 0.5) * ratio
    inputs = min(source, int((outputs - 1) * ratio + 2 * reach) + 2)
    starts = np.clip(np.floor(centres[:, 0] - reach).astype(int), 0, source - inputs)
    places = starts[:, np.newaxis] + np.arange(inputs) + 0.5
    weights = np.abs(places[:, np.newaxis, :] - centres[:, :, np.newaxis])
    weights /= -reach
    weights += 1.0
    np.maximum(weights, 0.0, out=weights)
    totals = weights.sum(axis=2, keepdims=True)
    weights *= scale / np.where(totals > 0, totals, 1.0)  # zero beyond the side
    return starts.tolist(), weights.astype(np.float32)
