"""Wasserstein GANs: a critic measures how far generated images are from real ones, a generator shortens the way.

The gradient penalty keeps the critic's slope near 1, which makes its score a distance (Gulrajani et al. 2017).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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

KERNELS = (3, 5, 4)
"""Kernel of each transposed convolution."""
STRIDES = {28: (3, 1, 2), 32: (3, 3, 1), 64: (3, 2, 3)}
"""Their strides by image size, without padding: 3 -> 9 -> 21 -> 64, and 3 -> 9 -> 13 -> 28."""
SLOPE = 0.2
PROJECTIONS = 128


@dataclass(frozen=True)
class Config(BaseConfig):
    """Shape of the images, widths, and the terms of the critic's training."""

    batch_size: int = option(320, "images per step, dealt out to the critic's steps")
    epochs: int = option(200, "passes over the training examples")
    learning_rate: float = option(1e-4, "step size of both optimizers")
    monitor: str = option(
        "val_sliced_wasserstein", "figure that picks the best epoch, the lowest one; empty: the last epoch"
    )
    height: int = option(28, "height of the images in pixels: 28, 32 or 64")
    width: int = option(28, "width of the images in pixels, the same as the height")
    channels: int = option(1, "1: grey, 3: colour")
    latent_dim: int = option(100, "numbers in a noise vector")
    generator_filters: tuple[int, ...] = option((512, 256, 128), "filters before each transposed convolution")
    critic_filters: tuple[int, ...] = option((64, 128, 256), "filters of each convolution of the critic")
    critic_steps: int = option(5, "steps of the critic for each step of the generator")
    penalty: float = option(10.0, "weight λ of the gradient penalty")
    beta_1: float = option(0.5, "decay of Adam's mean")
    beta_2: float = option(0.9, "decay of Adam's variance")


def generator(config: Config, name: str = "generator") -> keras.Model:
    """z float32 [b, latent_dim] -> image float32 [b, h, w, c] in [-1, 1]: dense 3·3, three transposed convolutions."""
    seed = seeds(config.seed)
    strides = STRIDES[config.height]
    z = keras.Input((config.latent_dim,), name="z")
    width, *filters = config.generator_filters
    x = keras.layers.Dense(
        9 * width, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02, seed=next(seed)), name="dense"
    )(z)
    x = keras.layers.Reshape((3, 3, width), name="reshape")(x)
    for n, (filters_out, kernel, stride) in enumerate(
        zip([*filters, config.channels], KERNELS, strides, strict=True), 1
    ):
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{n}")(x)
        x = keras.layers.LeakyReLU(SLOPE, name=f"leaky{n}")(x)
        x = keras.layers.Conv2DTranspose(
            filters_out,
            kernel,
            stride,
            padding="valid",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02, seed=next(seed)),
            name=f"deconv{n}",
        )(x)
    return keras.Model(z, keras.layers.Activation("tanh", dtype="float32", name="image")(x), name=name)


def critic(config: Config, name: str = "critic") -> keras.Model:
    """image float32 [b, h, w, c] in [-1, 1] -> score float32 [b, 1]: convolutions 5×5 by 3, no batch normalisation.

    The penalty holds for each image alone, and batch normalisation would mix them.
    """
    seed = seeds(config.seed + 1)
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = image
    for n, filters in enumerate(config.critic_filters, 1):
        x = keras.layers.Conv2D(
            filters, 5, 3, padding="same", kernel_initializer=keras.initializers.HeNormal(next(seed)), name=f"conv{n}"
        )(x)  # height and width a third
        x = keras.ops.maximum(x, SLOPE * x)  # leaky ReLU; the fused one upsets TensorFlow in a second derivative
    x = keras.layers.Flatten(name="flatten")(x)
    score = keras.layers.Dense(
        1, kernel_initializer=keras.initializers.HeNormal(next(seed)), dtype="float32", name="score"
    )(x)
    return keras.Model(image, score, name=name)


def gradient_penalty(
    critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, t: tf.Tensor
) -> tf.Tensor:
    """E[(‖∇critic(x)‖₂ - 1)²] at x = t·real + (1 - t)·fake; images float32 [b, h, w, c], t [b, 1, 1, 1] in [0, 1]."""
    x = t * real + (1.0 - t) * fake
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = critic(x)
    slope = tf.sqrt(tf.reduce_sum(tape.gradient(score, x) ** 2, axis=[1, 2, 3]) + 1e-12)  # [b]
    return tf.reduce_mean((slope - 1.0) ** 2)


def sliced_wasserstein(real: tf.Tensor, fake: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
    """Mean distance of two sets of images seen along `directions` float32 [h·w·c, d] of length 1.

    Along one direction the Wasserstein distance is that of the sorted values (Rabin et al. 2011). float32 [].
    """
    flat = [tf.reshape(images, [tf.shape(images)[0], -1]) for images in (real, fake)]
    ranked = [tf.sort(tf.matmul(images, directions), axis=0) for images in flat]  # [b, d]
    return tf.reduce_mean(tf.abs(ranked[0] - ranked[1]))


@keras.saving.register_keras_serializable("ladle")
class WGAN(keras.Model):  # type: ignore[misc]
    """Generator and critic; `call` is the generator."""

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.generator, self.critic = generator(config), critic(config)
        seed = seeds(config.seed + 2)
        self.noise = keras.random.SeedGenerator(next(seed))
        directions = np.random.default_rng(next(seed)).normal(size=(int(np.prod(self._shape)), PROJECTIONS))
        self._directions = (directions / np.linalg.norm(directions, axis=0)).astype(np.float32)
        names = ("critic_loss", "generator_loss", "wasserstein", "penalty")
        self._figures = {name: keras.metrics.Mean(name=name) for name in names}
        self._quality = keras.metrics.Mean(name="sliced_wasserstein")
        self.built = True

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (self.config.height, self.config.width, self.config.channels)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self._figures.values(), self._quality]

    def compile(self, generator_optimizer: Any, critic_optimizer: Any) -> None:
        """Set both optimizers, and build them so that a checkpoint finds their variables."""
        super().compile(optimizer=generator_optimizer, jit_compile=False)
        self.critic_optimizer = critic_optimizer
        self.optimizer.build(self.generator.trainable_variables)
        self.critic_optimizer.build(self.critic.trainable_variables)

    @property
    def optimizers(self) -> list[Any]:
        return [self.optimizer, self.critic_optimizer]

    def call(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, latent_dim] -> image float32 [b, h, w, c] in [-1, 1]."""
        return self.generator(z, training=training)

    def train_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """`critic_steps` steps of the critic, each on its share of the batch, and one of the generator.

        image float32 [b, h, w, c] in [0, 1] -> running means of the losses, of the critic's distance, of the penalty.
        """
        count, total = self.config.critic_steps, tf.shape(image)[0]
        share = (total + count - 1) // count
        for n in range(count):
            rows = (tf.range(share) * count + n) % total  # the first ones again where the batch does not divide
            self._critic_step(2.0 * tf.gather(image, rows) - 1.0)
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self.critic(self.generator(self._z(share), training=True), training=True))
            scaled = scaled_loss(self.optimizer, loss)
        weights = self.generator.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        self._figures["generator_loss"].update_state(loss)
        return {name: metric.result() for name, metric in self._figures.items()}

    def _critic_step(self, real: tf.Tensor) -> None:
        count = tf.shape(real)[0]
        fake = self.generator(self._z(count), training=True)
        t = keras.random.uniform((count, 1, 1, 1), seed=self.noise)
        with tf.GradientTape() as tape:
            scores = tf.reduce_mean(self.critic(real, training=True)), tf.reduce_mean(self.critic(fake, training=True))
            penalty = gradient_penalty(lambda x: self.critic(x, training=True), real, fake, t)
            loss = scores[1] - scores[0] + self.config.penalty * penalty
            scaled = scaled_loss(self.critic_optimizer, loss)
        weights = self.critic.trainable_variables
        self.critic_optimizer.apply(tape.gradient(scaled, weights), weights)
        for name, value in {"critic_loss": loss, "wasserstein": scores[0] - scores[1], "penalty": penalty}.items():
            self._figures[name].update_state(value)

    def _z(self, count: tf.Tensor) -> tf.Tensor:
        return keras.random.normal((count, self.config.latent_dim), seed=self.noise)

    def test_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Distance as the critic sees it, and `sliced_wasserstein` without critic; the noise is the same each time."""
        real, shape = 2.0 * image - 1.0, (tf.shape(image)[0], self.config.latent_dim)
        z = tf.random.stateless_normal(shape, seed=[self.config.seed, 1], alg="philox")
        fake = self.generator(z, training=False)
        distance = tf.reduce_mean(self.critic(real, training=False)) - tf.reduce_mean(self.critic(fake, training=False))
        self._figures["wasserstein"].update_state(distance, sample_weight=shape[0])
        self._quality.update_state(sliced_wasserstein(real, fake, self._directions), sample_weight=shape[0])
        return {metric.name: metric.result() for metric in (self._figures["wasserstein"], self._quality)}

    def get_config(self) -> dict[str, Any]:
        return {"config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> WGAN:
        return build(from_saved(Config, saved["config"]))

    def get_compile_config(self) -> None:
        """Nothing to save: `build` compiles."""

    def compile_from_config(self, config: Any) -> None:
        """Nothing to do: `build` compiled."""


def build(config: Config) -> WGAN:
    """Wasserstein GAN with gradient penalty; the generator is that of a DCGAN, without padding.

    dense 3·3·512 -> transposed convolutions 256 (3×3), 128 (5×5), channels (4×4) -> tanh, with batch normalisation
    and leaky ReLU; their strides 3, 2, 3 make 64×64. For 28×28 they are 3, 1, 2, for 32×32 they are 3, 3, 1.
    The critic: convolutions 64, 128, 256 (5×5, stride 3), leaky ReLU, dense 1.

    Input    z       float32 [b, latent_dim]  ~ N(0, 1)
    Output   image   float32 [b, h, w, c]     in [-1, 1]
    Weights  3,497,346 at 28×28×1: generator 2,470,273, critic 1,027,073
    Source   Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, "Improved training of Wasserstein GANs",
             arXiv:1704.00028; generator: Radford, Metz, Chintala 2016, arXiv:1511.06434

    ValueError for another size of images.
    """
    if config.height != config.width or config.height not in STRIDES:
        raise ValueError(
            f"images are {config.height}×{config.width}; wanted are squares of "
            f"{', '.join(map(str, STRIDES))} pixels: resize them"
        )
    model = WGAN(config, name="wgan")
    adams = [keras.optimizers.Adam(config.learning_rate, config.beta_1, config.beta_2) for _ in range(2)]
    model.compile(*adams)
    return model


def signatures(model: WGAN, config: Config, assets: Assets) -> dict[str, Signature]:
    """Images from noise vectors, or from a seed.

    serving_default  z float32 [b, latent_dim]    -> images uint8, raw float32 in [-1, 1], both [b, h, w, c]
    generate         n int32 [], seed int64 []    -> images uint8 [n, h, w, c]
    """

    def generate(z: tf.Tensor) -> Tensors:
        raw = model(z, training=False)
        return {"images": tf.cast(tf.round((raw + 1.0) * 127.5), tf.uint8), "raw": raw}

    core = Core("model", generate, {"z": tf.TensorSpec([None, config.latent_dim], tf.float32, name="z")})
    return {
        "serving_default": Signature(core, ("images", "raw")),
        "generate": Signature(core, ("images",), before=[steps.NormalNoise(config.latent_dim)]),
    }


def example(config: Config) -> dict[str, np.ndarray]:
    """z float32 [4, latent_dim] ~ N(0, 1)."""
    return {"z": np.random.default_rng(config.seed).normal(size=(4, config.latent_dim)).astype(np.float32)}


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
        tiny={
            "generator_filters": (8, 4, 4),
            "critic_filters": (4, 4, 8),
            "critic_steps": 2,
            "latent_dim": 4,
            "epochs": 1,
            "batch_size": 16,
        },
        presets={
            # An eighth of the parameters and few critic steps: recognisable after some 1,300 generator steps.
            "quick": {
                "epochs": 3,
                "batch_size": 128,
                "learning_rate": 1e-3,
                "schedule": "cosine",
                "critic_steps": 2,
                "generator_filters": (128, 64, 32),
                "critic_filters": (32, 64, 128),
            },
            "full": {},
            "faces": {"data": "image_folder", "height": 64, "width": 64, "channels": 3},
        },
        source="Gulrajani et al. 2017, Improved training of Wasserstein GANs, arXiv:1704.00028",
    ),
]
