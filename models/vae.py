"""Variational auto-encoder: an image becomes a normal distribution over codes, a code becomes an image.

Whoever draws codes from N(0, 1) gets images that were never seen (Kingma, Welling 2014).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import _steps as steps
from models._blocks import from_saved, scaled_loss, seeds
from models._network import Assets, Network, option
from models._network import Config as BaseConfig
from models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class Config(BaseConfig):
    """Shape of the images, widths, and the weight of the KL divergence."""

    epochs: int = option(10, "passes over the training examples")
    height: int = option(28, "height of the images in pixels")
    width: int = option(28, "width of the images in pixels")
    channels: int = option(1, "1: grey, 3: colour")
    units: int = option(128, "units of the hidden layer of encoder and decoder")
    latent_dim: int = option(10, "numbers in a code")
    beta: float = option(1.0, "weight of the KL divergence; 1 makes -loss the evidence lower bound")


def kl_divergence(z_mean: tf.Tensor, z_log_var: tf.Tensor) -> tf.Tensor:
    """KL(N(z_mean, exp z_log_var) || N(0, 1)) in nats: float32 [b, d] twice -> float32 [b]."""
    return -0.5 * tf.reduce_sum(z_log_var + 1.0 - z_mean**2 - tf.exp(z_log_var), axis=-1)


@keras.saving.register_keras_serializable("ladle")
class VAE(keras.Model):  # type: ignore[misc]
    """Encoder, decoder and the noise between them; `call` goes through the mean of the code, without noise."""

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        seed = seeds(config.seed)
        image = keras.Input((config.height, config.width, config.channels), name="image")
        x = keras.layers.Flatten(name="flatten")(image)  # [b, h·w·c]
        x = _dense(config.units, next(seed), "encoder_dense", "relu")(x)
        z_mean = _dense(config.latent_dim, next(seed), "z_mean")(x)
        z_log_var = _dense(config.latent_dim, next(seed), "z_log_var")(x)
        self.encoder = keras.Model(image, [z_mean, z_log_var], name="encoder")
        z = keras.Input((config.latent_dim,), name="z")
        x = _dense(config.units, next(seed), "decoder_dense", "relu")(z)
        x = _dense(int(np.prod(image.shape[1:])), next(seed), "logits")(x)
        x = keras.layers.Reshape(image.shape[1:], dtype="float32", name="image")(x)
        self.decoder = keras.Model(z, x, name="decoder")
        self.noise = keras.random.SeedGenerator(next(seed))
        self._figures = [keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")]
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._figures

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, h, w, c] in [0, 1] -> logits of the reconstruction."""
        return self.decoder(self.encoder(image, training=training)[0], training=training)

    def losses_of(self, image: tf.Tensor, epsilon: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Loss, reconstruction error and KL divergence of a batch, nats per image, for noise [b, latent_dim].

        The likelihood of a pixel is Bernoulli's; a grey pixel counts as its share of white.
        """
        z_mean, z_log_var = self.encoder(image, training=training)
        z = z_mean + tf.exp(0.5 * z_log_var) * epsilon
        pixels = tf.nn.sigmoid_cross_entropy_with_logits(image, self.decoder(z, training=training))
        reconstruction = tf.reduce_mean(tf.reduce_sum(pixels, axis=[1, 2, 3]))
        kl = tf.reduce_mean(kl_divergence(z_mean, z_log_var))
        return reconstruction + self.config.beta * kl, reconstruction, kl

    def train_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step on float32 [b, h, w, c] in [0, 1] -> running means `loss`, `reconstruction`, `kl`."""
        epsilon = keras.random.normal((tf.shape(image)[0], self.config.latent_dim), seed=self.noise)
        with tf.GradientTape() as tape:
            losses = self.losses_of(image, epsilon, training=True)
            scaled = scaled_loss(self.optimizer, losses[0])
        self.optimizer.apply(tape.gradient(scaled, self.trainable_variables), self.trainable_variables)
        return self._told(image, losses)

    def test_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same figures without a step; the noise is the same each time."""
        shape = (tf.shape(image)[0], self.config.latent_dim)
        epsilon = tf.random.stateless_normal(shape, seed=[self.config.seed, 1], alg="philox")
        return self._told(image, self.losses_of(image, epsilon, training=False))

    def _told(self, image: tf.Tensor, values: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        for metric, value in zip(self._figures, values, strict=True):
            metric.update_state(value, sample_weight=tf.shape(image)[0])
        return {metric.name: metric.result() for metric in self._figures}

    def get_config(self) -> dict[str, Any]:
        return {"config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> VAE:
        return build(from_saved(Config, saved["config"]))

    def get_compile_config(self) -> None:
        """Nothing to save: `build` compiles."""

    def compile_from_config(self, config: Any) -> None:
        """Nothing to do: `build` compiled."""


def _dense(units: int, seed: int, name: str, activation: str | None = None) -> keras.layers.Dense:
    initializer = keras.initializers.HeNormal(seed) if activation == "relu" else keras.initializers.GlorotUniform(seed)
    dtype = None if activation else "float32"  # codes and logits stay exact under mixed precision
    return keras.layers.Dense(units, activation, kernel_initializer=initializer, dtype=dtype, name=name)


def build(config: Config) -> VAE:
    """Variational auto-encoder of dense layers: 784 -> 128 -> (mean, log variance) of 10 -> 128 -> 784.

    z = mean + exp(½ log variance)·ε with ε ~ N(0, 1) in training. loss = reconstruction + β·KL, the reconstruction
    error being the cross-entropy of the pixels, both in nats per image.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, h, w, c]  of the reconstruction
    Weights  205,604 at 28×28×1
    Source   Kingma, Welling 2014, "Auto-encoding variational Bayes", arXiv:1312.6114
    """
    model = VAE(config, name="vae")
    optimizer = keras.optimizers.Adam(config.learning_rate)
    optimizer.build(model.trainable_variables)  # so that a checkpoint finds its variables
    model.compile(optimizer=optimizer, jit_compile=False)
    return model


def signatures(model: VAE, config: Config, assets: Assets) -> dict[str, Signature]:
    """Through the code and back, either half alone, and new images from noise.

    serving_default    image float32 [b, h, w, c] in [0, 1] -> reconstruction, the same shape
    reconstruct_bytes  image_bytes string [b]               -> reconstruction
    encode             image -> code (the mean), log_var float32 [b, latent_dim]
    decode             code float32 [b, latent_dim] -> image float32 in [0, 1], images uint8, both [b, h, w, c]
    generate           n int32 [], seed int64 []    -> images uint8 [n, h, w, c]
    """
    shape = (config.height, config.width, config.channels)
    images = {"image": tf.TensorSpec([None, *shape], tf.float32, name="image")}
    codes = {"code": tf.TensorSpec([None, config.latent_dim], tf.float32, name="code")}

    def reconstruct(image: tf.Tensor) -> Tensors:
        return {"reconstruction": tf.sigmoid(model(image, training=False))}

    def encode(image: tf.Tensor) -> Tensors:
        z_mean, z_log_var = model.encoder(image, training=False)
        return {"code": z_mean, "log_var": z_log_var}

    def decode(code: tf.Tensor) -> Tensors:
        image = tf.sigmoid(model.decoder(code, training=False))
        return {"image": image, "images": tf.cast(tf.round(image * 255.0), tf.uint8)}

    through, back = Core("model", reconstruct, images), Core("decode", decode, codes)
    png = steps.DecodeImage(config.channels, config.height, config.width)
    noise = steps.NormalNoise(config.latent_dim, output="code")
    return {
        "serving_default": Signature(through, ("reconstruction",)),
        "reconstruct_bytes": Signature(through, ("reconstruction",), before=[png]),
        "encode": Signature(Core("encode", encode, images), ("code", "log_var")),
        "decode": Signature(back, ("image", "images")),
        "generate": Signature(back, ("images",), before=[noise]),
    }


def example(config: Config) -> dict[str, np.ndarray]:
    """image float32 [4, h, w, c] in [0, 1]: noise."""
    shape = (4, config.height, config.width, config.channels)
    return {"image": np.random.default_rng(config.seed).random(shape, np.float32)}


NETWORKS = [
    Network(
        name="vae",
        task="reconstruct",
        summary="Variational auto-encoder: images to codes of ten numbers and back, and new images from a seed.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=205_604,
        tiny={"units": 16, "latent_dim": 2, "epochs": 1, "batch_size": 16},
        presets={
            "quick": {"epochs": 8, "learning_rate": 2e-3, "schedule": "cosine"},
            "full": {"epochs": 100, "schedule": "cosine"},
        },
        source="Kingma, Welling 2014, Auto-encoding variational Bayes, arXiv:1312.6114",
    ),
]
