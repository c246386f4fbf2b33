"""What the networks that segment share: their config, padding, the loss, metrics, signatures, an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._network import Assets, Config, option
from ladle.models._optimizers import OptimizerConfig, optimizer
from ladle.models._signatures import Core, Signature, Tensors

LEVEL = 1 / 255
"""Between two greys of 8 bits, in images of [0, 1]."""


@dataclass(frozen=True)
class SegmentationConfig(OptimizerConfig, Config):
    """Shape of the images, classes, and the weights of pixels."""

    data: str = option("nuclei", "data set of images and masks (`ladle data` lists them)")
    batch_size: int = option(8, "images per step")
    epochs: int = option(200, "passes over the training examples")
    monitor: str = option("val_iou", "figure that picks the best epoch; `iou` rises, `loss` falls")
    augment: bool = option(True, "random changes to the training images (flips, turns, shifts), fixed by the seed")
    crop: int = option(0, "side in pixels of the pieces that training cuts out of its images at random; 0: whole ones")
    height: int = option(64, "height of the example image in pixels; any other does too")
    width: int = option(64, "width of the example image in pixels; any other does too")
    channels: int = option(1, "1: grey, 3: colour")
    num_classes: int = option(1, "classes besides the background, which is class 0")
    standardize: bool = option(False, "each image to mean 0 and variance 1: for pictures whose exposures differ")
    border_weight: float = option(4.0, "how much more a pixel at an object's border weighs than one far from any")
    border_width: int = option(3, "pixels from the border over which that weight fades")
    class_weights: tuple[float, ...] = option((), "weight of a pixel of each class, the background's first; none: 1")


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
    """[b, h, w, c] in [0, 1] -> each image less its mean, over its standard deviation; a plain one becomes zeros.

    The variance of one level of 255 is added to its own: noise of that size is not made to look like a picture.
    """

    def call(self, image: tf.Tensor) -> tf.Tensor:
        centred = image - tf.reduce_mean(image, [1, 2, 3], keepdims=True)
        # Of thousands of pixels float32 has the mean to five digits: too few for a dim image, whose deviation is small.
        centred -= tf.reduce_mean(centred, [1, 2, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), [1, 2, 3], keepdims=True)
        return centred / tf.sqrt(variance + LEVEL**2)

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
    """Cross-entropy of pixels, weighted higher at borders and by class; the weights of a batch have mean 1."""

    def __init__(
        self,
        weight: float,
        width: int,
        class_weights: tuple[float, ...] = (),
        name: str = "border_cross_entropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.weight, self.width, self.class_weights = weight, width, tuple(class_weights)

    def call(self, mask: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """mask [b, h, w], logits float32 [b, h, w, k] -> float32 [b, h, w]."""
        mask = tf.cast(mask, tf.int32)
        weights = border_weights(mask, logits.shape[-1], self.weight, self.width)
        if self.class_weights:
            weights *= tf.gather(tf.constant(self.class_weights, tf.float32), mask)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits)
        return entropy * weights / tf.reduce_mean(weights)

    def get_config(self) -> dict[str, Any]:
        own = {"weight": self.weight, "width": self.width, "class_weights": self.class_weights}
        return {**super().get_config(), **own}


def scaled(image: keras.KerasTensor, config: SegmentationConfig) -> keras.KerasTensor:
    """The image as the layers take it: from [0, 1] to [-1, 1], or standardized."""
    if config.standardize:  # in float32, whatever the layers after it compute in
        return Standardize(dtype="float32", name="standardize")(image)
    return keras.layers.Rescaling(2.0, -1.0, name="scale")(image)


def compile_segmenter(model: keras.Model, config: SegmentationConfig) -> keras.Model:
    """`model` (image -> logits) with its optimizer, the weighted cross-entropy, accuracy and IoU.

    ValueError unless there is a weight for each class, or none.
    """
    classes = config.num_classes + 1
    if len(config.class_weights) not in (0, classes):
        raise ValueError(
            f"class_weights has {len(config.class_weights)} numbers; expected {classes}, one for each class, or none"
        )
    model.compile(
        optimizer=optimizer(config, model.trainable_variables),
        loss=BorderCrossEntropy(config.border_weight, config.border_width, config.class_weights),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            # The background, easy and large, would hide the objects' figure.
            keras.metrics.IoU(classes, list(range(1, classes)), sparse_y_pred=False, name="iou"),
        ],
        jit_compile=False,
    )
    return model


def signatures(model: keras.Model, config: SegmentationConfig, assets: Assets) -> dict[str, Signature]:
    """Masks of images of any height and width.

    serving_default  image float32 [b, h, w, c] in [0, 1] -> class_map int64 [b, h, w], probabilities
                     float32 [b, h, w, num_classes + 1]
    serving_bytes    image_bytes string [b], of one size  -> the same, and mask_png_bytes string [b]: PNG whose grey
                     values are classes

    ValueError unless there is a label for each class, the background's first.
    """
    if len(assets.labels) != config.num_classes + 1:
        raise ValueError(
            f"got {len(assets.labels)} labels; expected {config.num_classes + 1}: the background's first, then one for "
            "each class"
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
            core, ("class_map", "probabilities", "mask_png_bytes"), before=[decode], after=[steps.EncodePng()]
        ),
    }


def example(config: SegmentationConfig) -> dict[str, np.ndarray]:
    """image float32 [4, h, w, c] in [0, 1]: noise."""
    shape = (4, config.height, config.width, config.channels)
    return {"image": np.random.default_rng(config.seed).random(shape, np.float32)}
