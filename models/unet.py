"""U-Net: a contracting path for context, an expanding path for position, and skips (Ronneberger et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras

from ladle.models._blocks import seeds
from ladle.models._claims import beats_baselines, iou_not_below
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


@dataclass(frozen=True)
class Config(SegmentationConfig):
    """Filters, depth and dropout."""

    filters: int = option(16, "filters of the first stage; each stage doubles them")
    depth: int = option(4, "number of stages; each halves height and width")
    dropout: float = option(0.0, "dropout rate of the features at the bottom")
    batch_norm: bool = option(True, "batch normalisation after each convolution: far fewer steps to the same IoU")


def _convolutions(
    x: keras.KerasTensor, filters: int, seed: Iterator[int], name: str, batch_norm: bool
) -> keras.KerasTensor:
    layers = Layers(seed)
    for n in (1, 2):
        if batch_norm:
            x = layers.norm(layers.conv(x, filters, 3, f"{name}_conv{n}"), f"{name}_norm{n}")
            x = keras.layers.ReLU(name=f"{name}_relu{n}")(x)
        else:
            x = keras.layers.ReLU(name=f"{name}_relu{n}")(layers.conv(x, filters, 3, f"{name}_conv{n}", bias=True))
    return x


def build(config: Config) -> keras.Model:
    """U-Net: a contracting path, an expanding path, and a skip at each size.

    Each of `depth` stages halves height and width and doubles the filters. The expanding path mirrors them and joins
    the features of equal size. Differences from the paper: 'same' padding, so that mask and image have the same size, a
    quarter of the filters, and batch normalisation. Images can have any height and width: the graph pads them to a
    multiple of 2**depth by repeating the last row and column, and crops the logits.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, h, w, num_classes + 1]  per pixel; channel 0 is background
    Weights  1,945,250 at filters=16, depth=4, one channel, num_classes=1
    Source   Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, figure 1
    """
    seed = seeds(config.seed)
    image = keras.Input((None, None, config.channels), name="image")
    x = PadToMultiple(2**config.depth, name="pad")(scaled(image, config))
    skips = []
    for stage in range(config.depth):
        x = _convolutions(x, config.filters << stage, seed, f"down{stage + 1}", config.batch_norm)
        skips.append(x)
        x = keras.layers.MaxPool2D(name=f"down{stage + 1}_pool")(x)  # height and width halved
    x = _convolutions(x, config.filters << config.depth, seed, "bottom", config.batch_norm)
    if config.dropout:
        x = keras.layers.Dropout(config.dropout, seed=next(seed), name="bottom_dropout")(x)
    for stage in reversed(range(config.depth)):
        kernel = keras.initializers.HeNormal(next(seed))
        up = keras.layers.Conv2DTranspose(
            config.filters << stage, 2, 2, kernel_initializer=kernel, name=f"up{stage + 1}_deconv"
        )
        x = keras.layers.Concatenate(name=f"up{stage + 1}_join")([skips[stage], up(x)])  # height and width doubled
        x = _convolutions(x, config.filters << stage, seed, f"up{stage + 1}", config.batch_norm)
    kernel = keras.initializers.GlorotUniform(next(seed))
    x = keras.layers.Conv2D(config.num_classes + 1, 1, kernel_initializer=kernel, dtype="float32", name="classes")(x)
    model = keras.Model(image, CropLike(dtype="float32", name="logits")(x, image), name="unet")
    return compile_segmenter(model, config)


NETWORKS = [
    Network(
        name="unet",
        task="segment",
        summary="U-Net: the class of every pixel, for images of any size; trains on few examples.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=1_945_250,
        tiny={"filters": 4, "depth": 2, "epochs": 1, "batch_size": 4, "learning_rate": 1e-2},
        presets={
            "quick": {"epochs": 15, "schedule": "cosine"},
            "full": {"schedule": "cosine", "warmup": 0.02, "dropout": 0.3, "elastic": 4.0},
        },
        aim="IoU 0.9203 on PhC-U373, 35 images: Ronneberger et al. 2015, table 2; other images than `nuclei`",
        source="Ronneberger, Fischer, Brox 2015, U-Net, arXiv:1505.04597",
        claims=(iou_not_below("fcn8s"), beats_baselines()),
    ),
]
