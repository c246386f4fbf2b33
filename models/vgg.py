"""VGG: 3×3 convolutions and max-pools in five blocks, much deeper than earlier networks (Simonyan, Zisserman 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from ladle.models._blocks import seeds
from ladle.models._claims import accuracy, small_kernels_save
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers
from ladle.models._network import Network, option

SOURCE = "Simonyan, Zisserman 2014, Very deep convolutional networks for large-scale image recognition, arXiv:1409.1556"


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Convolutions and filters of each block, and widths of the dense layers."""

    data: str = option("cifar100", "data set (`ladle data` lists them)")
    learning_rate: float = option(1e-4, "step size of the optimizer")
    height: int = option(32, "height of the images in pixels, at least 28")
    width: int = option(32, "width of the images in pixels, at least 28")
    channels: int = option(3, "1: grey, 3: colour")
    num_classes: int = option(100, "number of classes")
    top_k: int = option(5, "report also the accuracy among this many most probable classes")
    convolutions: tuple[int, ...] = option((2, 2, 2, 2, 2), "3×3 convolutions of each block")
    filters: tuple[int, ...] = option((64, 128, 256, 512, 512), "filters of each block")
    units: tuple[int, ...] = option((256, 128), "units of each dense layer before the last")
    dropout: float = option(0.0, "dropout rate before each hidden dense layer")
    batch_norm: bool = option(False, "batch normalisation after each convolution; the paper has none")


def build(config: Config) -> keras.Model:
    """VGG for small images: five blocks of 3×3 convolutions, each followed by a max-pool, then dense layers.

    Shapes: [b, 32, 32, 3] -> [b, 1, 1, 512] -> 256 -> 128 -> logits.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  at 32×32×3 and 100 classes: 9,397,604 (VGG-11), 9,582,116 (VGG-13), 14,891,812 (VGG-16),
             20,201,508 (VGG-19)
    Source   Simonyan, Zisserman 2014, "Very deep convolutional networks for large-scale image recognition",
             arXiv:1409.1556, table 1 (A, B, D, E)
    """
    layers = Layers(seeds(config.seed))
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    for unit, (count, filters) in enumerate(zip(config.convolutions, config.filters, strict=True), 1):
        for n in range(1, count + 1):
            name = f"block{unit}_conv{n}"
            x = layers.conv(x, filters, 3, name, bias=not config.batch_norm)  # the offset of the norm is a bias
            if config.batch_norm:
                x = layers.norm(x, f"{name}_norm")
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = keras.layers.MaxPool2D(padding="same", name=f"block{unit}_pool")(x)  # height and width halved, rounded up
    x = keras.layers.Flatten(name="flatten")(x)  # [b, 512] at 32×32
    for n, units in enumerate(config.units, 1):
        x = layers.dense(layers.dropout(x, config.dropout, f"dropout{n}"), units, f"dense{n}")
    return compile_classifier(keras.Model(image, layers.logits(x, config.num_classes), name="vgg"), config)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "data": "fashion_mnist",
        "filters": (16, 32, 64, 64, 64),
        "batch_norm": True,
        "learning_rate": 2e-3,
        "epochs": 3,
        "schedule": "cosine",
        "warmup": 0.1,
    },
    "full": {"epochs": 60, "schedule": "cosine", "warmup": 0.05, "augment": True, "dropout": 0.3, "weight_decay": 0.5},
}

PUBLISHED = {11: 0.6864, 13: 0.7200, 16: 0.7293, 19: 0.7223}


def _row(layers: int, convolutions: tuple[int, ...], parameters: int) -> Network:
    return Network(
        name=f"vgg{layers}",
        task="classify",
        summary=f"VGG-{layers}: 3×3 convolutions and pooling, {layers} layers deep.",
        config=Config(convolutions=convolutions),
        build=build,
        signatures=signatures,
        example=example,
        parameters=parameters,
        tiny={
            "convolutions": (2, 1),
            "filters": (4, 8),
            "units": (16,),
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 1e-2,
        },
        presets=PRESETS,
        aim=f"accuracy {PUBLISHED[layers]} on CIFAR-100: github.com/weiaicunzai/pytorch-cifar100, with batch "
        "normalisation and 4096 hidden units, SGD, 200 epochs",
        source=SOURCE,
        claims=(accuracy(0.88, "fashion_mnist"), small_kernels_save()),
    )


NETWORKS = [
    _row(11, (1, 1, 2, 2, 2), 9_397_604),
    _row(13, (2, 2, 2, 2, 2), 9_582_116),
    _row(16, (2, 2, 3, 3, 3), 14_891_812),
    _row(19, (2, 2, 4, 4, 4), 20_201_508),
]
