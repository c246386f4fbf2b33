"""Variational auto-encoder: encodes an image as a normal distribution over codes and decodes codes to images.

Codes drawn from N(0, 1) decode to new images (Kingma, Welling 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ladle.models._autoencoder import AutoencoderConfig, decoder, dense, example, image_input, pixel_entropy
from ladle.models._autoencoder import signatures as shared_signatures
from ladle.models._blocks import Saved, from_saved, scaled_loss, seeds
from ladle.models._claims import samples_beat_samples_of
from ladle.models._network import Assets, Network, option
from ladle.models._optimizers import optimizer
from ladle.models._signatures import Signature, Tensors


@dataclass(frozen=True)
class Config(AutoencoderConfig):
    """Layer widths and weight of the KL divergence."""

    units: int = option(128, "units of the hidden layer of encoder and decoder")
    latent_dim: int = option(10, "length of a code")
    beta: float = option(1.0, "weight of the KL divergence; 1 makes -loss the evidence lower bound")


def kl_divergence(z_mean: tf.Tensor, z_log_var: tf.Tensor) -> tf.Tensor:
    """KL(N(z_mean, exp z_log_var) || N(0, 1)) in nats: float32 [b, d] twice -> float32 [b]."""
    return -0.5 * tf.reduce_sum(z_log_var + 1.0 - z_mean**2 - tf.exp(z_log_var), axis=-1)


@keras.saving.register_keras_serializable("ladle")
class VAE(Saved):
    """Encoder, decoder and the noise between them. `call` decodes the mean of the code, without noise."""

    config: Config

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        seed = seeds(config.seed)
        image = image_input(config)
        x = keras.layers.Flatten(name="flatten")(image)  # [b, h·w·c]
        x = dense(config.units, seed, "encoder_dense", "relu")(x)
        code = [dense(config.latent_dim, seed, name)(x) for name in ("z_mean", "z_log_var")]
        self.encoder = keras.Model(image, code, name="encoder")
        self.decoder = decoder(config, (config.units,), seed)
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
        """Loss, reconstruction error and KL divergence of a batch in nats per image, each float32 [].

        image    float32 [b, h, w, c] in [0, 1]
        epsilon  float32 [b, latent_dim] ~ N(0, 1)
        """
        z_mean, z_log_var = self.encoder(image, training=training)
        # The reparameterisation trick: the noise comes from outside, so gradients pass through mean and variance.
        z = z_mean + tf.exp(0.5 * z_log_var) * epsilon
        reconstruction = tf.reduce_mean(pixel_entropy(image, self.decoder(z, training=training)))
        kl = tf.reduce_mean(kl_divergence(z_mean, z_log_var))
        return reconstruction + self.config.beta * kl, reconstruction, kl

    def train_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step on float32 [b, h, w, c] in [0, 1]; return running means `loss`, `reconstruction`, `kl`."""
        epsilon = keras.random.normal((tf.shape(image)[0], self.config.latent_dim), seed=self.noise)
        with tf.GradientTape() as tape:
            losses = self.losses_of(image, epsilon, training=True)
            scaled = scaled_loss(self.optimizer, losses[0])
        self.optimizer.apply(tape.gradient(scaled, self.trainable_variables), self.trainable_variables)
        return self._results(image, losses)

    def test_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the same metrics without a training step. The noise is fixed, so that epochs can be compared."""
        shape = (tf.shape(image)[0], self.config.latent_dim)
        epsilon = tf.random.stateless_normal(shape, seed=[self.config.seed, 1], alg="philox")
        return self._results(image, self.losses_of(image, epsilon, training=False))

    def _results(self, image: tf.Tensor, values: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        for metric, value in zip(self._figures, values, strict=True):
            metric.update_state(value, sample_weight=tf.shape(image)[0])
        return {metric.name: metric.result() for metric in self._figures}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> VAE:
        return build(from_saved(Config, saved["config"]))


def build(config: Config) -> VAE:
    """Variational auto-encoder of dense layers: 784 -> 128 -> (mean, log variance) of 10 -> 128 -> 784.

    In training, z = mean + exp(½ log variance)·ε with ε ~ N(0, 1). The loss is reconstruction + β·KL in nats per image;
    the reconstruction error is the cross-entropy of the pixels.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, h, w, c]  of the reconstruction
    Weights  205,604 at 28×28×1
    Source   Kingma, Welling 2014, "Auto-encoding variational Bayes", arXiv:1312.6114
    """
    model = VAE(config, name="vae")
    model.compile(optimizer=optimizer(config, model.trainable_variables), jit_compile=False)
    return model


def signatures(model: VAE, config: Config, assets: Assets) -> dict[str, Signature]:
    """Signatures of `models._autoencoder.signatures`; `encode` returns code (the mean) and log_var."""

    def encode(image: tf.Tensor) -> Tensors:
        z_mean, z_log_var = model.encoder(image, training=False)
        return {"code": z_mean, "log_var": z_log_var}

    def decode(code: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(model.decoder(code, training=False))

    return shared_signatures(config, encode, decode)


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
        claims=(samples_beat_samples_of("autoencoder"),),
    ),
]
