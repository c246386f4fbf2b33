"""Auto-encoders: encode an image as a short code and decode it again (Hinton, Salakhutdinov 2006).

Variants reconstruct corrupted images (Vincent et al. 2008) or use a discriminator to make codes normally distributed
(Makhzani et al. 2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ladle.models._autoencoder import (
    AutoencoderConfig,
    decoder,
    dense,
    example,
    half_squared_error,
    image_input,
    pixel_entropy,
)
from ladle.models._autoencoder import signatures as shared_signatures
from ladle.models._blocks import Saved, from_saved, judged, scaled_loss, seeds
from ladle.models._claims import beats_baselines, mends, normal_codes
from ladle.models._network import Assets, Claim, Network, option
from ladle.models._optimizers import clipping, optimizer
from ladle.models._signatures import Signature, Tensors

LOSSES = ("cross_entropy", "squared_error")


@dataclass(frozen=True)
class Config(AutoencoderConfig):
    """Layer widths, corruption of the input, and adversarial regularisation of the code."""

    units: tuple[int, ...] = option((256, 128), "units of the encoder's hidden layers; the decoder's are the reverse")
    loss: str = option(
        "cross_entropy",
        "reconstruction loss: cross_entropy (grey values as probabilities) | squared_error (½Σ(x̂-x)², real values)",
    )
    noise: float = option(0.0, "standard deviation of the noise that training adds to the pixels")
    dropout: float = option(0.0, "share of the pixels that training sets to 0")
    adversarial: bool = option(False, "train a discriminator that pulls the codes to N(0, 1)")
    discriminator_steps: int = option(3, "discriminator steps for each step of the encoder against it")
    gradient_penalty: float = option(
        2.0, "weight of the squared gradient norm of the discriminator at codes and noise (R1, R2)"
    )


@keras.saving.register_keras_serializable("ladle")
class Autoencoder(Saved):
    """Encoder, decoder, and a discriminator of codes if `adversarial`. `call` returns the logits."""

    config: Config

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        seed = seeds(config.seed)
        image = image_input(config)
        x = keras.layers.Flatten(name="flatten")(image)  # [b, h·w·c]
        for n, units in enumerate(config.units, 1):
            x = dense(units, seed, f"encoder_dense{n}", "relu")(x)
        self.encoder = keras.Model(image, dense(config.latent_dim, seed, "code")(x), name="encoder")
        self.decoder = decoder(config, config.units[::-1], seed)
        self.discriminator = None
        if config.adversarial:
            code = keras.Input((config.latent_dim,), name="code")
            x = dense(config.units[-1], seed, "discriminator_dense1", "relu")(code)
            x = dense(config.units[-1], seed, "discriminator_dense2", "relu")(x)
            self.discriminator = keras.Model(code, dense(1, seed, "score")(x), name="discriminator")
        self.noise = keras.random.SeedGenerator(next(seed))
        names = ("loss", "discriminator_loss", "encoder_loss") if config.adversarial else ("loss",)
        self._figures = {name: keras.metrics.Mean(name=name) for name in names}
        self._against: tuple[Any, ...] = ()
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._figures.values())

    @property
    def optimizers(self) -> list[Any]:
        return [self.optimizer, *self._against]

    def compile(self, optimizer: Any, against: tuple[Any, ...] = ()) -> None:
        """Set the optimizers, in the order of `taught`: the auto-encoder's, then those in `against`."""
        super().compile(optimizer=optimizer, jit_compile=False)
        self._against = against

    @property
    def taught(self) -> list[list[Any]]:
        """Weights of each optimizer: auto-encoder, discriminator, and encoder in steps against the discriminator."""
        if self.discriminator is None:
            return [self._own]
        return [self._own, self.discriminator.trainable_variables, self.encoder.trainable_variables]

    @property
    def _own(self) -> list[Any]:
        return [*self.encoder.trainable_variables, *self.decoder.trainable_variables]

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, h, w, c] in [0, 1] -> logits of the reconstruction."""
        return self.decoder(self.encoder(image, training=training), training=training)

    def corrupted(self, image: tf.Tensor) -> tf.Tensor:
        """The image with noise added and pixels set to 0, float32 [b, h, w, c] in [0, 1]."""
        shape = tf.shape(image)
        if self.config.noise:
            noise = keras.random.normal(shape, stddev=self.config.noise, seed=self.noise)
            image = tf.clip_by_value(image + noise, 0.0, 1.0)
        if self.config.dropout:  # not scaled up as keras.layers.Dropout does: pixels must stay in [0, 1]
            kept = keras.random.uniform(shape, seed=self.noise) >= self.config.dropout
            image = tf.where(kept, image, 0.0)
        return image

    def error(self, image: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Mean over the images of the reconstruction loss: of logits, or of the pixels themselves; float32 []."""
        if self.config.loss == "squared_error":
            return tf.reduce_mean(half_squared_error(image, output))
        return tf.reduce_mean(pixel_entropy(image, output))

    def train_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step on float32 [b, h, w, c] in [0, 1]; return running means of the losses."""
        with tf.GradientTape() as tape:
            logits = self(self.corrupted(image), training=True)
            loss = self.error(image, logits)
            scaled = scaled_loss(self.optimizer, loss)
        self.optimizer.apply(tape.gradient(scaled, self._own), self._own)
        self._figures["loss"].update_state(loss, sample_weight=tf.shape(image)[0])
        if self.discriminator is not None:
            self._regularise(image)
        return {name: metric.result() for name, metric in self._figures.items()}

    def _regularise(self, image: tf.Tensor) -> None:
        """Train the discriminator to distinguish codes from N(0, 1), then the encoder to deceive it."""
        assert self.discriminator is not None
        code = self.encoder(image, training=True)
        of_discriminator, of_encoder = self._against
        weights = self.discriminator.trainable_variables
        for _ in range(self.config.discriminator_steps):
            prior = keras.random.normal(tf.shape(code), seed=self.noise)
            with tf.GradientTape() as tape:
                (real, slope), (fake, slope_of_fake) = self._scored(prior), self._scored(code)
                loss = judged(1.0, real) + judged(0.0, fake)
                penalty = 0.5 * self.config.gradient_penalty * (slope + slope_of_fake)
                scaled = scaled_loss(of_discriminator, loss + penalty)
            of_discriminator.apply(tape.gradient(scaled, weights), weights)
        self._figures["discriminator_loss"].update_state(loss)
        with tf.GradientTape() as tape:
            fake = self.discriminator(self.encoder(image, training=True), training=True)
            loss = judged(1.0, fake)
            scaled = scaled_loss(of_encoder, loss)
        weights = self.encoder.trainable_variables
        of_encoder.apply(tape.gradient(scaled, weights), weights)
        self._figures["encoder_loss"].update_state(loss)

    def _scored(self, code: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores float32 [b, 1] of codes [b, latent_dim], and the mean squared norm of their gradient: float32 []."""
        assert self.discriminator is not None
        with tf.GradientTape() as tape:
            tape.watch(code)
            score = self.discriminator(code, training=True)
        gradient = tf.cast(tape.gradient(score, code), tf.float32)
        return score, tf.reduce_mean(tf.reduce_sum(gradient**2, axis=1))

    def test_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the reconstruction loss of uncorrupted images: nats per image, or ½Σ(x̂-x)²."""
        loss = self.error(image, self(image, training=False))
        self._figures["loss"].update_state(loss, sample_weight=tf.shape(image)[0])
        return {"loss": self._figures["loss"].result()}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> Autoencoder:
        return build(from_saved(Config, saved["config"]))


def build(config: Config) -> Autoencoder:
    """Auto-encoder of dense layers: 784 -> 256 -> 128 -> 20 -> 128 -> 256 -> 784 with ReLU between them.

    The loss is the cross-entropy of the pixels in nats per image, where a grey value is the probability of white. For
    real values, `loss` squared_error is ½Σ(x̂-x)², and the last layer gives x̂ itself. With `noise` or `dropout`, the
    encoder reads a corrupted image and the loss compares with the original. With `adversarial`, a discriminator
    128 -> 128 -> 1 pulls the codes to N(0, 1), from which `generate` draws. It takes several steps at twice the
    learning rate for each step of the encoder, with a gradient penalty: without these, the codes
    circle around the distribution.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, h, w, c]  of the reconstruction
    Weights  473,636 at 28×28×1; 492,965 with a discriminator
    Source   Hinton, Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks"; Vincent et al.
             2008, "Extracting and composing robust features with denoising autoencoders"; Makhzani et al. 2015,
             "Adversarial autoencoders", arXiv:1511.05644; Mescheder, Geiger, Nowozin 2018, "Which training methods for
             GANs do actually converge?", arXiv:1801.04406

    ValueError: a loss that is not known.
    """
    if config.loss not in LOSSES:
        raise ValueError(f'got loss "{config.loss}"; expected one of {", ".join(LOSSES)}')
    model = Autoencoder(config, name="autoencoder")
    first, *others = model.taught
    against = tuple(_adversarial(config, weights) for weights in others)
    model.compile(optimizer(config, first), against)
    return model


def _adversarial(config: Config, weights: list[Any]) -> keras.optimizers.Optimizer:
    # beta_1 = 0.5 as in DCGAN: with Adam's 0.9, the momentum of two opposed networks oscillates.
    made = keras.optimizers.Adam(2 * config.learning_rate, beta_1=0.5, **clipping(config))
    made.build(weights)  # now, as a checkpoint can be restored only into variables that exist
    return made


def signatures(model: Autoencoder, config: Config, assets: Assets) -> dict[str, Signature]:
    """Signatures of `models._autoencoder.signatures`; `encode` returns code."""

    def encode(image: tf.Tensor) -> Tensors:
        return {"code": model.encoder(image, training=False)}

    def decode(code: tf.Tensor) -> tf.Tensor:
        output = model.decoder(code, training=False)
        return tf.clip_by_value(output, 0.0, 1.0) if config.loss == "squared_error" else tf.sigmoid(output)

    return shared_signatures(config, encode, decode)


def _row(
    name: str,
    summary: str,
    source: str,
    parameters: int = 473_636,
    quick: Mapping[str, Any] | None = None,
    claims: tuple[Claim, ...] = (),
    **config: Any,
) -> Network:
    return Network(
        name=name,
        task="reconstruct",
        summary=summary,
        config=Config(**config),
        build=build,
        signatures=signatures,
        example=example,
        parameters=parameters,
        tiny={"units": (16, 8), "latent_dim": 2, "epochs": 1, "batch_size": 16, "learning_rate": 1e-2},
        presets={
            "quick": {"epochs": 8, "learning_rate": 2e-3, "schedule": "cosine", **(quick or {})},
            "full": {"epochs": 60, "schedule": "cosine"},
        },
        source=source,
        claims=claims,
    )


NETWORKS = [
    _row(
        "autoencoder",
        "Auto-encoder: encodes images as codes of twenty numbers and decodes them.",
        "Hinton, Salakhutdinov 2006, Reducing the dimensionality of data with neural networks, Science 313",
        claims=(beats_baselines(),),
    ),
    _row(
        "denoising_autoencoder",
        "Denoising auto-encoder: removes noise from images.",
        "Vincent et al. 2008, Extracting and composing robust features with denoising autoencoders",
        claims=(mends("noise"),),
        noise=0.3,
    ),
    _row(
        "dropout_autoencoder",
        "Dropout auto-encoder: restores missing pixels of images.",
        "Vincent et al. 2008, Extracting and composing robust features with denoising autoencoders",
        claims=(mends("dropped pixels"),),
        dropout=0.3,
    ),
    _row(
        "adversarial_autoencoder",
        "Adversarial auto-encoder: a discriminator makes codes normally distributed, so that noise decodes to images.",
        "Makhzani et al. 2015, Adversarial autoencoders, arXiv:1511.05644",
        parameters=492_965,
        quick={"epochs": 12, "learning_rate": 1e-3},
        claims=(normal_codes(),),
        adversarial=True,
        monitor="",  # the last epoch: at the best reconstruction, the codes may not be normal yet
    ),
]
