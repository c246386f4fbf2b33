"""Windows over images: dilation, and projective transforms."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_MOST_SHIFTS = 128


def _dilation(operation: Any) -> list[tf.Tensor] | None:
    """Dilation2D: the largest of the shifted pixels, each raised by its place in the kernel."""
    image, kernel = operation.inputs
    height, width, _ = kernel.shape.as_list()
    if height is None or width is None or height * width > _MOST_SHIFTS:
        return None
    least = image.dtype.min
    parts, _ = _shifted(operation, image, (height, width), least)
    result = None
    for n, part in enumerate(parts):
        raised = tf.maximum(part + kernel[n // width, n % width], least)
        result = raised if result is None else tf.maximum(result, raised)
    return [result]


def _patches(operation: Any) -> list[tf.Tensor] | None:
    """ExtractImagePatches: the pixels of each window side by side."""
    [image] = operation.inputs
    _, height, width, _ = operation.get_attr("ksizes")
    if height * width > _MOST_SHIFTS:
        return None
    return [tf.concat(_shifted(operation, image, (height, width), 0)[0], -1)]


def _pool_with_places(operation: Any) -> list[tf.Tensor] | None:
    """MaxPoolWithArgmax: the largest pixel of each window, and its place in the flattened image."""
    [image] = operation.inputs
    _, height, width, _ = operation.get_attr("ksize")
    if height * width > _MOST_SHIFTS:
        return None
    parts, above = _shifted(operation, image, (height, width), image.dtype.min)
    stacked = tf.stack(parts, 3)  # [b, y, x, places in the window, c]
    best = tf.argmax(stacked, 3)
    strides, shape = operation.get_attr("strides"), tf.shape(image, tf.int64)
    y, x = (tf.range(tf.shape(best, tf.int64)[n]) for n in (1, 2))
    row = (y * strides[1] - tf.cast(above[0], tf.int64))[:, None, None] + best // width
    column = (x * strides[2] - tf.cast(above[1], tf.int64))[:, None] + best % width
    place = (row * shape[2] + column) * shape[3] + tf.range(shape[3])
    if operation.get_attr("include_batch_in_index"):
        place += (tf.range(shape[0]) * shape[1] * shape[2] * shape[3])[:, None, None, None]
    return [tf.reduce_max(stacked, 3), tf.cast(place, operation.get_attr("Targmax"))]


def _shifted(
    operation: Any, image: tf.Tensor, sides: tuple[int, int], outside: float
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """[b, y, x, c] for each place in a window, row by row, and the rows above and columns left of the image.

    `outside` is read where the window leaves the image.
    """
    strides = operation.get_attr("strides")
    rates = operation.get_attr("rates") if "rates" in operation.node_def.attr else [1, 1, 1, 1]
    shape = tf.shape(image)
    same, sizes, padding = operation.get_attr("padding") == b"SAME", [], [[0, 0]]
    for n, side in enumerate(sides, 1):
        length, reach = shape[n], (side - 1) * rates[n] + 1
        size = (length + strides[n] - 1) // strides[n] if same else (length - reach) // strides[n] + 1
        more = tf.maximum((size - 1) * strides[n] + reach - length, 0) if same else tf.constant(0)
        sizes.append(size)
        padding.append([more // 2, more - more // 2])
    padded = tf.pad(image, tf.convert_to_tensor([*padding, [0, 0]]), constant_values=tf.cast(outside, image.dtype))
    parts = []
    for y in range(sides[0]):
        for x in range(sides[1]):
            top, left = y * rates[1], x * rates[2]
            part = padded[
                :,
                top : top + (sizes[0] - 1) * strides[1] + 1 : strides[1],
                left : left + (sizes[1] - 1) * strides[2] + 1 : strides[2],
            ]
            parts.append(part)
    return parts, [padding[1][0], padding[2][0]]


def _inside(mode: str, at: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Coordinates, in which those outside of the image are moved as the fill mode tells."""
    size = tf.cast(length, tf.float32)
    if mode == "CONSTANT":
        return at
    if mode == "NEAREST":
        return tf.clip_by_value(at, 0.0, size - 1)
    if mode == "WRAP":
        below = at + size * (tf.floor(-at / tf.maximum(size - 1, 1)) + 1)
        above = at - size * tf.floor(at / tf.maximum(size - 1, 1))
    else:
        twice = 2 * size
        below = tf.where(at < twice, twice * tf.floor(-at / twice) + at, at)
        below = tf.where(below < -size, below + twice, -below - 1)
        above = at - twice * tf.floor(at / twice)
        above = tf.where(above >= size, twice - above - 1, above)
    moved = tf.where(at < 0, below, tf.where(at > size - 1, above, at))
    moved = tf.where(size <= 1, tf.zeros_like(at), moved)
    return tf.clip_by_value(moved, 0.0, size - 1)


def _projective(operation: Any) -> list[tf.Tensor] | None:
    """ImageProjectiveTransformV3: each pixel is read at its place in the other image."""
    image, transforms, size, fill = operation.inputs
    mode = operation.get_attr("fill_mode").decode()
    shape = tf.shape(image)
    transforms = tf.broadcast_to(transforms, [shape[0], 8])[:, :, None, None]  # [b, 8, 1, 1]
    y = tf.cast(tf.range(size[0]), tf.float32)[:, None]
    x = tf.cast(tf.range(size[1]), tf.float32)[None]
    t = [transforms[:, n] for n in range(8)]
    depth = t[6] * x + t[7] * y + 1.0
    column = _inside(mode, (t[0] * x + t[1] * y + t[2]) / depth, shape[2])  # [b, y, x]
    row = _inside(mode, (t[3] * x + t[4] * y + t[5]) / depth, shape[1])
    fill = tf.cast(fill, image.dtype)

    def read(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        is_there = (
            (row >= 0)
            & (column >= 0)
            & (row < tf.cast(shape[1], tf.float32))
            & (column < tf.cast(shape[2], tf.float32))
        )
        safe = tf.where(is_there, row, 0.0), tf.where(is_there, column, 0.0)
        place = tf.cast(safe[0], tf.int32) * shape[2] + tf.cast(safe[1], tf.int32)
        flat = tf.reshape(image, [shape[0], shape[1] * shape[2], shape[3]])
        found = tf.gather(flat, tf.reshape(place, [shape[0], -1]), batch_dims=1)
        found = tf.reshape(found, [shape[0], size[0], size[1], shape[3]])
        return tf.where(is_there[..., None], found, fill)

    if operation.get_attr("interpolation") == b"NEAREST":
        nearest = [tf.sign(at) * tf.floor(tf.abs(at) + 0.5) for at in (row, column)]
        result = read(*nearest)
    else:
        top, left = tf.floor(row), tf.floor(column)
        down, right = (row - top)[..., None], (column - left)[..., None]
        upper = (1 - right) * tf.cast(read(top, left), tf.float32) + right * tf.cast(read(top, left + 1), tf.float32)
        lower = (1 - right) * tf.cast(read(top + 1, left), tf.float32) + right * tf.cast(
            read(top + 1, left + 1), tf.float32
        )
        result = tf.cast((1 - down) * upper + down * lower, image.dtype)
    is_nowhere = tf.broadcast_to(tf.equal(depth, 0.0), tf.shape(row))[..., None]
    return [tf.where(is_nowhere, fill, result)]


WINDOWS = {
    "Dilation2D": _dilation,
    "ExtractImagePatches": _patches,
    "MaxPoolWithArgmax": _pool_with_places,
    "ImageProjectiveTransformV3": _projective,
}
