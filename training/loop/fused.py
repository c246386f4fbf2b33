"""Batch normalisation in training as one operation, where Keras takes a dozen.

Keras computes moments, scale and shift one by one, each over the whole activation and in float32 also when the network
is in bfloat16. TensorFlow has all of it as FusedBatchNormV3, with oneDNN or cuDNN beneath. The layers stay Keras's own,
so that files and exported graphs are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

Call = Callable[..., tf.Tensor]


def fuse(model: keras.Model) -> int:
    """Let the batch normalisations of images in a model train fused; how many do.

    The same figures but for rounding; what a layer does outside training is left as it is.
    """
    layers = [layer for layer in _inner(model) if _fits(layer)]
    for layer in layers:
        layer.call = _fused(layer, layer.call)
    return len(layers)


def _inner(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _inner(layer)


def _fits(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and "call" not in vars(layer)
        and layer.built
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not layer.synchronized
        and not getattr(layer, "renorm", False)  # of newer Keras
        and layer.compute_dtype != "float64"
    )


def _fused(layer: keras.layers.BatchNormalization, plain: Call) -> Call:
    def call(inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if not (training and layer.trainable) or mask is not None:
            return plain(inputs, training=training, mask=mask)
        gamma, beta = (keras.ops.convert_to_tensor(weight) for weight in (layer.gamma, layer.beta))
        inputs = tf.cast(inputs, layer.compute_dtype)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, gamma, beta, epsilon=layer.epsilon, is_training=True
        )
        # The operation's variance is divided by n - 1, Keras's by n.
        n = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance *= (n - 1.0) / n
        for average, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            average.assign(average * layer.momentum + now * (1.0 - layer.momentum))
        return outputs

    return call
