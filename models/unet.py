"""U-Net: what is where. The way down finds what, the way up where; skips join them (Ronneberger et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import _steps as steps
from models._blocks import seeds
from models._network import Assets, Network, option
from models._network import Config as BaseConfig
from models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class Config(BaseConfig):
    """Shape of the images, classes, size of the network, and the weight of borders."""

    data: str = option("nuclei", "data set of images and masks (`ladle data` lists them)")
    batch_size: int = option(8, "images per step")
    epochs: int = option(200, "passes over the training examples")
    monitor: str = option("val_iou", "figure that picks the best epoch; `iou` rises, `loss` falls")
    augment: bool = option(True, "random changes to the training images (flips, shifts), fixed by the seed")
    height: int = option(64, "height of the example image in pixels; any other does too")
    width: int = option(64, "width of the example image in pixels; any other does too")
    channels: int = option(1, "1: grey, 3: colour")
    num_classes: int = option(1, "classes besides the background, which is class 0")
    filters: int = option(16, "filters of the first stage; each stage doubles them")
    depth: int = option(4, "stages, each of which halves height and width")
    dropout: float = option(0.0, "share of the features at the bottom that training drops")
    standardize: bool = option(False, "each image to mean 0 and variance 1: for pictures whose exposures differ")
    border_weight: float = option(4.0, "how much more a pixel at an object's border weighs than one far from any")
    border_width: int = option(3, "pixels from the border over which that weight fades")


@keras.saving.register_keras_serializable("ladle")
class PadToMultiple(keras.layers.Layer):  # type: ignore[misc]
    """[b, h, w, c] -> height and width rounded up to a multiple, by repeating the last row and column."""

    def __init__(self, multiple: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, image: tf.Tensor) -> tf.Tensor:
        for axis in (1, 2):
            size = tf.shape(image)[axis]
            padded = (size + self.multiple - 1) // self.multiple * self.multiple
            image = tf.gather(image, tf.minimum(tf.range(padded), size - 1), axis=axis)
        return image

    def compute_output_shape(self, image_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (image_shape[0], None, None, image_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable("ladle")
class CropLike(keras.layers.Layer):  # type: ignore[misc]
    """([b, H, W, k], [b, h, w, c]) -> the first, cut to h and w."""

    def call(self, x: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        return x[:, : tf.shape(image)[1], : tf.shape(image)[2]]

    def compute_output_shape(
        self, x_shape: tuple[int | None, ...], image_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (x_shape[0], image_shape[1], image_shape[2], x_shape[3])


@keras.saving.register_keras_serializable("ladle")
class Standardize(keras.layers.Layer):  # type: ignore[misc]
    """[b, h, w, c] -> each image less its mean, over its standard deviation; a plain one becomes zeros."""

    def call(self, image: tf.Tensor) -> tf.Tensor:
        centred = image - tf.reduce_mean(image, [1, 2, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), [1, 2, 3], keepdims=True)
        return centred / tf.sqrt(variance + 1e-6)  # 1e-6: far below one level of 255

    def compute_output_shape(self, image_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return image_shape


def border_weights(mask: tf.Tensor, classes: int, weight: float, width: int) -> tf.Tensor:
    """1 far from borders, rising to 1 + weight beside one: int [b, h, w] -> float32 [b, h, w].

    The distance to a border is counted in dilations less erosions of each class by 3×3. The paper weighs the gaps
    between touching cells, which takes instances; a mask of classes shows borders alone.
    """
    grown = tf.one_hot(mask, classes)  # [b, h, w, classes]
    shrunk = -grown
    near = tf.zeros_like(grown)
    for _ in range(width):
        grown, shrunk = (tf.nn.max_pool2d(x, 3, 1, "SAME") for x in (grown, shrunk))
        near += grown + shrunk  # 1 within so many pixels of a border
    return 1.0 + weight / max(width, 1) * tf.reduce_max(near, axis=-1)


@keras.saving.register_keras_serializable("ladle")
class BorderCrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """Cross-entropy of pixels, weighted higher at borders; the weights of a batch have mean 1."""

    def __init__(self, weight: float, width: int, name: str = "border_cross_entropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.weight, self.width = weight, width

    def call(self, mask: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """mask [b, h, w], logits float32 [b, h, w, k] -> float32 [b, h, w]."""
        mask = tf.cast(mask, tf.int32)
        weights = border_weights(mask, logits.shape[-1], self.weight, self.width)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits)
        return entropy * weights / tf.reduce_mean(weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "width": self.width}


def _convolutions(x: keras.KerasTensor, filters: int, seed: Iterator[int], name: str) -> keras.KerasTensor:
    for n in (1, 2):
        kernel = keras.initializers.HeNormal(next(seed))
        conv = keras.layers.Conv2D(
            filters, 3, padding="same", activation="relu", kernel_initializer=kernel, name=f"{name}_conv{n}"
        )
        x = conv(x)
    return x


def build(config: Config) -> keras.Model:
    """U-Net: a contracting path, an expanding path, and a skip at each size.

    Each of `depth` stages halves height and width and doubles the filters; the way up mirrors it and joins the
    features of its own size. Unlike the paper: 'same' padding, so mask and image agree in size, and a quarter of the
    filters. Any height and width: within, the last row and column are repeated up to a multiple of 2**depth.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, h, w, num_classes + 1]  per pixel; channel 0 is background
    Weights  1,940,834 at filters=16, depth=4, one channel, num_classes=1
    Source   Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, figure 1
    """
    seed = seeds(config.seed)
    image = keras.Input((None, None, config.channels), name="image")
    if config.standardize:  # in float32, whatever the layers after it compute in
        x = Standardize(dtype="float32", name="standardize")(image)
    else:
        x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    x = PadToMultiple(2**config.depth, name="pad")(x)
    skips = []
    for stage in range(config.depth):
        x = _convolutions(x, config.filters << stage, seed, f"down{stage + 1}")
        skips.append(x)
        x = keras.layers.MaxPool2D(name=f"down{stage + 1}_pool")(x)  # height and width halved
    x = _convolutions(x, config.filters << config.depth, seed, "bottom")
    if config.dropout:
        x = keras.layers.Dropout(config.dropout, seed=next(seed), name="bottom_dropout")(x)
    for stage in reversed(range(config.depth)):
        kernel = keras.initializers.HeNormal(next(seed))
        up = keras.layers.Conv2DTranspose(
            config.filters << stage, 2, 2, kernel_initializer=kernel, name=f"up{stage + 1}_deconv"
        )
        x = keras.layers.Concatenate(name=f"up{stage + 1}_join")([skips[stage], up(x)])  # height and width doubled
        x = _convolutions(x, config.filters << stage, seed, f"up{stage + 1}")
    kernel = keras.initializers.GlorotUniform(next(seed))
    x = keras.layers.Conv2D(config.num_classes + 1, 1, kernel_initializer=kernel, dtype="float32", name="classes")(x)
    model = keras.Model(image, CropLike(dtype="float32", name="logits")(x, image), name="unet")
    optimizer = keras.optimizers.Adam(config.learning_rate)
    optimizer.build(model.trainable_variables)  # so that a checkpoint finds its variables
    classes = config.num_classes + 1
    model.compile(
        optimizer=optimizer,
        loss=BorderCrossEntropy(config.border_weight, config.border_width),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            # The background, easy and large, would hide the objects' figure.
            keras.metrics.IoU(classes, list(range(1, classes)), sparse_y_pred=False, name="iou"),
        ],
        jit_compile=False,
    )
    return model


def signatures(model: keras.Model, config: Config, assets: Assets) -> dict[str, Signature]:
    """Masks of images of any height and width.

    serving_default  image float32 [b, h, w, c] in [0, 1] -> class_map int64 [b, h, w], probabilities
                     float32 [b, h, w, num_classes + 1]
    serving_bytes    image_bytes string [b], of one size  -> the same, and mask_png string [b]: grey values are classes

    ValueError unless there is a label for each class, the background's first.
    """
    if len(assets.labels) != config.num_classes + 1:
        raise ValueError(
            f"{len(assets.labels)} labels for the background and {config.num_classes} classes; give one for each, "
            "the background's first"
        )

    def segment(image: tf.Tensor) -> Tensors:
        logits = model(image, training=False)  # [b, h, w, k]
        return {
            "class_map": tf.argmax(logits, axis=-1, output_type=tf.int64),  # [b, h, w]
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
        }

    core = Core("model", segment, {"image": tf.TensorSpec([None, None, None, config.channels], tf.float32, "image")})
    decode = steps.DecodeImage(config.channels)
    return {
        "serving_default": Signature(core, ("class_map", "probabilities")),
        "serving_bytes": Signature(
            core, ("class_map", "probabilities", "mask_png"), before=[decode], after=[steps.EncodePng()]
        ),
    }


def example(config: Config) -> dict[str, np.ndarray]:
    """image float32 [4, h, w, c] in [0, 1]: noise."""
    shape = (4, config.height, config.width, config.channels)
    return {"image": np.random.default_rng(config.seed).random(shape, np.float32)}


NETWORKS = [
    Network(
        name="unet",
        task="segment",
        summary="U-Net: the class of every pixel, for images of any size, from few examples.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=1_940_834,
        tiny={"filters": 4, "depth": 2, "epochs": 1, "batch_size": 4, "learning_rate": 1e-2},
        presets={
            "quick": {"epochs": 15, "schedule": "cosine"},
            "full": {"schedule": "cosine", "warmup": 0.02, "dropout": 0.3},
        },
        source="Ronneberger, Fischer, Brox 2015, U-Net, arXiv:1505.04597",
    ),
]
