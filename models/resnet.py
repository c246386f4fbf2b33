"""ResNet: each block learns a residual that is added to its input, so deep networks train well (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from ladle.models._blocks import seeds
from ladle.models._claims import bottleneck_saves
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers
from ladle.models._network import Network, option

WIDER = 4
"""Filters of the last convolution of a bottleneck, as a multiple of those of the other two."""


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Blocks and filters of each stage."""

    blocks: tuple[int, ...] = option((2, 2, 2, 2), "residual blocks of each stage")
    filters: tuple[int, ...] = option((64, 128, 256, 512), "filters of each stage; the stem has those of the first")
    bottleneck: bool = option(False, "bottleneck blocks: 1×1, 3×3 and 1×1, the last with four times the filters")
    stem_stride: int = option(2, "stride of the max-pool in the stem; 1 keeps the image size, at four times the cost")


class _Blocks(Layers):
    def basic_block(self, x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
        """Two 3×3 convolutions and a shortcut, which a 1×1 convolution projects where the shape changes."""
        shortcut = self._shortcut(x, filters, stride, name)
        y = self.norm(self.conv(x, filters, 3, f"{name}_conv1", stride), f"{name}_norm1")
        y = keras.layers.ReLU(name=f"{name}_relu1")(y)
        # A last scale of zero makes the new block an identity, so that a deep network begins as a shallow one
        # (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
        y = self.norm(self.conv(y, filters, 3, f"{name}_conv2"), f"{name}_norm2", gamma="zeros")
        return keras.layers.ReLU(name=f"{name}_relu2")(keras.layers.Add(name=f"{name}_add")([y, shortcut]))

    def bottleneck(self, x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
        """Convolutions 1×1, 3×3 (with the stride) and 1×1 to four times the filters, and a shortcut."""
        shortcut = self._shortcut(x, WIDER * filters, stride, name)
        y = self.norm(self.conv(x, filters, 1, f"{name}_conv1"), f"{name}_norm1")
        y = keras.layers.ReLU(name=f"{name}_relu1")(y)
        y = self.norm(self.conv(y, filters, 3, f"{name}_conv2", stride), f"{name}_norm2")
        y = keras.layers.ReLU(name=f"{name}_relu2")(y)
        y = self.norm(self.conv(y, WIDER * filters, 1, f"{name}_conv3"), f"{name}_norm3", gamma="zeros")
        return keras.layers.ReLU(name=f"{name}_relu3")(keras.layers.Add(name=f"{name}_add")([y, shortcut]))

    def _shortcut(self, x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
        if stride == 1 and x.shape[-1] == filters:
            return x
        if stride > 1:
            # Sampling, then projecting: the same as a convolution with that stride, whose gradient oneDNN rounds in
            # another way in each run on a processor with AVX2 alone, so that a run did not repeat to the same weights.
            # A pool of one pixel samples; an index would be a layer that Keras cannot read back from an .h5 file.
            x = keras.layers.AveragePooling2D(1, stride, name=f"{name}_sample")(x)
        return self.norm(self.conv(x, filters, 1, f"{name}_shortcut"), f"{name}_shortcut_norm")


def build(config: Config) -> keras.Model:
    """ResNet: a stem, stages of residual blocks, a global average pool and the logits.

    Each stage after the first halves height and width. Differences from the paper: a stem for small images (3×3 without
    stride, then a 2×2 max-pool), and a projection wherever the shape changes.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  11,182,410 at blocks=(2, 2, 2, 2), one channel and 10 classes; in colour and with 100 classes
             21,345,316 (ResNet-34) and 23,758,372 (ResNet-50, with bottlenecks)
    Source   He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition", arXiv:1512.03385, table 1
    """
    layers = _Blocks(seeds(config.seed))
    block = layers.bottleneck if config.bottleneck else layers.basic_block
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    x = layers.unit(x, config.filters[0], 3, "stem")
    x = keras.layers.MaxPool2D(2, config.stem_stride, padding="same", name="stem_pool")(x)
    for stage, (blocks, filters) in enumerate(zip(config.blocks, config.filters, strict=True), 1):
        for n in range(1, blocks + 1):
            stride = 2 if n == 1 and stage > 1 else 1
            x = block(x, filters, stride, f"stage{stage}_block{n}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # [b, 512]
    return compile_classifier(keras.Model(image, layers.logits(x, config.num_classes), name="resnet"), config)


TINY: Mapping[str, Any] = {"blocks": (1, 1), "filters": (4, 8), "epochs": 1, "batch_size": 16, "learning_rate": 1e-2}
SOURCE = "He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition, arXiv:1512.03385"
# Few filters, so that even the deep variants train in minutes.
QUICK: Mapping[str, Any] = {
    "data": "fashion_mnist",
    "epochs": 1,
    "batch_size": 64,
    "schedule": "cosine",
    "warmup": 0.1,
}
CIFAR100: Mapping[str, Any] = {
    "data": "cifar100",
    "epochs": 60,
    "schedule": "cosine",
    "warmup": 0.05,
    "weight_decay": 0.5,
    "stem_stride": 1,
    "augment": True,
    "top_k": 5,
}

CIFAR100_AIM = "accuracy {} on CIFAR-100: github.com/weiaicunzai/pytorch-cifar100, SGD, 200 epochs"


def _deeper(layers: int, parameters: int, bottleneck: bool) -> Network:
    return Network(
        name=f"resnet{layers}",
        task="classify",
        summary=f"ResNet-{layers}: a deep convolutional network with shortcuts, for small images of one object.",
        config=Config(
            data="cifar100",
            learning_rate=1e-3,
            weight_decay=0.05,
            height=32,
            width=32,
            channels=3,
            num_classes=100,
            top_k=5,
            blocks=(3, 4, 6, 3),
            bottleneck=bottleneck,
        ),
        build=build,
        signatures=signatures,
        example=example,
        parameters=parameters,
        tiny=TINY,
        presets={
            "quick": {**QUICK, "filters": (16, 32, 64, 64) if bottleneck else (16, 32, 64, 128)},
            "full": CIFAR100,
        },
        aim=CIFAR100_AIM.format(0.7676 if layers == 34 else 0.7739),
        source=SOURCE,
        claims=(bottleneck_saves(),) if bottleneck else (),
    )


NETWORKS = [
    Network(
        name="resnet18",
        task="classify",
        summary="ResNet-18: a deep convolutional network with shortcuts, for small images of one object.",
        config=Config(learning_rate=1e-3, weight_decay=0.05),
        build=build,
        signatures=signatures,
        example=example,
        parameters=11_182_410,
        tiny=TINY,
        presets={
            "quick": {"epochs": 1, "batch_size": 64, "train_limit": 20_000, "schedule": "cosine", "warmup": 0.1},
            "full": {
                "epochs": 40,
                "schedule": "cosine",
                "warmup": 0.05,
                "stem_stride": 1,
                "augment": True,
            },
            "cifar100": CIFAR100,
        },
        aim=CIFAR100_AIM.format(0.7561) + " (--preset cifar100)",
        source=SOURCE,
    ),
    _deeper(34, 21_345_316, bottleneck=False),
    _deeper(50, 23_758_372, bottleneck=True),
]
