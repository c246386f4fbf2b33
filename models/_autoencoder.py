"""Shared by the auto-encoders: config, layers, loss, signatures and example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._network import Config, option
from ladle.models._optimizers import OptimizerConfig
from ladle.models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class AutoencoderConfig(OptimizerConfig, Config):
    """Size of the images and length of the code."""

    epochs: int = option(10, "passes over the training examples")
    height: int = option(28, "height of the images in pixels")
    width: int = option(28, "width of the images in pixels")
    channels: int = option(1, "1: grey, 3: colour")
    latent_dim: int = option(20, "length of a code")


def dense(units: int, seed: Iterator[int], name: str, activation: str | None = None) -> keras.layers.Dense:
    """A dense layer. Without activation its outputs are codes or logits, which stay float32 under mixed precision."""
    kind = keras.initializers.HeNormal if activation == "relu" else keras.initializers.GlorotUniform
    dtype = None if activation else "float32"
    return keras.layers.Dense(units, activation, kernel_initializer=kind(next(seed)), dtype=dtype, name=name)


def image_input(config: AutoencoderConfig) -> keras.KerasTensor:
    """The input: image float32 [b, h, w, c] in [0, 1]."""
    return keras.Input((config.height, config.width, config.channels), name="image")


def decoder(config: AutoencoderConfig, units: tuple[int, ...], seed: Iterator[int]) -> keras.Model:
    """code float32 [b, latent_dim] -> logits float32 [b, h, w, c]: dense layers of these units, one for the pixels."""
    shape = (config.height, config.width, config.channels)
    z = keras.Input((config.latent_dim,), name="z")
    x = z
    for n, width in enumerate(units, 1):
        x = dense(width, seed, f"decoder_dense{n}" if len(units) > 1 else "decoder_dense", "relu")(x)
    # Logits: their cross-entropy is stable where a sigmoid is saturated. Signatures apply the sigmoid.
    x = dense(int(np.prod(shape)), seed, "logits")(x)
    return keras.Model(z, keras.layers.Reshape(shape, dtype="float32", name="image")(x), name="decoder")


def pixel_entropy(image: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the pixels of each image in nats, float32 [b]; a grey value is the probability of white."""
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(image, logits), axis=[1, 2, 3])


def half_squared_error(image: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """½Σ(x̂-x)² over the pixels of each image, float32 [b]; its derivative by x̂ is x̂-x."""
    return 0.5 * tf.reduce_sum(tf.square(output - image), axis=[1, 2, 3])


def signatures(
    config: AutoencoderConfig, encode: Callable[[tf.Tensor], Tensors], decode: Callable[[tf.Tensor], tf.Tensor]
) -> dict[str, Signature]:
    """Reconstruct images, encode or decode alone, and generate images from noise.

    encode  image float32 [b, h, w, c] -> `code` float32 [b, latent_dim], and possibly further outputs
    decode  code -> image float32 [b, h, w, c] in [0, 1]

    serving_default    image float32 [b, h, w, c] in [0, 1] -> reconstruction, the same shape
    reconstruct_bytes  image_bytes string [b]               -> reconstruction
    encode             image -> the outputs of `encode`
    decode             code float32 [b, latent_dim] -> image float32 in [0, 1], images uint8, both [b, h, w, c]
    generate           n int32 [], seed int64 []    -> images uint8 [n, h, w, c], from codes ~ N(0, 1)
    """
    shape = (config.height, config.width, config.channels)
    images = {"image": tf.TensorSpec([None, *shape], tf.float32, name="image")}
    codes = {"code": tf.TensorSpec([None, config.latent_dim], tf.float32, name="code")}
    coded = tuple(encode(tf.zeros([1, *shape])))

    def reconstruct(image: tf.Tensor) -> Tensors:
        return {"reconstruction": decode(encode(image)["code"])}

    def decoded(code: tf.Tensor) -> Tensors:
        image = decode(code)
        return {"image": image, "images": tf.cast(tf.round(image * 255.0), tf.uint8)}

    through, back = Core("model", reconstruct, images), Core("decode", decoded, codes)
    png = steps.DecodeImage(config.channels, config.height, config.width)
    noise = steps.NormalNoise(config.latent_dim, output="code")
    return {
        "serving_default": Signature(through, ("reconstruction",)),
        "reconstruct_bytes": Signature(through, ("reconstruction",), before=[png]),
        "encode": Signature(Core("encode", encode, images), coded),
        "decode": Signature(back, ("image", "images")),
        "generate": Signature(back, ("images",), before=[noise]),
    }


def example(config: AutoencoderConfig) -> dict[str, np.ndarray]:
    """image float32 [4, h, w, c] in [0, 1]: noise."""
    shape = (4, config.height, config.width, config.channels)
    return {"image": np.random.default_rng(config.seed).random(shape, np.float32)}
