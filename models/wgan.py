"""Wasserstein GANs: a critic estimates the distance of generated images from real ones; a generator reduces it.

The gradient penalty keeps the gradient norm of the critic near 1, so that its score is a distance (Gulrajani et al.
2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ladle.models._blocks import from_saved, scaled_loss, seeds
from ladle.models._claims import unit_slope, weights_within_clip
from ladle.models._gan import SLOPE, Gan, GanConfig, check_size, example, generator, signatures
from ladle.models._network import Network, option
from ladle.models._optimizers import clipping


@dataclass(frozen=True)
class Config(GanConfig):
    """Critic, its constraint, and optimizers."""

    batch_size: int = option(320, "images per step, divided among the steps of the critic")
    critic_filters: tuple[int, ...] = option((64, 128, 256), "filters of each convolution of the critic")
    critic_steps: int = option(5, "critic steps for each generator step")
    penalty: float = option(10.0, "weight λ of the gradient penalty; 0: none")
    clip: float = option(0.0, "clip the weights of the critic to [-clip, clip]; 0: no clipping")
    optimizer: str = option("adam", "optimizer of both networks: adam | rmsprop")
    beta_1: float = option(0.5, "beta_1 of Adam: decay of its mean of gradients")
    beta_2: float = option(0.9, "beta_2 of Adam: decay of its mean of squared gradients")


def critic(config: Config, name: str = "critic") -> keras.Model:
    """image float32 [b, h, w, c] in [-1, 1] -> score float32 [b, 1]: 5×5 convolutions with stride 3.

    There is no batch normalisation: the penalty applies to each image alone, and batch statistics would mix them.
    """
    seed = seeds(config.seed + 1)
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = image
    for n, filters in enumerate(config.critic_filters, 1):
        x = keras.layers.Conv2D(
            filters, 5, 3, padding="same", kernel_initializer=keras.initializers.HeNormal(next(seed)), name=f"conv{n}"
        )(x)  # height and width divided by 3
        x = keras.ops.maximum(x, SLOPE * x)  # leaky ReLU; TensorFlow's fused one fails in a second derivative
    x = keras.layers.Flatten(name="flatten")(x)
    score = keras.layers.Dense(
        1, kernel_initializer=keras.initializers.HeNormal(next(seed)), dtype="float32", name="score"
    )(x)
    return keras.Model(image, score, name=name)


def gradient_penalty(
    critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, t: tf.Tensor
) -> tf.Tensor:
    """E[(‖∇critic(x)‖₂ - 1)²] at x = t·real + (1 - t)·fake; images float32 [b, h, w, c], t [b, 1, 1, 1] in [0, 1]."""
    return tf.reduce_mean((gradient_norm(critic, real, fake, t) - 1.0) ** 2)


def gradient_norm(
    critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, t: tf.Tensor
) -> tf.Tensor:
    """‖∇critic(x)‖₂ at x = t·real + (1 - t)·fake, float32 [b]; arguments as for `gradient_penalty`."""
    x = t * real + (1.0 - t) * fake
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = critic(x)
    # The small constant keeps the derivative of the square root finite where the gradient is 0.
    return tf.sqrt(tf.reduce_sum(tape.gradient(score, x) ** 2, axis=list(range(1, len(x.shape)))) + 1e-12)  # [b]


@keras.saving.register_keras_serializable("ladle")
class WGAN(Gan):
    """Generator and critic; `call` runs the generator."""

    config: Config

    def __init__(self, config: Config, **kwargs: Any) -> None:
        figures = ["critic_loss", "generator_loss", "wasserstein"]
        figures += ["penalty", "gradient_norm"] if config.penalty else []
        figures += ["largest_weight"] if config.clip else []
        super().__init__(config, tuple(figures), **kwargs)

    def networks(self, config: Any) -> tuple[keras.Model, keras.Model]:
        return generator(config), critic(config)

    @property
    def critic(self) -> keras.Model:
        return self.judge

    def train_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """`critic_steps` steps of the critic, each on its share of the batch, and one step of the generator.

        image float32 [b, h, w, c] in [0, 1]. Returns running means of the losses, the estimated distance, and the
        penalty or the largest weight.
        """
        count, total = self.config.critic_steps, tf.shape(image)[0]
        share = (total + count - 1) // count
        for n in range(count):
            rows = (tf.range(share) * count + n) % total  # starts again at row 0 if the batch does not divide
            self._critic_step(self.scaled(tf.gather(image, rows)))
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self.critic(self.generator(self.drawn(share), training=True), training=True))
            scaled = scaled_loss(self.optimizer, loss)
        weights = self.generator.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        self.average()
        self._figures["generator_loss"].update_state(loss)
        return {name: metric.result() for name, metric in self._figures.items()}

    def _critic_step(self, real: tf.Tensor) -> None:
        count = tf.shape(real)[0]
        fake = self.generator(self.drawn(count), training=True)
        t = keras.random.uniform((count, *[1] * (len(real.shape) - 1)), seed=self.noise)
        with tf.GradientTape() as tape:
            scores = tf.reduce_mean(self.critic(real, training=True)), tf.reduce_mean(self.critic(fake, training=True))
            loss = scores[1] - scores[0]
            results = {"wasserstein": -loss}
            if self.config.penalty:
                norm = gradient_norm(lambda x: self.critic(x, training=True), real, fake, t)
                penalty = tf.reduce_mean((norm - 1.0) ** 2)
                loss += self.config.penalty * penalty
                results |= {"penalty": penalty, "gradient_norm": tf.reduce_mean(norm)}
            scaled = scaled_loss(self.judge_optimizer, loss)
        weights = self.critic.trainable_variables
        self.judge_optimizer.apply(tape.gradient(scaled, weights), weights)
        if self.config.clip:
            for weight in weights:
                weight.assign(tf.clip_by_value(weight, -self.config.clip, self.config.clip))
            results["largest_weight"] = self._largest_weight()
        for name, value in {"critic_loss": loss, **results}.items():
            self._figures[name].update_state(value)

    def test_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the distance by the critic, and `sliced_wasserstein`, which needs no critic. The noise is fixed.

        With a penalty, also the gradient norm of the critic half-way between real and generated images. With clipping,
        also the largest absolute weight of the critic.
        """
        real, fake, count = self.validated(image)
        distance = tf.reduce_mean(self.critic(real, training=False)) - tf.reduce_mean(self.critic(fake, training=False))
        self._figures["wasserstein"].update_state(distance, sample_weight=count)
        results = [self._figures["wasserstein"], self._quality]
        if self.config.penalty:
            norm = gradient_norm(lambda x: self.critic(x, training=False), real, fake, tf.constant(0.5))
            self._figures["gradient_norm"].update_state(tf.reduce_mean(norm), sample_weight=count)
            results.append(self._figures["gradient_norm"])
        if self.config.clip:
            self._figures["largest_weight"].update_state(self._largest_weight())
            results.append(self._figures["largest_weight"])
        return {metric.name: metric.result() for metric in results}

    def _largest_weight(self) -> tf.Tensor:
        """The largest absolute weight of the critic, float32 []."""
        return tf.reduce_max([tf.reduce_max(tf.abs(weight)) for weight in self.critic.trainable_variables])

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> WGAN:
        return build(from_saved(Config, saved["config"]))


def build(config: Config) -> WGAN:
    """Wasserstein GAN with a gradient penalty or clipped weights, and the generator of `models._gan`.

    Generator: dense 3·3·512 -> transposed convolutions 256 (3×3), 128 (5×5), channels (4×4) -> tanh, with batch
    normalisation and leaky ReLU. Their strides are 3, 1, 2 for 28×28 images, 3, 3, 1 for 32×32 and 3, 2, 3 for 64×64.
    Critic: convolutions 64, 128, 256 (5×5, stride 3) with leaky ReLU, then dense 1.

    Input    z       float32 [b, latent_dim]  ~ N(0, 1)
    Output   image   float32 [b, h, w, c]     in [-1, 1]
    Weights  3,497,346 at 28×28×1: generator 2,470,273, critic 1,027,073
    Source   Arjovsky, Chintala, Bottou 2017, "Wasserstein GAN", arXiv:1701.07875; Gulrajani, Ahmed, Arjovsky,
             Dumoulin, Courville 2017, "Improved training of Wasserstein GANs", arXiv:1704.00028; generator: Radford,
             Metz, Chintala 2016, arXiv:1511.06434

    ValueError for an image size that the generator cannot make, or an unknown optimizer.
    """
    check_size(config)
    if config.optimizer not in ("adam", "rmsprop"):
        raise ValueError(f'unknown optimizer "{config.optimizer}"; expected adam or rmsprop')
    model = WGAN(config, name="wgan")
    model.compile(_optimizer(config), _optimizer(config))
    return model


def _optimizer(config: Config) -> keras.optimizers.Optimizer:
    if config.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(config.learning_rate, **clipping(config))
    return keras.optimizers.Adam(config.learning_rate, config.beta_1, config.beta_2, **clipping(config))


TINY: Mapping[str, Any] = {
    "generator_filters": (8, 4, 4),
    "critic_filters": (4, 4, 8),
    "critic_steps": 2,
    "latent_dim": 4,
    "epochs": 1,
    "batch_size": 16,
}
# An eighth of the weights and few critic steps.
QUICK: Mapping[str, Any] = {
    "epochs": 3,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "critic_steps": 2,
    "generator_filters": (128, 64, 32),
    "critic_filters": (32, 64, 128),
}
# Twice the steps, and the running mean of the generator: a Fréchet distance of 6.6, without both 8.4. The rate falls to
# 0, so the last epoch is the best one: the distance that else selects an epoch, of pixels, took the second (7.6).
AVERAGED: Mapping[str, Any] = {**QUICK, "batch_size": 64, "averaging": 0.995, "monitor": ""}
FACES: Mapping[str, Any] = {"data": "image_folder", "height": 64, "width": 64, "channels": 3}

NETWORKS = [
    Network(
        name="wgan_gp",
        task="generate",
        summary="Wasserstein GAN with gradient penalty: new images from a seed.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=3_497_346,
        tiny=TINY,
        presets={"quick": AVERAGED, "full": {}, "faces": FACES},
        source="Gulrajani et al. 2017, Improved training of Wasserstein GANs, arXiv:1704.00028",
        claims=(unit_slope(),),
    ),
    Network(
        name="wgan",
        task="generate",
        summary="Wasserstein GAN with clipped weights: new images from a seed.",
        config=Config(learning_rate=5e-5, penalty=0.0, clip=0.01, optimizer="rmsprop"),
        build=build,
        signatures=signatures,
        example=example,
        parameters=3_497_346,
        tiny=TINY,
        presets={
            "quick": {**QUICK, "epochs": 5, "learning_rate": 5e-4, "critic_steps": 3, "clip": 0.05},
            "full": {},
            "faces": FACES,
        },
        source="Arjovsky, Chintala, Bottou 2017, Wasserstein GAN, arXiv:1701.07875",
        claims=(weights_within_clip(),),
    ),
]
