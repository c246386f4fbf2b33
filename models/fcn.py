"""FCN: a convolutional classifier predicts classes on a coarse grid, and skips refine them (Long et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ladle.models._blocks import seeds
from ladle.models._claims import iou_not_below
from ladle.models._layers import Layers
from ladle.models._network import Network, option
from ladle.models._segmentation import (
    CropLike,
    PadToMultiple,
    SegmentationConfig,
    compile_segmenter,
    example,
    scaled,
    signatures,
)

STRIDE = 32
"""Stride of the coarsest features in pixels, after five halvings."""
DECODERS = ("deconv", "unpool")
SOURCE = "Long, Shelhamer, Darrell 2015, Fully convolutional networks for semantic segmentation, arXiv:1411.4038"


@dataclass(frozen=True)
class Config(SegmentationConfig):
    """Size of the backbone and resolution of the finest prediction."""

    filters: tuple[int, ...] = option((16, 32, 64, 128, 128), "filters of each stage of the backbone")
    units: int = option(256, "filters of the two convolutions in place of the dense layers of a classifier")
    stride: int = option(8, "stride of the finest prediction in pixels: 32, 16 or 8")
    decoder: str = option(
        "deconv", "how predictions are enlarged: deconv (transposed convolutions) | unpool (max un-pooling)"
    )
    dropout: float = option(0.0, "dropout rate of the coarsest features")


def _bilinear(size: int, channels: int) -> np.ndarray:
    """Kernel float32 [size, size, channels, channels] of a transposed convolution that interpolates each channel."""
    centre = (size - 1) / 2
    line = 1 - np.abs(np.arange(size) - centre) / ((size + 1) // 2)
    kernel = np.zeros((size, size, channels, channels), np.float32)
    kernel[:, :, range(channels), range(channels)] = np.outer(line, line)[..., None]
    return kernel


def _larger(x: keras.KerasTensor, factor: int, classes: int, name: str) -> keras.KerasTensor:
    """[b, h, w, k] -> [b, factor·h, factor·w, k]: a transposed convolution, initially a bilinear interpolation."""
    kernel = keras.initializers.Constant(_bilinear(2 * factor, classes))
    up = keras.layers.Conv2DTranspose(
        classes, 2 * factor, factor, padding="same", use_bias=False, kernel_initializer=kernel, name=name
    )
    return up(x)


@keras.saving.register_keras_serializable("ladle")
class Unpool(keras.layers.Layer):  # type: ignore[misc]
    """Max un-pooling: each value of y goes to where the maximum of its 2×2 window was, and zeros to the rest.

    Zeiler, Fergus 2014, arXiv:1311.2901, section 2.1. Where several positions share the maximum, each gets the value.
    """

    def call(self, y: tf.Tensor, before: tf.Tensor, pooled: tf.Tensor) -> tf.Tensor:
        """y and pooled [b, h, w, c], before [b, 2h, 2w, c], the input of the pooling -> [b, 2h, 2w, c]."""
        return tf.where(before == _doubled(pooled), _doubled(y), tf.zeros_like(before))

    def compute_output_shape(
        self,
        y_shape: tuple[int | None, ...],
        before_shape: tuple[int | None, ...],
        pooled_shape: tuple[int | None, ...],
    ) -> tuple[int | None, ...]:
        return before_shape


def _doubled(x: tf.Tensor) -> tf.Tensor:
    """Each value four times: [b, h, w, c] -> [b, 2h, 2w, c]."""
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)


def _scores(x: keras.KerasTensor, classes: int, seed: Iterator[int], name: str) -> keras.KerasTensor:
    """[b, h, w, c] -> [b, h, w, k]: a prediction at each position, by a 1×1 convolution."""
    kernel = keras.initializers.GlorotUniform(next(seed))
    return keras.layers.Conv2D(classes, 1, kernel_initializer=kernel, name=name)(x)


def build(config: Config) -> keras.Model:
    """Fully convolutional network: a backbone with five halvings, 1×1 predictions, transposed convolutions.

    FCN-32s enlarges the coarsest prediction in one step. FCN-16s doubles it, adds a prediction from stride 16 and then
    enlarges the sum. FCN-8s adds one more prediction, from stride 8. Difference from the paper: a small backbone with
    batch normalisation, trained from random weights. Images can have any height and width: the graph pads them to a
    multiple of 32 by repeating the last row and column, and crops the logits.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, h, w, num_classes + 1]  per pixel; channel 0 is background
    Weights  at one channel and num_classes=1: 970,002 (FCN-32s), 958,036 (FCN-16s), 955,158 (FCN-8s)
    Source   Long, Shelhamer, Darrell 2015, "Fully convolutional networks for semantic segmentation",
             arXiv:1411.4038, figure 3

    With `decoder` unpool, each doubling puts the scores, as many channels as the stage has filters, where the maxima
    of its pooling were, and a convolution fills the zeros between them.

    ValueError unless stride is 32, 16 or 8, and for an unknown decoder.
    """
    if config.stride not in (32, 16, 8):
        raise ValueError(f"stride is {config.stride}; expected 32, 16 or 8")
    if config.decoder not in DECODERS:
        raise ValueError(f'got decoder "{config.decoder}"; expected one of {", ".join(DECODERS)}')
    seed = seeds(config.seed)
    layers = Layers(seed)
    classes = config.num_classes + 1
    image = keras.Input((None, None, config.channels), name="image")
    x = PadToMultiple(STRIDE, name="pad")(scaled(image, config))
    features, pools = [], []
    for stage, filters in enumerate(config.filters, 1):
        for n in (1, 2):
            x = layers.unit(x, filters, 3, f"stage{stage}_unit{n}")
        before, x = x, keras.layers.MaxPool2D(name=f"stage{stage}_pool")(x)  # height and width halved
        features.append(x)
        pools.append((before, x))
    x = layers.dropout(layers.unit(x, config.units, 3, "classifier1"), config.dropout, "dropout1")
    x = layers.dropout(layers.unit(x, config.units, 1, "classifier2"), config.dropout, "dropout2")
    x = _scores(x, classes, seed, "scores32")

    def doubled(x: keras.KerasTensor, stride: int) -> keras.KerasTensor:
        """Scores of twice the height and width, which have this stride."""
        if config.decoder == "deconv":
            return _larger(x, 2, classes, f"up{stride}")
        before, pooled = pools.pop()
        x = _scores(x, before.shape[-1], seed, f"unpool{stride}_scores")
        x = Unpool(name=f"unpool{stride}")(x, before, pooled)
        kernel = keras.initializers.GlorotUniform(next(seed))
        fill = keras.layers.Conv2D(classes, 3, padding="same", kernel_initializer=kernel, name=f"unpool{stride}_conv")
        return fill(x)  # height and width doubled

    stride = STRIDE
    for finer in features[-2::-1]:  # strides 16, 8, ...
        if stride == config.stride:
            break
        stride //= 2
        x = doubled(x, stride)
        x = keras.layers.Add(name=f"add{stride}")([x, _scores(finer, classes, seed, f"scores{stride}")])
    if config.decoder == "deconv":
        x = _larger(x, stride, classes, "up1")
    while pools and config.decoder == "unpool":
        stride //= 2
        x = doubled(x, stride)
    model = keras.Model(image, CropLike(dtype="float32", name="logits")(x, image), name="fcn")
    return compile_segmenter(model, config)


PUBLISHED = {32: 0.594, 16: 0.624, 8: 0.627}


def _row(stride: int, parameters: int) -> Network:
    return Network(
        name=f"fcn{stride}s",
        task="segment",
        summary=f"FCN-{stride}s: the class of every pixel, from predictions with a stride of {stride} pixels.",
        config=Config(stride=stride),
        build=build,
        signatures=signatures,
        example=example,
        parameters=parameters,
        tiny={
            "filters": (4, 4, 4, 4, 4),
            "units": 8,
            "epochs": 1,
            "batch_size": 4,
            "learning_rate": 1e-2,
        },
        presets={
            "quick": {"epochs": 15, "schedule": "cosine", "learning_rate": 3e-3},
            "full": {"schedule": "cosine", "warmup": 0.02, "dropout": 0.3},
        },
        aim=f"mean IoU {PUBLISHED[stride]} on PASCAL VOC 2011: Long et al. 2015, table 2, with a base trained on "
        "ImageNet; other images than `nuclei`",
        source=SOURCE,
        claims=(iou_not_below(f"fcn{2 * stride}s"),) if stride < 32 else (),
    )


NETWORKS = [_row(32, 970_002), _row(16, 958_036), _row(8, 955_158)]
