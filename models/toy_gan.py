"""A Wasserstein GAN in the plane: points of a known density, so that generator and critic can be seen whole.

The densities are those of Gulrajani et al. 2017, figure 2: eight Gaussians, 25 Gaussians, a Swiss roll.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._blocks import from_saved, seeds
from ladle.models._claims import near_floor, unit_slope
from ladle.models._network import Assets, Network, option
from ladle.models._optimizers import clipping
from ladle.models._signatures import Core, Signature, Tensors
from ladle.models.wgan import WGAN
from ladle.models.wgan import Config as WganConfig

EXTENT = 1.5
"""Pictures show the plane from -EXTENT to EXTENT; the densities lie inside."""
LOW, HIGH, INK = (24, 34, 64), (96, 128, 168), (255, 214, 120)
"""Colours, RGB: where the critic's score is lowest, where it is highest, and a generated point."""


@dataclass(frozen=True)
class Config(WganConfig):
    """Widths of both networks, and the size of pictures."""

    data: str = option("synthetic_ring", "data set: synthetic_ring | synthetic_grid | synthetic_roll")
    batch_size: int = option(1280, "points per step, divided among the steps of the critic")
    epochs: int = option(150, "passes over the training points")
    learning_rate: float = option(1e-3, "step size of both optimizers")
    schedule: str = option(
        "cosine", "learning rate over the run: constant | cosine | exponential | step | polynomial | inverse_time"
    )
    height: int = option(64, "height of a picture in pixels")
    width: int = option(64, "width of a picture in pixels, the same as the height")
    channels: int = option(3, "channels of a picture: 3, colour")
    latent_dim: int = option(2, "length of a noise vector")
    units: tuple[int, ...] = option((128, 128, 128), "units of each hidden layer, in both networks")
    points: int = option(512, "generated points in a picture")


def _dense(config: Config, given: int, answered: int, seed: int, name: str) -> keras.Model:
    """float32 [b, given] -> float32 [b, answered]: hidden layers with ReLU."""
    seed_of = seeds(seed)
    start = keras.Input((given,), name="z" if name == "generator" else "x")
    x = start
    for n, units in enumerate(config.units, 1):
        kernel = keras.initializers.HeNormal(next(seed_of))
        x = keras.layers.Dense(units, activation="relu", kernel_initializer=kernel, name=f"dense{n}")(x)
    kernel = keras.initializers.GlorotNormal(next(seed_of))
    return keras.Model(
        start, keras.layers.Dense(answered, kernel_initializer=kernel, dtype="float32", name="out")(x), name=name
    )


@keras.saving.register_keras_serializable("ladle")
class ToyGan(WGAN):
    """Generator and critic of points; `call` runs the generator. The steps are those of WGAN."""

    config: Config

    def networks(self, config: Any) -> tuple[keras.Model, keras.Model]:
        made = _dense(config, config.latent_dim, 2, config.seed, "generator")
        return made, _dense(config, 2, 1, config.seed + 1, "critic")

    def scaled(self, given: tf.Tensor) -> tf.Tensor:
        """Points as they are: float32 [b, 2]."""
        return given

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> ToyGan:
        return build(from_saved(Config, saved["config"]))


def build(config: Config) -> ToyGan:
    """Wasserstein GAN with gradient penalty on points: 2 -> 128 -> 128 -> 128 -> 2, and a critic that ends in 1.

    Input    z  float32 [b, latent_dim]  ~ N(0, 1)
    Output   x  float32 [b, 2]
    Weights  67,203: generator 33,666, critic 33,537
    Source   Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, "Improved training of Wasserstein GANs",
             arXiv:1704.00028, figure 2, where hidden layers have 512 units

    ValueError: pictures that are not square.
    """
    if config.height != config.width:
        raise ValueError(f"pictures are {config.height}×{config.width}; expected squares")
    model = ToyGan(config, name="toy_gan")

    def adam() -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(config.learning_rate, config.beta_1, config.beta_2, **clipping(config))

    model.compile(adam(), adam())
    return model


def drawn(points: tf.Tensor, scores: tf.Tensor, side: int) -> tf.Tensor:
    """Points over the critic's score: float32 [b, p, 2] and [side·side] -> uint8 [b, side, side, 3], y upwards.

    A point's ink is divided among the four pixels around it by its distance to them. So the picture changes by no more
    than a level where two engines differ by a rounding.
    """
    place = (points / EXTENT + 1.0) * (side - 1) / 2  # [b, p, 2], 0 to side - 1 inside
    ticks = tf.range(side, dtype=tf.float32)
    across = tf.nn.relu(1.0 - tf.abs(place[..., 0:1] - ticks))  # [b, p, side]
    down = tf.nn.relu(1.0 - tf.abs((side - 1) - place[..., 1:2] - ticks))
    ink = tf.minimum(tf.matmul(down, across, transpose_a=True), 1.0)[..., tf.newaxis]  # [b, side, side, 1]
    low, high = tf.reduce_min(scores), tf.reduce_max(scores)
    share = tf.reshape((scores - low) / tf.maximum(high - low, 1e-6), [side, side, 1])
    ground = tf.constant(LOW, tf.float32) * (1.0 - share) + tf.constant(HIGH, tf.float32) * share  # [side, side, 3]
    return tf.cast(tf.round(ground * (1.0 - ink) + tf.constant(INK, tf.float32) * ink), tf.uint8)


def grid(side: int) -> np.ndarray:
    """The points at the pixels of a picture, row by row from the top left: float32 [side·side, 2]."""
    ticks = np.linspace(-EXTENT, EXTENT, side, dtype=np.float32)
    return np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1).reshape(-1, 2)


def signatures(model: ToyGan, config: Config, assets: Assets) -> dict[str, Signature]:
    """Points from noise, the critic's score of points, and pictures of both from a seed.

    serving_default  z float32 [b, latent_dim] -> x float32 [b, 2]
    critic           x float32 [b, 2]          -> value float32 [b], higher where the critic takes points for real
    generate         n int32 [], seed int64 [] -> images uint8 [n, h, w, 3], each of other points over that score
    """
    noise = config.points * config.latent_dim

    def points(z: tf.Tensor) -> Tensors:
        return {"x": tf.cast(model(z, training=False), tf.float32)}

    def score(x: tf.Tensor) -> Tensors:
        return {"value": tf.reshape(tf.cast(model.critic(x, training=False), tf.float32), [-1])}

    def picture(z: tf.Tensor) -> Tensors:
        found = points(tf.reshape(z, [-1, config.latent_dim]))["x"]  # [n·points, 2]
        found = tf.reshape(found, [-1, config.points, 2])
        return {"images": drawn(found, score(tf.constant(grid(config.height)))["value"], config.height)}

    z = tf.TensorSpec([None, config.latent_dim], tf.float32, name="z")
    x = tf.TensorSpec([None, 2], tf.float32, name="x")
    all_z = tf.TensorSpec([None, noise], tf.float32, name="z")
    return {
        "serving_default": Signature(Core("model", points, {"z": z}), ("x",)),
        "critic": Signature(Core("critic", score, {"x": x}), ("value",)),
        "generate": Signature(Core("picture", picture, {"z": all_z}), ("images",), before=[steps.NormalNoise(noise)]),
    }


def example(config: Config) -> dict[str, np.ndarray]:
    """z float32 [4, latent_dim] ~ N(0, 1)."""
    return {"z": np.random.default_rng(config.seed).normal(size=(4, config.latent_dim)).astype(np.float32)}


NETWORKS = [
    Network(
        name="toy_gan",
        task="generate",
        summary="Wasserstein GAN of points in the plane: the density it learns and its critic can be seen whole.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=67_203,
        tiny={"units": (8, 8), "critic_steps": 2, "epochs": 1, "batch_size": 64, "points": 32},
        presets={
            "quick": {"epochs": 50},
            "full": {},
            "grid": {"data": "synthetic_grid"},
            "roll": {"data": "synthetic_roll"},
        },
        source="Gulrajani et al. 2017, Improved training of Wasserstein GANs, arXiv:1704.00028, figure 2",
        claims=(near_floor(1.5), unit_slope()),
        takes="points",
    ),
]
