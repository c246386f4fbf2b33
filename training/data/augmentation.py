"""Random changes to the training images of an epoch: crops, shifts, flips, rotations and elastic deformation.

The changes depend only on (seed, epoch), so a resumed run makes the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ladle.models import Task

Change = Callable[[tf.Tensor, tf.Tensor, tf.Tensor | None], tuple[tf.Tensor, tf.Tensor | None]]
"""(ids of the examples or of their crops [b], x uint8 [b, h, w, c], y [b, h, w] or [b]) -> x and y, changed alike."""
SHIFT = 2
"""Largest shift in pixels of a 28-pixel image; larger images shift in proportion."""
GRID = 3
"""Points per axis at which displacements are drawn; they are interpolated in between."""


@dataclass(frozen=True)
class Crops:
    """Square crops of the training images of one epoch, one row per crop.

    size  side in pixels
    top   int32 [n], first row of the crop in its image
    left  int32 [n], first column
    """

    size: int
    top: tf.Tensor
    left: tf.Tensor

    @classmethod
    def drawn(cls, seed: Sequence[int], shape: Sequence[int], size: int) -> Crops:
        """Draw one crop per row; `shape` is that of the images, [n, h, w, c]."""
        random = np.random.default_rng(seed)
        top, left = (random.integers(0, pixels - size + 1, shape[0], np.int32) for pixels in shape[1:3])
        return cls(size, tf.constant(top), tf.constant(left))

    def __call__(self, ids: tf.Tensor, x: tf.Tensor, y: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Crop a batch and its masks alike: x [b, h, w, c], y [b, h, w] or [b]."""
        place = tf.range(self.size)[tf.newaxis]
        rows = tf.gather(self.top, ids)[:, tf.newaxis] + place  # [b, size]
        columns = tf.gather(self.left, ids)[:, tf.newaxis] + place
        if y is not None and y.shape.rank == 3:
            y = _gathered(y, rows, columns)
        return _gathered(x, rows, columns), y


@dataclass(frozen=True)
class ShiftsAndFlips:
    """Random shifts and flips of the training images of one epoch, one row per image or crop.

    dy, dx     int32 [n], shift in pixels; border pixels are repeated
    mirror     bool [n], left and right swapped
    flip       bool [n], top and bottom swapped; only for segmentation, where up and down have no meaning
    transpose  bool [n], rows and columns swapped; only for segmentation of square images. With mirror and flip it gives
               every rotation by a right angle
    """

    dy: tf.Tensor
    dx: tf.Tensor
    mirror: tf.Tensor
    flip: tf.Tensor
    transpose: tf.Tensor

    @classmethod
    def drawn(cls, seed: Sequence[int], shape: Sequence[int], task: Task, labels: Sequence[str]) -> ShiftsAndFlips:
        """Draw changes for images or crops of this shape, [n, h, w, c]."""
        # Drawn for the whole epoch at once, by row: an example changes alike in whatever batch a resumed run has it.
        random = np.random.default_rng(seed)
        count, height, width = shape[:3]
        dy, dx = (random.integers(-m, m + 1, count, np.int32) for m in map(_largest_shift, (height, width)))
        coins = random.integers(0, 2, (3, count), np.int8).astype(bool)
        # A mirrored digit is no digit, or another one.
        if labels and all(label.lower().removeprefix("digit ").isdigit() for label in labels):
            coins[:] = False
        if task != "segment":
            coins[1:] = False
        if height != width:
            coins[2] = False
        return cls(*map(tf.constant, (dy, dx, *coins)))

    def __call__(self, ids: tf.Tensor, x: tf.Tensor, y: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Change a batch, and its masks alike: x [b, h, w, c], y [b, h, w] or [b]."""
        rows = _sources(x.shape[1], tf.gather(self.dy, ids), tf.gather(self.flip, ids))  # [b, h]
        columns = _sources(x.shape[2], tf.gather(self.dx, ids), tf.gather(self.mirror, ids))  # [b, w]
        transpose = tf.gather(self.transpose, ids)  # [b]
        if y is not None and y.shape.rank == 3:
            y = _transposed(_gathered(y, rows, columns), transpose)
        return _transposed(_gathered(x, rows, columns), transpose), y


def _largest_shift(pixels: int) -> int:
    return max(1, round(SHIFT * pixels / 28))


def _sources(size: int, shift: tf.Tensor, reverse: tf.Tensor) -> tf.Tensor:
    """The source position of each pixel along an axis: int32 [b, size]."""
    place = tf.range(size)[tf.newaxis]
    place = tf.where(reverse[:, tf.newaxis], size - 1 - place, place)
    return tf.clip_by_value(place + shift[:, tf.newaxis], 0, size - 1)


def _gathered(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.gather(x, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def _transposed(x: tf.Tensor, transpose: tf.Tensor) -> tf.Tensor:
    if x.shape[1] != x.shape[2]:
        return x
    order = [0, 2, 1, 3][: x.shape.rank]
    return tf.where(tf.reshape(transpose, [-1] + [1] * (x.shape.rank - 1)), tf.transpose(x, order), x)


@dataclass(frozen=True)
class Elastic:
    """Elastic deformation: smooth random displacements on a coarse grid (Simard, Steinkraus, Platt 2003).

    As in U-Net (Ronneberger, Fischer, Brox 2015), 3×3 points are interpolated bicubically. Images are sampled
    bilinearly, masks at the nearest pixel. Beyond the border, border pixels are repeated.

    by  float32 [n, 3, 3, 2], displacement down and right in pixels at each grid point, one row per image or crop
    """

    by: tf.Tensor

    @classmethod
    def drawn(cls, seed: Sequence[int], count: int, deviation: float) -> Elastic:
        """Draw displacements ~ N(0, deviation) in pixels."""
        by = np.random.default_rng(seed).normal(0.0, deviation, (count, GRID, GRID, 2))
        return cls(tf.constant(by, tf.float32))

    def __call__(self, ids: tf.Tensor, x: tf.Tensor, y: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Deform a batch and its masks alike: x uint8 [b, h, w, c], y [b, h, w] or [b]."""
        size = tf.shape(x)[1:3]
        # Interpolating a few random vectors gives a smooth field without a Gaussian filter over all pixels.
        by = tf.image.resize(tf.gather(self.by, ids), size, "bicubic")  # [b, h, w, 2]
        place = tf.stack(tf.meshgrid(tf.range(size[0]), tf.range(size[1]), indexing="ij"), axis=-1)  # [h, w, 2]
        place = tf.clip_by_value(tf.cast(place, tf.float32) + by, 0.0, tf.cast(size - 1, tf.float32))  # [b, h, w, 2]
        if y is not None and y.shape.rank == 3:
            y = tf.gather_nd(y, tf.cast(tf.round(place), tf.int32), batch_dims=1)
        return _sampled(x, place), y


def _sampled(x: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Sample uint8 [b, h, w, c] bilinearly at float32 [b, h, w, 2] positions between pixels; rounded."""
    low = tf.floor(place)
    share = place - low  # [b, h, w, 2]
    first = tf.cast(low, tf.int32)
    last = tf.minimum(first + 1, tf.shape(x)[1:3] - 1)
    found = tf.zeros([], tf.float32)
    for row, of_row in ((first[..., 0], 1.0 - share[..., 0]), (last[..., 0], share[..., 0])):
        for column, of_column in ((first[..., 1], 1.0 - share[..., 1]), (last[..., 1], share[..., 1])):
            pixel = tf.cast(tf.gather_nd(x, tf.stack([row, column], axis=-1), batch_dims=1), tf.float32)
            found += pixel * (of_row * of_column)[..., tf.newaxis]
    return tf.cast(tf.round(found), x.dtype)
