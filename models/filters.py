"""Convolution by hand: fixed 3×3 kernels that sharpen and blur an image and find its edges; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._blocks import Saved, from_saved
from ladle.models._claims import blur_keeps
from ladle.models._network import Assets, Config, Network, option
from ladle.models._signatures import Core, Signature, Tensors

KERNELS: dict[str, tuple[tuple[float, ...], ...]] = {
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "blur": ((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),
    "edge": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    "sobel_x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "sobel_y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
}
"""Kernels by name. Those of `sharpen` and `blur` add up to 1, so that an even area keeps its brightness; the others add
up to 0, so that it becomes black."""
FILTERS = ("sharpen", "blur", "edge", "sobel")


@dataclass(frozen=True)
class FiltersConfig(Config):
    """Size of the images."""

    epochs: int = option(1, "passes over the images; nothing is trained")
    monitor: str = option("", "metric that selects the best epoch; empty, as nothing is trained")
    height: int = option(28, "height of the images in pixels")
    width: int = option(28, "width of the images in pixels")
    channels: int = option(1, "1: grey, 3: colour; each channel is filtered alone")


def convolve(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """o(i, j) = Σ_m Σ_n x(i + m, j + n)·k(m, n), m and n in -1..1: float32 [b, h, w, c] and [3, 3] -> [b, h, w, c].

    As in every network, the kernel is not flipped. Beyond the border, border pixels are repeated.
    """
    for axis in (1, 2):  # h and w grow by 2
        first = tf.gather(image, [0], axis=axis)
        last = tf.gather(image, [image.shape[axis] - 1], axis=axis)
        image = tf.concat([first, image, last], axis=axis)
    height, width = image.shape[1] - 2, image.shape[2] - 2
    shifted = [
        kernel[m, n] * image[:, m : m + height, n : n + width]  # [b, h, w, c]
        for m in range(3)
        for n in range(3)
    ]
    return tf.add_n(shifted)


class _Kernels(keras.layers.Layer):  # type: ignore[misc]
    """The five kernels as weights that nothing trains. In a layer, since `.h5` files keep those of layers only."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by_name = {
            name: self.add_weight(
                shape=(3, 3),
                initializer=lambda shape, dtype, values=values: tf.constant(values, dtype),
                trainable=False,
                name=name,
            )
            for name, values in KERNELS.items()
        }
        self.built = True


@keras.saving.register_keras_serializable("ladle")
class Filters(Saved):
    """Five kernels, which are its weights, and four filters made of them."""

    def __init__(self, config: FiltersConfig, **kwargs: Any) -> None:
        super().__init__(config, dtype="float32", **kwargs)
        self.kernels = _Kernels(name="kernels", dtype="float32")
        self._figures = [keras.metrics.Mean(name="loss")]
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._figures

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, h, w, c] in [0, 1] -> float32 [b, 4, h, w, c] in [0, 1], in the order of FILTERS.

        `edge` is the size of the response; `sobel` the length of the two responses, where 4, that of a border between
        black and white, is 1.
        """
        image = tf.cast(image, tf.float32)
        found = {name: convolve(image, kernel.value) for name, kernel in self.kernels.by_name.items()}
        sobel = tf.sqrt(found["sobel_x"] ** 2 + found["sobel_y"] ** 2) / 4.0
        filtered = [found["sharpen"], found["blur"], tf.abs(found["edge"]), sobel]
        return tf.clip_by_value(tf.stack(filtered, axis=1), 0.0, 1.0)

    def train_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train nothing; return the mean brightness of the `sobel` images: how much of the images is edges."""
        self._figures[0].update_state(tf.reduce_mean(self(image)[:, FILTERS.index("sobel")]))
        return {"loss": self._figures[0].result()}

    def test_step(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.train_step(image)

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> Filters:
        return build(from_saved(FiltersConfig, saved["config"]))


def build(config: FiltersConfig) -> Filters:
    """A convolution with each of five known kernels: sharpen, Gaussian blur, Laplacian edges, Sobel across and down.

    Input    image     float32 [b, h, w, c]     in [0, 1]
    Output   filtered  float32 [b, 4, h, w, c]  in [0, 1]
    Weights  45: five kernels of 3×3, none trained
    Source   Sobel, Feldman 1968, "An isotropic 3×3 image gradient operator", for `sobel`
    """
    model = Filters(config, name="filters")
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


def signatures(model: Filters, config: FiltersConfig, assets: Assets) -> dict[str, Signature]:
    """Signatures that answer an image with four.

    serving_default  image float32 [b, h, w, c] in [0, 1] -> sharpen, blur, edge, sobel, each float32 [b, h, w, c]
    serving_bytes    image_bytes string [b]               -> the same
    """
    shape = (config.height, config.width, config.channels)

    def filtered(image: tf.Tensor) -> Tensors:
        images = model(image, training=False)
        return {name: images[:, i] for i, name in enumerate(FILTERS)}

    core = Core("model", filtered, {"image": tf.TensorSpec([None, *shape], tf.float32, name="image")})
    decode = steps.DecodeImage(config.channels, config.height, config.width)
    return {
        "serving_default": Signature(core, FILTERS),
        "serving_bytes": Signature(core, FILTERS, before=[decode]),
    }


def example(config: FiltersConfig) -> dict[str, np.ndarray]:
    """image float32 [4, h, w, c] in [0, 1]: noise."""
    shape = (4, config.height, config.width, config.channels)
    return {"image": np.random.default_rng(config.seed).random(shape, np.float32)}


NETWORKS = [
    Network(
        name="filters",
        task="filter",
        summary="Convolution by hand: sharpens, blurs and finds the edges of an image with known kernels.",
        config=FiltersConfig(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=45,
        tiny={},
        presets={"quick": {}, "full": {}, "photographs": {"data": "photographs", "channels": 3}},
        source="Sobel, Feldman 1968, An isotropic 3×3 image gradient operator",
        claims=(blur_keeps(0.375),),
        trained=False,
    ),
]
