"""DCGAN: a convolutional generator learns to deceive a convolutional discriminator (Radford et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ladle.models._blocks import from_saved, judged, scaled_loss, seeds
from ladle.models._gan import SLOPE, Gan, GanConfig, check_size, example, generator, signatures
from ladle.models._network import Network, option
from ladle.models._optimizers import clipping


@dataclass(frozen=True)
class Config(GanConfig):
    """Discriminator and optimizers."""

    batch_size: int = option(128, "images per step")
    epochs: int = option(100, "passes over the training examples")
    learning_rate: float = option(2e-4, "step size of both optimizers")
    discriminator_filters: tuple[int, ...] = option((64, 128, 256), "filters of each convolution of the discriminator")
    label_smoothing: float = option(0.1, "the discriminator's target for real images is 1 minus this")
    beta_1: float = option(0.5, "beta_1 of Adam: decay of its mean of gradients")


def discriminator(config: Config, name: str = "discriminator") -> keras.Model:
    """image float32 [b, h, w, c] in [-1, 1] -> logit of being real, float32 [b, 1].

    5×5 convolutions with stride 3, with batch normalisation after all but the first, as in the paper.
    """
    seed = seeds(config.seed + 1)
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = image
    for n, filters in enumerate(config.discriminator_filters, 1):
        kernel = keras.initializers.RandomNormal(stddev=0.02, seed=next(seed))
        x = keras.layers.Conv2D(filters, 5, 3, padding="same", kernel_initializer=kernel, name=f"conv{n}")(x)
        if n > 1:
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{n}")(x)
        x = keras.layers.LeakyReLU(SLOPE, name=f"leaky{n}")(x)  # height and width divided by 3
    x = keras.layers.Flatten(name="flatten")(x)
    kernel = keras.initializers.RandomNormal(stddev=0.02, seed=next(seed))
    score = keras.layers.Dense(1, kernel_initializer=kernel, dtype="float32", name="score")(x)
    return keras.Model(image, score, name=name)


@keras.saving.register_keras_serializable("ladle")
class DCGAN(Gan):
    """Generator and discriminator; `call` runs the generator."""

    config: Config

    def __init__(self, config: Config, **kwargs: Any) -> None:
        figures = ("discriminator_loss", "generator_loss", "real", "fake")
        super().__init__(config, figures, **kwargs)

    def networks(self, config: Any) -> tuple[keras.Model, keras.Model]:
        return generator(config), discriminator(config)

    def train_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of the discriminator and one of the generator; image float32 [b, h, w, c] in [0, 1].

        Returns running means of both losses, and of the probability of being real for `real` and `fake` images.
        """
        count = tf.shape(image)[0]
        fake = self.generator(self.drawn(count), training=True)
        with tf.GradientTape() as tape:
            scores = self.judge(2.0 * image - 1.0, training=True), self.judge(fake, training=True)
            loss = judged(1.0 - self.config.label_smoothing, scores[0]) + judged(0.0, scores[1])
            scaled = scaled_loss(self.judge_optimizer, loss)
        weights = self.judge.trainable_variables
        self.judge_optimizer.apply(tape.gradient(scaled, weights), weights)
        results = {"discriminator_loss": loss}
        results |= {n: tf.reduce_mean(tf.sigmoid(s)) for n, s in zip(("real", "fake"), scores, strict=True)}
        with tf.GradientTape() as tape:
            # Not the negated loss of the discriminator: that one is flat where the discriminator is sure (Goodfellow et
            # al. 2014, section 3).
            loss = judged(1.0, self.judge(self.generator(self.drawn(count), training=True), training=True))
            scaled = scaled_loss(self.optimizer, loss)
        weights = self.generator.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        self.average()
        for name, value in {**results, "generator_loss": loss}.items():
            self._figures[name].update_state(value)
        return {name: metric.result() for name, metric in self._figures.items()}

    def test_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `sliced_wasserstein`, which needs no discriminator. The noise is the same in every epoch."""
        self.validated(image)
        return {self._quality.name: self._quality.result()}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> DCGAN:
        return build(from_saved(Config, saved["config"]))


def build(config: Config) -> DCGAN:
    """DCGAN: the generator of `models._gan`, and a discriminator of convolutions 64, 128, 256 (5×5, stride 3).

    Generator: dense 3·3·512 -> transposed convolutions 256 (3×3), 128 (5×5), channels (4×4) -> tanh. Their strides are
    3, 1, 2 for 28×28 images, 3, 3, 1 for 32×32 and 3, 2, 3 for 64×64.

    Input    z       float32 [b, latent_dim]  ~ N(0, 1)
    Output   image   float32 [b, h, w, c]     in [-1, 1]
    Weights  3,498,882 at 28×28×1: generator 2,470,273, discriminator 1,028,609
    Source   Radford, Metz, Chintala 2016, "Unsupervised representation learning with deep convolutional generative
             adversarial networks", arXiv:1511.06434

    ValueError for an image size that the generator cannot make.
    """
    check_size(config)
    model = DCGAN(config, name="dcgan")
    model.compile(*(keras.optimizers.Adam(config.learning_rate, config.beta_1, **clipping(config)) for _ in range(2)))
    return model


NETWORKS = [
    Network(
        name="dcgan",
        task="generate",
        summary="DCGAN: a generator trained against a discriminator; new images from a seed.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=3_498_882,
        tiny={
            "generator_filters": (8, 4, 4),
            "discriminator_filters": (4, 4, 8),
            "latent_dim": 4,
            "epochs": 1,
            "batch_size": 16,
        },
        presets={
            "quick": {
                "epochs": 3,
                "learning_rate": 1e-3,
                "schedule": "cosine",
                "generator_filters": (128, 64, 32),
                "discriminator_filters": (32, 64, 128),
            },
            "full": {},
            "faces": {"data": "image_folder", "height": 64, "width": 64, "channels": 3},
        },
        source="Radford, Metz, Chintala 2016, DCGAN, arXiv:1511.06434",
    ),
]
