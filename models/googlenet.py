"""GoogLeNet: inception modules join several kernel sizes; 1×1 convolutions keep them cheap (Szegedy et al. 2015)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from ladle.models._blocks import from_saved, seeds
from ladle.models._claims import accuracy
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers
from ladle.models._network import Claim, Network, option

LARGE = 96
"""Images of at least this height in pixels get the stem of the paper, with its strides."""
MODULES: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Filters of each module (table 1): 1×1; reduction, 3×3; reduction, 5×5; projection after the pool."""


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Width of the network, its modules, and whether they reduce by 1×1 convolutions."""

    data: str = option("cifar10", "data set (`ladle data` lists them)")
    height: int = option(32, "height of the images in pixels")
    width: int = option(32, "width of the images in pixels")
    channels: int = option(3, "1: grey, 3: colour")
    width_multiplier: float = option(1.0, "factor for the filters of all layers; 1: those of the paper")
    reduce: bool = option(True, "1×1 convolutions before 3×3 and 5×5; without them the cost is several times higher")
    modules: tuple[str, ...] = option(tuple(MODULES), "inception modules, named as in the paper")
    stem_stride: int = option(1, "stride of the max-pool in the stem for small images; 2 costs a quarter")
    dropout: float = option(0.4, "dropout rate before the last layer")


class _Modules(Layers):
    def inception(self, x: keras.KerasTensor, filters: tuple[int, ...], name: str, reduce: bool) -> keras.KerasTensor:
        """Four parallel branches, concatenated: [b, h, w, c] -> [b, h, w, 1×1 + 3×3 + 5×5 + projection]."""
        one, reduce3, three, reduce5, five, projection = filters
        narrow3 = self.unit(x, reduce3, 1, f"{name}_reduce3") if reduce else x
        narrow5 = self.unit(x, reduce5, 1, f"{name}_reduce5") if reduce else x
        pooled = keras.layers.MaxPool2D(3, 1, padding="same", name=f"{name}_pool")(x)
        branches = [
            self.unit(x, one, 1, f"{name}_1x1"),
            self.unit(narrow3, three, 3, f"{name}_3x3"),
            self.unit(narrow5, five, 5, f"{name}_5x5"),
            self.unit(pooled, projection, 1, f"{name}_projection"),
        ]
        return keras.layers.Concatenate(name=f"{name}_join")(branches)


def build(config: Config) -> keras.Model:
    """GoogLeNet (Inception v1): a stem of three convolutions, nine inception modules, an average pool and the logits.

    22 layers deep: three in the stem, two in each module, and the last. Differences from the paper: batch
    normalisation, no auxiliary classifiers, and below 96 pixels a stem that begins 3×3 without stride.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  5,997,962 at 32×32×3 and 10 classes
    Source   Szegedy, Liu, Jia et al. 2015, "Going deeper with convolutions", arXiv:1409.4842, table 1

    ValueError for an unknown module.
    """

    def scaled(*filters: int) -> tuple[int, ...]:
        return tuple(max(4, round(f * config.width_multiplier)) for f in filters)

    layers = _Modules(seeds(config.seed))
    large = config.height >= LARGE
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    first, second, third = scaled(64, 64, 192)
    x = layers.unit(x, first, 7 if large else 3, "stem1", stride=2 if large else 1)
    if large:
        x = keras.layers.MaxPool2D(3, 2, padding="same", name="stem1_pool")(x)
    x = layers.unit(layers.unit(x, second, 1, "stem2"), third, 3, "stem3")
    x = keras.layers.MaxPool2D(3, 2 if large else config.stem_stride, padding="same", name="stem3_pool")(x)
    for name in config.modules:
        if name not in MODULES:
            raise ValueError(f'unknown module "{name}"; expected some of {", ".join(MODULES)}')
        x = layers.inception(x, scaled(*MODULES[name]), f"inception{name}", config.reduce)
        if name in ("3b", "4e"):
            x = keras.layers.MaxPool2D(3, 2, padding="same", name=f"pool{name[0]}")(x)  # height and width halved
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # [b, 1024]
    x = layers.dropout(x, config.dropout, "dropout")
    return compile_classifier(keras.Model(image, layers.logits(x, config.num_classes), name="googlenet"), config)


def _reduction_saves() -> Claim:
    """Counted: the network as it was trained, and without the 1×1 convolutions before 3×3 and 5×5."""

    def check(record: Mapping[str, Any]) -> tuple[str, bool]:
        config = from_saved(Config, record["config"])
        counts = [build(dataclasses.replace(config, reduce=reduce)).count_params() for reduce in (True, False)]
        return f"{counts[0]:,} against {counts[1]:,}", counts[0] < counts[1]

    return Claim("fewer weights than without its 1×1 reductions", check)


NETWORKS = [
    Network(
        name="googlenet",
        task="classify",
        summary="GoogLeNet (Inception v1): modules that join several kernel sizes, for images of one object.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=5_997_962,
        tiny={
            "width_multiplier": 0.03,
            "modules": ("3a", "3b", "4a"),
            "stem_stride": 2,
            "dropout": 0.0,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 1e-2,
        },
        presets={
            "quick": {
                "data": "fashion_mnist",
                "width_multiplier": 0.25,
                "stem_stride": 2,
                "epochs": 2,
                "dropout": 0.2,
                "schedule": "cosine",
                "warmup": 0.1,
                "learning_rate": 2e-3,
            },
            "full": {
                "epochs": 60,
                "schedule": "cosine",
                "warmup": 0.05,
                "weight_decay": 0.05,
                "augment": True,
            },
        },
        aim="accuracy 0.7803 on CIFAR-100: github.com/weiaicunzai/pytorch-cifar100, SGD, 200 epochs; none "
        "found on CIFAR-10",
        source="Szegedy et al. 2015, Going deeper with convolutions, arXiv:1409.4842",
        claims=(accuracy(0.88, "fashion_mnist"), _reduction_saves()),
    ),
]
