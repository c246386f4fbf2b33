"""Shared by the segmentation networks: config, padding, loss, metrics, signatures and example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._network import VOID, Assets, Config, option
from ladle.models._optimizers import OptimizerConfig, optimizer
from ladle.models._signatures import Core, Signature, Tensors

LEVEL = 1 / 255
"""Difference of two neighbouring 8-bit grey values, in images in [0, 1]."""


@dataclass(frozen=True)
class SegmentationConfig(OptimizerConfig, Config):
    """Size of the images, classes, and weights of pixels in the loss."""

    data: str = option("nuclei", "data set of images and masks (`ladle data` lists them)")
    batch_size: int = option(8, "images per step")
    epochs: int = option(200, "passes over the training examples")
    monitor: str = option("val_iou", "metric that selects the best epoch: highest for `iou`, lowest for `loss`")
    augment: bool = option(True, "random flips, rotations and shifts of the training images, fixed by the seed")
    crop: int = option(0, "side in pixels of random crops of the training images; 0: whole images")
    height: int = option(64, "height of the example image in pixels; the network accepts any")
    width: int = option(64, "width of the example image in pixels; the network accepts any")
    channels: int = option(1, "1: grey, 3: colour")
    num_classes: int = option(1, "number of classes without the background, which is class 0")
    standardize: bool = option(
        False, "scale each image, or crop of it, to mean 0 and variance 1, for images with different exposure"
    )
    logarithm: bool = option(False, "read the logarithm of grey levels, so that dim objects show as bright ones do")
    border_weight: float = option(4.0, "extra weight in the loss of pixels at an object's border")
    border_width: int = option(3, "distance in pixels from the border over which the extra weight fades")
    void: int = option(-1, "value of mask pixels that do not count in loss and metrics, such as 255; -1: all count")
    class_weights: tuple[float, ...] = option(
        (), "weight in the loss of each class, the background's first; empty: 1 each"
    )


@keras.saving.register_keras_serializable("ladle")
class PadToMultiple(keras.layers.Layer):  # type: ignore[misc]
    """Pads height and width of [b, h, w, c] to a multiple by repeating the last row and column."""

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
    """Crops the first of ([b, H, W, k], [b, h, w, c]) to the height and width of the second."""

    def call(self, x: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        return x[:, : tf.shape(image)[1], : tf.shape(image)[2]]

    def compute_output_shape(
        self, x_shape: tuple[int | None, ...], image_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (x_shape[0], image_shape[1], image_shape[2], x_shape[3])


@keras.saving.register_keras_serializable("ladle")
class Standardize(keras.layers.Layer):  # type: ignore[misc]
    """Scales each image of [b, h, w, c] in [0, 1] to mean 0 and variance 1; a uniform image becomes zeros.

    The variance of one grey level is added to that of the image, so that rounding noise is not blown up.
    """

    def call(self, image: tf.Tensor) -> tf.Tensor:
        centred = image - tf.reduce_mean(image, [1, 2, 3], keepdims=True)
        # The float32 mean of thousands of pixels has about five digits, too few for a dim image with a small
        # deviation. The second pass removes what is left.
        centred -= tf.reduce_mean(centred, [1, 2, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), [1, 2, 3], keepdims=True)
        return centred / tf.sqrt(variance + LEVEL**2)

    def compute_output_shape(self, image_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return image_shape


def border_weights(mask: tf.Tensor, classes: int, weight: float, width: int) -> tf.Tensor:
    """Weights of pixels: 1 far from borders, 1 + weight at a border; int [b, h, w] -> float32 [b, h, w].

    The distance to a border is measured by 3×3 dilations and erosions of each class. The U-Net paper weights gaps
    between touching cells, which needs instances; a mask of classes shows only borders.
    """
    grown = tf.one_hot(mask, classes)  # [b, h, w, classes]
    shrunk = -grown
    near = tf.zeros_like(grown)
    for _ in range(width):
        grown, shrunk = (tf.nn.max_pool2d(x, 3, 1, "SAME") for x in (grown, shrunk))
        near += grown + shrunk  # dilation minus erosion: 1 near a border
    return 1.0 + weight / max(width, 1) * tf.reduce_max(near, axis=-1)


@keras.saving.register_keras_serializable("ladle")
class BorderCrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """Cross-entropy of pixels, weighted by class and higher at borders; the weights of a batch have mean 1.

    Pixels whose class is VOID have weight 0.
    """

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
        counts = mask != VOID
        mask = tf.where(counts, mask, 0)  # of a class that the logits do not have, the entropy is NaN
        weights = tf.cast(counts, tf.float32) * border_weights(mask, logits.shape[-1], self.weight, self.width)
        if self.class_weights:
            weights *= tf.gather(tf.constant(self.class_weights, tf.float32), mask)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits)
        return tf.math.divide_no_nan(entropy * weights, tf.reduce_mean(weights))

    def get_config(self) -> dict[str, Any]:
        own = {"weight": self.weight, "width": self.width, "class_weights": self.class_weights}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("ladle")
class PixelAccuracy(keras.metrics.SparseCategoricalAccuracy):  # type: ignore[misc]
    """Share of the pixels whose class is right, without those whose class is VOID."""

    def update_state(self, mask: tf.Tensor, logits: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        counts = tf.cast(tf.cast(mask, tf.int32) != VOID, tf.float32)
        super().update_state(mask, logits, counts if sample_weight is None else counts * sample_weight)


@keras.saving.register_keras_serializable("ladle")
class Logarithm(keras.layers.Layer):  # type: ignore[misc]
    """log(1 + level) of grey levels 0 to 255, given in [0, 1], scaled to [0, 1] again.

    Unlike a standardized image, a pixel does not depend on what else is in the image: crops look as in training.
    """

    def call(self, image: tf.Tensor) -> tf.Tensor:
        return tf.math.log1p(image / LEVEL) / tf.math.log1p(1 / LEVEL)

    def compute_output_shape(self, image_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return image_shape


def scaled(image: keras.KerasTensor, config: SegmentationConfig) -> keras.KerasTensor:
    """The image as input of the layers: from [0, 1] to [-1, 1], or standardized; or its logarithm so."""
    if config.logarithm:  # float32 even under mixed precision
        image = Logarithm(dtype="float32", name="logarithm")(image)
    if config.standardize:  # float32 even under mixed precision
        return Standardize(dtype="float32", name="standardize")(image)
    return keras.layers.Rescaling(2.0, -1.0, name="scale")(image)


def compile_segmenter(model: keras.Model, config: SegmentationConfig) -> keras.Model:
    """Compile `model` (image -> logits) with optimizer, weighted cross-entropy, accuracy and IoU; return it.

    ValueError unless class_weights has one weight per class, or none.
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
            PixelAccuracy(name="accuracy"),
            # Without the background, which is large and easy and would hide the score of the objects.
            keras.metrics.IoU(classes, list(range(1, classes)), ignore_class=VOID, sparse_y_pred=False, name="iou"),
        ],
        jit_compile=False,
    )
    return model


def signatures(model: keras.Model, config: SegmentationConfig, assets: Assets) -> dict[str, Signature]:
    """Segment images of any height and width.

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
