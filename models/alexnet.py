"""AlexNet: five convolutions and three dense layers, the winner of ImageNet 2012 (Krizhevsky et al. 2012)."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ladle.models._blocks import seeds
from ladle.models._claims import accuracy
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers
from ladle.models._network import Network, option

LARGE = 128
"""Images of at least this height in pixels get the first convolution of the paper, 11×11 with stride 4."""
POOLED = (1, 2, 5)
"""Convolutions that are followed by a max-pool."""


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Widths of the layers; the last of the eight has num_classes units."""

    data: str = option("cifar10", "data set (`ladle data` lists them)")
    height: int = option(32, "height of the images in pixels")
    width: int = option(32, "width of the images in pixels")
    channels: int = option(3, "1: grey, 3: colour")
    filters: tuple[int, ...] = option((96, 256, 384, 384, 256), "filters of each of the five convolutions")
    units: tuple[int, ...] = option((4096, 4096), "units of each dense layer before the last")
    dropout: float = option(0.5, "dropout rate before each hidden dense layer")


def build(config: Config) -> keras.Model:
    """AlexNet: five convolutions, three of them with a 3×3 max-pool of stride 2, then three dense layers.

    From 128 pixels, the first kernel is 11×11 with stride 4; smaller images get a 5×5 kernel without stride.
    Differences from the paper: one tower instead of two, and no local response normalisation.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  37,323,146 at 32×32×3 and 10 classes; 62,378,344 at 224×224×3 and 1000 classes
    Source   Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks"

    ValueError unless `filters` has five numbers.
    """
    if len(config.filters) != 5:
        raise ValueError(f"filters has {len(config.filters)} numbers; expected five, one for each convolution")
    layers = Layers(seeds(config.seed))
    large = config.height >= LARGE
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    for n, (filters, size) in enumerate(zip(config.filters, (11 if large else 5, 5, 3, 3, 3), strict=True), 1):
        x = layers.conv(x, filters, size, f"conv{n}", stride=4 if n == 1 and large else 1, bias=True)
        x = keras.layers.ReLU(name=f"relu{n}")(x)
        if n in POOLED:  # overlapping, as in the paper; without padding, nothing would be left of small images
            x = keras.layers.MaxPool2D(3, 2, padding="valid" if large else "same", name=f"pool{n}")(x)
    x = keras.layers.Flatten(name="flatten")(x)  # [b, 4·4·256] at 32×32, [b, 6·6·256] at 224×224
    for n, units in enumerate(config.units, 1):
        x = layers.dense(layers.dropout(x, config.dropout, f"dropout{n}"), units, f"dense{n}")
    return compile_classifier(keras.Model(image, layers.logits(x, config.num_classes), name="alexnet"), config)


NETWORKS = [
    Network(
        name="alexnet",
        task="classify",
        summary="AlexNet: five convolutions and three dense layers, for images of one object.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=37_323_146,
        tiny={
            "filters": (4, 4, 8, 8, 4),
            "units": (16, 12),
            "dropout": 0.1,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 1e-2,
        },
        presets={
            "quick": {
                "data": "fashion_mnist",
                "filters": (24, 64, 96, 96, 64),
                "units": (256, 256),
                "epochs": 3,
                "schedule": "cosine",
                "warmup": 0.1,
                "dropout": 0.3,
            },
            "full": {
                "epochs": 60,
                "learning_rate": 3e-4,
                "schedule": "cosine",
                "warmup": 0.05,
                "weight_decay": 0.05,
                "augment": True,
            },
        },
        aim="accuracy 0.7722 on CIFAR-10: W. Yang, github.com/bearpaw/pytorch-classification, 2.47 M weights",
        source="Krizhevsky, Sutskever, Hinton 2012, ImageNet classification with deep convolutional neural networks",
        claims=(accuracy(0.88, "fashion_mnist"),),
    ),
]
