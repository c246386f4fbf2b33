"""Large weights stay out of the converter, and what it would have done to them is done to the arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle.training.onnx import convert
from ladle.training.onnx.external import LARGE_TENSOR_BYTES, Weights

LAYERS = keras.layers
IMAGE = tf.TensorSpec([None, 12, 12, 64], tf.float32, name="x")
FEW = tf.TensorSpec([None, 6, 160], tf.float32, name="x")


def built(layer: keras.Layer) -> keras.Layer:
    layer.build((None, 12, 12, 64))
    return layer


def normalised(**options: object) -> Callable[[tf.Tensor], tf.Tensor]:
    layer, norm, random = LAYERS.Conv2D(64, 3, **options), LAYERS.BatchNormalization(), np.random.default_rng(2)
    built(layer), built(norm)
    norm.set_weights([random.uniform(0.5, 2, weight.shape) for weight in norm.weights])
    return lambda x: norm(layer(x))


def constant(*shape: int) -> tf.Variable:
    return tf.Variable(np.random.default_rng(1).normal(size=shape), dtype=tf.float32)


def conv(x: tf.Tensor, kernel: tf.Tensor, **options: int) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, options.pop("strides", 1), "SAME", **options)


def times_by_each_half(x: tf.Tensor, m: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ m, lambda: x @ tf.transpose(m))


CHANNELS = np.random.default_rng(3).uniform(0.5, 2, 64).astype(np.float32)
PLACES = np.random.default_rng(4).uniform(0.5, 2, (12, 12, 1)).astype(np.float32)
# Functions of an input and a weight, of the shape given, or makers of layers.
K, M, T = (3, 3, 64, 64), (160, 160), (900, 64)
WITH_WEIGHT: dict[str, tuple[Callable[[tf.Tensor, tf.Tensor], tf.Tensor], tuple[int, ...]]] = {
    "strided and dilated": (lambda x, k: conv(x, k, strides=2) + conv(x, k, dilations=2)[:, ::2, ::2], K),
    "scaled by a number": (lambda x, k: conv(x, k) * 0.25, K),
    "scaled by channels": (lambda x, k: conv(x, k) * CHANNELS, K),
    "shifted and scaled": (lambda x, k: (conv(x, k) + CHANNELS) * CHANNELS + 1.5, K),
    "scaled by places": (lambda x, k: conv(x, k) * PLACES, K),
    "scaled and read before": (lambda x, k: (y := conv(x, k)) * CHANNELS + y, K),
    "standardised kernel": (lambda x, k: conv(x, k - tf.reduce_mean(k, [0, 1, 2])), K),
    "dense": (lambda x, m: tf.nn.gelu(x @ m) @ tf.transpose(m), M),
    "einsum": (lambda x, m: tf.einsum("bij,jk->bki", x, m), M),
    "attention": (lambda x, m: tf.matmul(x, x @ m, transpose_b=True), M),
    "table": (lambda x, t: tf.gather(t, tf.cast(tf.abs(x[..., 0]) * 7, tf.int32)), T),
    "table both ways": (lambda x, t: tf.gather(t, tf.cast(tf.abs(x[..., 0]), tf.int32)) @ tf.transpose(t), T),
    "a large output": (lambda x, m: x[:1, 0, :1] * 0 + m, M),
    "in a branch": (times_by_each_half, M),
    "double": (lambda x, m: tf.cast(tf.cast(x, tf.float64) @ tf.cast(m, tf.float64), tf.float32), M),
    "half": (lambda x, m: tf.cast(tf.cast(x, tf.float16) @ tf.cast(m, tf.float16), tf.float32), M),
}
LAYER: dict[str, tuple[Callable[[], Callable[[tf.Tensor], tf.Tensor]], tf.TensorSpec]] = {
    "convolution": (lambda: built(LAYERS.Conv2D(64, 3)), IMAGE),
    "normalised": (lambda: normalised(padding="same"), IMAGE),
    "normalised without a bias": (lambda: normalised(use_bias=False), IMAGE),
    "transposed": (lambda: built(LAYERS.Conv2DTranspose(64, 3, strides=2)), IMAGE),
    "depthwise": (lambda: built(LAYERS.DepthwiseConv2D(13, depth_multiplier=2, padding="same")), IMAGE),
    "separable": (lambda: built(LAYERS.SeparableConv2D(512, 3)), IMAGE),
    "grouped": (lambda: built(LAYERS.Conv2D(128, 5, groups=4)), IMAGE),
    "LSTM": (lambda: LAYERS.LSTM(160), FEW),
    "GRU of sequences": (lambda: LAYERS.GRU(96, return_sequences=True), FEW),
}
BY_RUNTIME = {"standardised kernel", "double", "half"}
"""ONNX Runtime computes these weights when it loads the graph."""


@pytest.mark.parametrize("name", [*WITH_WEIGHT, *LAYER])
def test_the_graph_is_what_a_converter_makes_that_sees_the_weights(name: str) -> None:
    if name in LAYER:
        make, spec = LAYER[name]
        function = make()
        function(tf.zeros([1, *spec.shape[1:]]))
    else:
        with_weight, shape = WITH_WEIGHT[name]
        weight, spec = constant(*shape), IMAGE if shape == K else FEW
        function = lambda x: with_weight(x, weight)  # noqa: E731
    traced = tf.function(lambda x: {"y": function(x)})
    made = convert.to_onnx(traced, {"x": spec})
    seen = convert._to_onnx(traced, {"x": spec}, False, None)
    x = np.random.default_rng(0).normal(size=[3, *spec.shape[1:]]).astype(np.float32)
    [expected] = convert.session(seen.SerializeToString())({"x": x}).values()
    [found] = convert.session(made.SerializeToString())({"x": x}).values()
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    [truth] = traced(tf.constant(x)).values()
    np.testing.assert_allclose(found, truth, atol=1e-3 * max(1, np.abs(truth).max()))
    more = Counter(node.op_type for node in made.graph.node) - Counter(node.op_type for node in seen.graph.node)
    assert not more or name in BY_RUNTIME


def test_weights_are_views_until_they_are_written() -> None:
    make, spec = LAYER["normalised"]
    function = make()
    weights = Weights()
    graph = convert.to_onnx(tf.function(lambda x: {"y": function(x)}), {"x": spec}, weights=weights)
    assert [tensor.name for tensor in graph.graph.initializer if tensor.data_location] == list(weights.arrays)
    assert all(array.nbytes >= LARGE_TENSOR_BYTES for array in weights.arrays.values())
    assert [value.name for value in graph.graph.input] == ["x"]
