"""Train batch normalisation with one fused operation, where Keras runs a dozen.

Keras computes moments, scale and shift one by one. Each reads the whole activation, in float32 even when the network
computes in bfloat16. TensorFlow's FusedBatchNormV3 does all of it in one pass of oneDNN or cuDNN. The layers remain
Keras's own, so saved files and exported graphs do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

Call = Callable[..., tf.Tensor]


def fuse(model: keras.Model) -> int:
    """Make the image batch normalisations of a model train with the fused operation; returns how many do.

    Results agree with Keras up to rounding. Inference is unchanged.
    """
    layers = [layer for layer in _layers(model) if _can_fuse(layer)]
    for layer in layers:
        # Set on the instance, not the class: a saved file then names keras.layers.BatchNormalization, and loads
        # anywhere.
        layer.call = _fused(layer, layer.call)
    return len(layers)


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """All layers, those of nested models included."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _can_fuse(layer: keras.layers.Layer) -> bool:
    """Whether the operation computes exactly what this layer does: NHWC, scale and offset, no synchronisation."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and "call" not in vars(layer)  # not fused already
        and layer.built
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not layer.synchronized
        and not getattr(layer, "renorm", False)  # only newer Keras has it
        and layer.compute_dtype != "float64"
    )


def _fused(layer: keras.layers.BatchNormalization, plain: Call) -> Call:
    def call(inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        # A frozen layer normalises with its moving averages in training too, so it keeps Keras's path.
        if not (training and layer.trainable) or mask is not None:
            return plain(inputs, training=training, mask=mask)
        gamma, beta = (keras.ops.convert_to_tensor(weight) for weight in (layer.gamma, layer.beta))
        inputs = tf.cast(inputs, layer.compute_dtype)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, gamma, beta, epsilon=layer.epsilon, is_training=True
        )
        # The operation divides the variance by n - 1, Keras by n. The moving average must hold Keras's value.
        n = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance *= (n - 1.0) / n
        for average, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            average.assign(average * layer.momentum + now * (1.0 - layer.momentum))
        return outputs

    return call
