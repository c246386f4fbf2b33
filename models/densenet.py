"""DenseNet: each layer reads the features of all earlier layers of its block and adds a few (Huang et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from ladle.models._blocks import seeds
from ladle.models._claims import accuracy
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers
from ladle.models._network import Network, option

SOURCE = "Huang, Liu, van der Maaten, Weinberger 2017, Densely connected convolutional networks, arXiv:1608.06993"


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Layers of each dense block, features that a layer adds, and compression of the transitions."""

    data: str = option("cifar10", "data set (`ladle data` lists them)")
    height: int = option(32, "height of the images in pixels")
    width: int = option(32, "width of the images in pixels")
    channels: int = option(3, "1: grey, 3: colour")
    blocks: tuple[int, ...] = option((16, 16, 16), "layers of each dense block")
    growth: int = option(12, "features that each layer adds")
    bottleneck: int = option(4, "filters of the 1×1 convolution of each layer, as a multiple of `growth`")
    compression: float = option(0.5, "share of the features that a transition keeps")
    stem_stride: int = option(1, "stride of the stem; 1 keeps the image size")
    dropout: float = option(0.0, "dropout rate after each layer")


class _Blocks(Layers):
    def _activated(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.ReLU(name=f"{name}_relu")(self.norm(x, f"{name}_norm"))

    def dense_block(self, x: keras.KerasTensor, config: Config, count: int, name: str) -> keras.KerasTensor:
        """[b, h, w, c] -> [b, h, w, c + count·growth]; each layer is BN-ReLU-conv 1×1, BN-ReLU-conv 3×3."""
        # `_a` and `_b`: the bottleneck of DenseNet-B, which keeps the 3×3 convolution cheap as the block grows wide.
        for n in range(1, count + 1):
            layer = f"{name}_layer{n}"
            y = self._activated(x, f"{layer}_a")
            y = self.conv(y, config.bottleneck * config.growth, 1, f"{layer}_a_conv")
            y = self._activated(y, f"{layer}_b")
            y = self.conv(y, config.growth, 3, f"{layer}_b_conv")
            y = self.dropout(y, config.dropout, f"{layer}_dropout")
            x = keras.layers.Concatenate(name=f"{layer}_join")([x, y])
        return x

    def transition(self, x: keras.KerasTensor, compression: float, name: str) -> keras.KerasTensor:
        """[b, h, w, c] -> [b, h / 2, w / 2, compression·c]: BN-ReLU-conv 1×1, average pool."""
        x = self.conv(self._activated(x, name), int(x.shape[-1] * compression), 1, f"{name}_conv")
        return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)

    def last(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.GlobalAveragePooling2D(name="pool")(self._activated(x, "last"))


def build(config: Config) -> keras.Model:
    """DenseNet-BC: a stem, dense blocks with transitions between them, a global average pool and the logits.

    The stem has 2 · `growth` filters and is 3×3, for small images; the paper's networks for ImageNet have another one.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  793,150 at blocks=(16, 16, 16), growth=12, 32×32×3 and 10 classes, 7,132,068 at
             blocks=(6, 12, 24, 16), growth=32 and 100 classes (7.05 million of them trainable)
    Source   Huang, Liu, van der Maaten, Weinberger 2017, "Densely connected convolutional networks",
             arXiv:1608.06993, section 3 and table 1
    """
    layers = _Blocks(seeds(config.seed))
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    x = layers.conv(x, 2 * config.growth, 3, "stem_conv", config.stem_stride)
    for n, count in enumerate(config.blocks, 1):
        x = layers.dense_block(x, config, count, f"block{n}")
        if n < len(config.blocks):
            x = layers.transition(x, config.compression, f"transition{n}")  # height and width halved
    return compile_classifier(
        keras.Model(image, layers.logits(layers.last(x), config.num_classes), name="densenet"), config
    )


TINY: Mapping[str, Any] = {
    "blocks": (2, 2),
    "growth": 4,
    "stem_stride": 2,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 1e-2,
}
QUICK: Mapping[str, Any] = {
    "data": "fashion_mnist",
    "blocks": (4, 4, 4),
    "stem_stride": 2,
    "epochs": 2,
    "schedule": "cosine",
    "warmup": 0.1,
    "learning_rate": 3e-3,
}
FULL: Mapping[str, Any] = {
    "epochs": 100,
    "batch_size": 64,
    "schedule": "cosine",
    "warmup": 0.05,
    "weight_decay": 0.05,
    "augment": True,
}

NETWORKS = [
    Network(
        name="densenet",
        task="classify",
        summary="DenseNet: every layer reads all earlier layers of its block, for small images of one object.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=793_150,
        tiny=TINY,
        presets={"quick": QUICK, "full": FULL},
        aim="accuracy 0.9549 on CIFAR-10: Huang et al. 2017, table 2, DenseNet-BC of 100 layers, k = 12, 300 epochs",
        source=SOURCE,
        claims=(accuracy(0.88, "fashion_mnist"),),
    ),
    Network(
        name="densenet121",
        task="classify",
        summary="DenseNet-121: the paper's network of 121 layers, with a stem for small images.",
        config=Config(data="cifar100", num_classes=100, top_k=5, blocks=(6, 12, 24, 16), growth=32),
        build=build,
        signatures=signatures,
        example=example,
        parameters=7_132_068,
        tiny=TINY,
        presets={"quick": {**QUICK, "blocks": (3, 3, 3, 3), "growth": 12}, "full": FULL},
        aim="accuracy 0.7701 on CIFAR-100: github.com/weiaicunzai/pytorch-cifar100, SGD, 200 epochs",
        source=SOURCE,
        claims=(accuracy(0.88, "fashion_mnist"),),
    ),
]
