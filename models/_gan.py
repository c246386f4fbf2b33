"""Shared by the GANs: config, generator, quality of samples, signatures and example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._blocks import Saved, seeds
from ladle.models._network import Assets, Config, option
from ladle.models._signatures import Core, Signature, Tensors

KERNELS = (3, 5, 4)
"""Kernel size of each transposed convolution."""
STRIDES = {28: (3, 1, 2), 32: (3, 3, 1), 64: (3, 2, 3)}
"""Their strides by image size, without padding: 3 -> 9 -> 21 -> 64 and 3 -> 9 -> 13 -> 28, for example."""
SLOPE = 0.2
"""Slope of the leaky ReLU for negative values."""
PROJECTIONS = 128
"""Random directions in the sliced Wasserstein distance."""


@dataclass(frozen=True)
class GanConfig(Config):
    """Size of the images and width of the generator."""

    epochs: int = option(200, "passes over the training examples")
    learning_rate: float = option(1e-4, "step size of both optimizers")
    monitor: str = option(
        "val_sliced_wasserstein", "metric that selects the best epoch, the lowest; empty: the last epoch"
    )
    height: int = option(28, "height of the images in pixels: 28, 32 or 64")
    width: int = option(28, "width of the images in pixels, the same as the height")
    channels: int = option(1, "1: grey, 3: colour")
    latent_dim: int = option(100, "length of a noise vector")
    generator_filters: tuple[int, ...] = option((512, 256, 128), "filters before each transposed convolution")
    averaging: float = option(
        0.0, "share that the served generator, a running mean of the trained one, keeps at each step; 0: no mean"
    )


def generator(config: GanConfig, name: str = "generator") -> keras.Model:
    """z float32 [b, latent_dim] -> image float32 [b, h, w, c] in [-1, 1]: dense, then three transposed convolutions."""
    seed = seeds(config.seed)
    strides = STRIDES[config.height]
    # Initial weights ~ N(0, 0.02) and slope 0.2: section 4 of the DCGAN paper (Radford et al. 2016).
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
            padding="valid",  # with "same", every size would be a multiple of 3
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02, seed=next(seed)),
            name=f"deconv{n}",
        )(x)
    # tanh bounds pixels to [-1, 1], the range to which training scales real images.
    return keras.Model(z, keras.layers.Activation("tanh", dtype="float32", name="image")(x), name=name)


def check_size(config: GanConfig) -> None:
    """ValueError for an image size that the generator cannot make."""
    if config.height != config.width or config.height not in STRIDES:
        raise ValueError(
            f"images are {config.height}×{config.width}; expected squares of "
            f"{', '.join(map(str, STRIDES))} pixels: resize them"
        )


def sliced_wasserstein(real: tf.Tensor, fake: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
    """Sliced Wasserstein distance of two sets of images, along unit `directions` float32 [h·w·c, d]: float32 [].

    Along one direction, the distance is the mean difference of the sorted projections (Rabin et al. 2011).
    """
    flat = [tf.reshape(images, [tf.shape(images)[0], -1]) for images in (real, fake)]
    ranked = [tf.sort(tf.matmul(images, directions), axis=0) for images in flat]  # [b, d]
    return tf.reduce_mean(tf.abs(ranked[0] - ranked[1]))


class Gan(Saved):
    """A generator and its judge, a discriminator or critic. `call` runs the generator; a family adds `train_step`.

    With `averaging`, a running mean of the generator is validated and served in its place.

    figures  names of the running means that `train_step` returns
    """

    def __init__(self, config: GanConfig, figures: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.generator, self.judge = self.networks(config)
        self.mean = self._mean(config)
        seed = seeds(config.seed + 2)
        self.noise = keras.random.SeedGenerator(next(seed))
        shape = (int(np.prod(self.generator.output_shape[1:])), PROJECTIONS)
        directions = np.random.default_rng(next(seed)).normal(size=shape)
        self._directions = (directions / np.linalg.norm(directions, axis=0)).astype(np.float32)
        self._figures = {name: keras.metrics.Mean(name=name) for name in figures}
        self._quality = keras.metrics.Mean(name="sliced_wasserstein")
        self.built = True

    def networks(self, config: Any) -> tuple[keras.Model, keras.Model]:
        """The generator, and the judge that a family adds."""
        raise NotImplementedError

    def _mean(self, config: GanConfig) -> keras.Model | None:
        """The generator whose weights are the running mean of the trained one's; None without averaging.

        Generator and judge circle each other, so single weights swing from step to step; their mean lies nearer to the
        middle (Yazıcı et al. 2019, arXiv:1806.04498).
        """
        if not config.averaging:
            return None
        mean = self.networks(config)[0]
        mean.trainable = False
        return mean

    def average(self) -> None:
        """Move the mean's weights, and those of its batch normalisation, towards the trained generator's.

        The first steps count more than `averaging` says: the mean would keep the initial weights for long.
        """
        if self.mean is None:
            return
        step = tf.cast(self.optimizer.iterations, tf.float32)
        keep = tf.minimum(self.config.averaging, (1.0 + step) / (10.0 + step))
        for mean, weight in zip(self.mean.weights, self.generator.weights, strict=True):
            mean.assign(keep * mean + (1.0 - keep) * weight)

    @property
    def served(self) -> keras.Model:
        """The generator that answers: the mean if there is one."""
        return self.generator if self.mean is None else self.mean

    def count_params(self) -> int:
        """Weights of both networks; the mean of one of them adds none."""
        return int(self.generator.count_params() + self.judge.count_params())

    def scaled(self, image: tf.Tensor) -> tf.Tensor:
        """Examples as the judge takes them: images from [0, 1] to [-1, 1]."""
        return 2.0 * image - 1.0

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self._figures.values(), self._quality]

    def compile(self, generator_optimizer: Any, judge_optimizer: Any) -> None:
        """Set both optimizers and build them, so that a checkpoint can restore their variables."""
        super().compile(optimizer=generator_optimizer, jit_compile=False)
        self.judge_optimizer = judge_optimizer
        self.optimizer.build(self.generator.trainable_variables)
        self.judge_optimizer.build(self.judge.trainable_variables)

    @property
    def optimizers(self) -> list[Any]:
        return [self.optimizer, self.judge_optimizer]

    def call(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, latent_dim] -> image float32 [b, h, w, c] in [-1, 1]."""
        return self.generator(z, training=True) if training else self.served(z, training=False)

    def drawn(self, count: tf.Tensor) -> tf.Tensor:
        """Noise vectors for training, float32 [count, latent_dim]."""
        return keras.random.normal((count, self.config.latent_dim), seed=self.noise)

    def validated(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Real and generated images in [-1, 1] and their number; updates `sliced_wasserstein`.

        The noise is the same in every epoch, so that epochs can be compared.
        """
        real, shape = self.scaled(image), (tf.shape(image)[0], self.config.latent_dim)
        z = tf.random.stateless_normal(shape, seed=[self.config.seed, 1], alg="philox")
        fake = self.served(z, training=False)
        self._quality.update_state(sliced_wasserstein(real, fake, self._directions), sample_weight=shape[0])
        return real, fake, shape[0]


def signatures(model: Gan, config: GanConfig, assets: Assets) -> dict[str, Signature]:
    """Generate images from noise vectors or from a seed.

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


def example(config: GanConfig) -> dict[str, np.ndarray]:
    """z float32 [4, latent_dim] ~ N(0, 1)."""
    return {"z": np.random.default_rng(config.seed).normal(size=(4, config.latent_dim)).astype(np.float32)}
