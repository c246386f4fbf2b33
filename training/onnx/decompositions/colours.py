"""Colours of images: RGB and HSV, and what is adjusted there."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def _to_hsv(operation: Any) -> list[tf.Tensor]:
    return [tf.stack(_hsv(operation.inputs[0]), -1)]


def _hsv(image: tf.Tensor) -> list[tf.Tensor]:
    r, g, b = (image[..., n] for n in range(3))
    value = tf.maximum(r, tf.maximum(g, b))
    spread = value - tf.minimum(r, tf.minimum(g, b))
    zero = tf.zeros_like(value)
    saturation = tf.where(value > 0, spread / value, zero)
    sixth = 1 / spread * (1 / 6)
    hue = tf.where(tf.equal(g, value), sixth * (b - r) + 2 / 6, sixth * (r - g) + 4 / 6)
    hue = tf.where(tf.equal(r, value), sixth * (g - b), hue)
    hue = tf.where(spread > 0, hue, zero)
    hue = tf.where(hue < 0, hue + 1, hue)
    return [hue, saturation, value]


def _to_rgb(operation: Any) -> list[tf.Tensor]:
    [image] = operation.inputs
    return [_rgb(*(image[..., n] for n in range(3)))]


def _rgb(hue: tf.Tensor, saturation: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    six = hue * 6
    shares = (tf.abs(six - 3) - 1, 2 - tf.abs(six - 2), 2 - tf.abs(six - 4))
    return tf.stack([((1 - saturation) + saturation * tf.clip_by_value(s, 0, 1)) * value for s in shares], -1)


def _adjust_hue(operation: Any) -> list[tf.Tensor]:
    image, delta = operation.inputs
    hue, saturation, value = _hsv(image)
    return [_rgb(tf.math.floormod(hue + delta, 1.0), saturation, value)]


def _adjust_saturation(operation: Any) -> list[tf.Tensor]:
    image, scale = operation.inputs
    hue, saturation, value = _hsv(image)
    return [_rgb(hue, tf.clip_by_value(saturation * scale, 0, 1), value)]


COLOURS = {
    "RGBToHSV": _to_hsv,
    "HSVToRGB": _to_rgb,
    "AdjustHue": _adjust_hue,
    "AdjustSaturation": _adjust_saturation,
}
