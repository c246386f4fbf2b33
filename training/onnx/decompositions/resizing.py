"""Image sizes changed by two matrices, one for the rows and one for the columns, as TensorFlow's kernels weigh pixels.

ONNX Runtime resizes, too, but weighs the pixels at the edges otherwise, and TensorFlow reads the weights of its cubic
from a table of 1024 steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

_STEPS = 1024


def _scale(size: tf.Tensor, length: tf.Tensor, align_corners: bool) -> tf.Tensor:
    size, length = tf.cast(size, tf.float32), tf.cast(length, tf.float32)
    if align_corners:
        return tf.where(size > 1, (length - 1) / tf.maximum(size - 1, 1), length / size)
    return length / size


def _applied(image: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """image [b, h, w, c], rows [y, h], columns [x, w] -> float32 [b, y, x, c]."""
    shape = tf.shape(image)
    flat = tf.reshape(tf.cast(image, tf.float32), [shape[0], shape[1], shape[2] * shape[3]])
    tall = tf.matmul(rows, flat)
    tall = tf.reshape(tall, [shape[0], tf.shape(rows)[0], shape[2], shape[3]])
    return tf.matmul(columns, tall)


def _sizes(operation: Any) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """(new size, old length) of the rows and the columns."""
    image, size = operation.inputs[:2]
    shape = tf.shape(image)
    return [(size[n], shape[n + 1]) for n in range(2)]


def _area(operation: Any) -> list[tf.Tensor]:
    align = operation.get_attr("align_corners")
    matrices = []
    for size, length in _sizes(operation):
        scale = _scale(size, length, align)
        start = tf.cast(tf.range(size), tf.float32)[:, None] * scale
        end = (tf.cast(tf.range(size), tf.float32)[:, None] + 1) * scale
        pixel = tf.cast(tf.range(length), tf.float32)
        covered = tf.maximum(tf.minimum(pixel + 1, end) - tf.maximum(pixel, start), 0)
        matrices.append(covered / scale)
    return [_applied(operation.inputs[0], *matrices)]


def _cubic_table(half_pixel: bool) -> np.ndarray:
    """float32 [steps + 1, 2]: weights of the pixels nearer and farther than one."""
    a = -0.5 if half_pixel else -0.75
    x = np.arange(_STEPS + 1, dtype=np.float64) / _STEPS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = x + 1
    far = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    return np.stack([near, far], -1).astype(np.float32)


def _bicubic(operation: Any) -> list[tf.Tensor] | None:
    half, align = operation.get_attr("half_pixel_centers"), operation.get_attr("align_corners")
    table = tf.constant(_cubic_table(half))
    matrices = []
    for size, length in _sizes(operation):
        place = tf.cast(tf.range(size), tf.float32)
        scale = _scale(size, length, align)
        place = (place + 0.5) * scale - 0.5 if half else place * scale
        below = tf.floor(place)
        step = tf.cast(tf.round((place - below) * _STEPS), tf.int32)
        first = tf.gather(table, step)  # [size, 2]
        second = tf.gather(table, _STEPS - step)
        weights = tf.stack([first[:, 1], first[:, 0], second[:, 0], second[:, 1]], -1)  # [size, 4]
        at = tf.cast(below, tf.int32)[:, None] + tf.constant([-1, 0, 1, 2])
        inside = tf.clip_by_value(at, 0, length - 1)
        if half:  # pixels outside do not count
            weights = tf.where(tf.equal(inside, at), weights, tf.zeros_like(weights))
            total = tf.reduce_sum(weights, -1, keepdims=True)
            weights = tf.where(tf.abs(total) >= 1e3 * np.finfo(np.float32).tiny, weights / total, weights)
        is_pixel = tf.equal(inside[:, :, None], tf.range(length))  # [size, 4, length]
        matrices.append(tf.reduce_sum(tf.where(is_pixel, weights[:, :, None], 0.0), 1))
    return [_applied(operation.inputs[0], *matrices)]


def _keys_cubic(x: tf.Tensor) -> tf.Tensor:
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    near = ((1.5 * x - 2.5) * x) * x + 1.0
    return tf.where(x >= 2, tf.zeros_like(x), tf.where(x >= 1, far, near))


def _mitchell_cubic(x: tf.Tensor) -> tf.Tensor:
    far = (((-7 / 18) * x + 2.0) * x - 10 / 3) * x + 16 / 9
    near = (((7 / 6) * x - 2.0) * x) * x + 8 / 9
    return tf.where(x >= 2, tf.zeros_like(x), tf.where(x >= 1, far, near))


def _lanczos(radius: float) -> Any:
    def weight(x: tf.Tensor) -> tf.Tensor:
        safe = tf.where(x <= 1e-3, tf.ones_like(x), x) * np.float32(np.pi)
        value = radius * tf.sin(safe) * tf.sin(safe / radius) / (safe * safe)
        return tf.where(x > radius, tf.zeros_like(x), tf.where(x <= 1e-3, tf.ones_like(x), value))

    return weight


_KERNELS: dict[str, tuple[float, Any]] = {
    "triangle": (1.0, lambda x: tf.maximum(1.0 - x, 0.0)),
    "box": (1.0, lambda x: tf.where(x < 0.5, 1.0, tf.where(tf.equal(x, 0.5), 0.5, 0.0))),
    "keyscubic": (2.0, _keys_cubic),
    "mitchellcubic": (2.0, _mitchell_cubic),
    "lanczos1": (1.0, _lanczos(1.0)),
    "lanczos3": (3.0, _lanczos(3.0)),
    "lanczos5": (5.0, _lanczos(5.0)),
    "gaussian": (1.5, lambda x: tf.where(x >= 1.5, 0.0, tf.exp(-x * x / (2.0 * 0.25)))),
}


def _scale_and_translate(operation: Any) -> list[tf.Tensor] | None:
    _, _, scales, shifts = operation.inputs
    radius, kernel = _KERNELS[operation.get_attr("kernel_type").decode()]
    matrices = []
    for n, (size, length) in enumerate(_sizes(operation)):
        inverse = 1.0 / scales[n]
        wide = tf.maximum(inverse, 1.0) if operation.get_attr("antialias") else tf.ones_like(inverse)
        shift = -inverse * shifts[n]
        sample = (tf.cast(tf.range(size), tf.float32) + 0.5) * inverse + shift
        floats = tf.cast(length, tf.float32)
        first = tf.maximum(tf.math.ceil(sample - radius * wide - 0.5), 0.0)[:, None]
        last = tf.minimum(tf.floor(sample + radius * wide - 0.5), floats - 1)[:, None]
        pixel = tf.cast(tf.range(length), tf.float32)
        weights = kernel(tf.abs(pixel + 0.5 - sample[:, None]) / wide)
        counts = tf.logical_and(pixel >= first, pixel <= last)
        weights = tf.where(counts, weights, tf.zeros_like(weights))
        total = tf.reduce_sum(weights, -1, keepdims=True)
        weights = tf.where(tf.abs(total) >= 1e3 * np.finfo(np.float32).tiny, weights / total, tf.zeros_like(weights))
        is_inside = tf.logical_and(sample >= 0, sample <= floats)[:, None]
        matrices.append(tf.where(is_inside, weights, tf.zeros_like(weights)))
    return [_applied(operation.inputs[0], *matrices)]


RESIZING = {"ResizeArea": _area, "ResizeBicubic": _bicubic, "ScaleAndTranslate": _scale_and_translate}
