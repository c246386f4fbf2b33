"""ResNet: each block adds a correction to what it was given, so depth cannot make things worse (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras

from models._blocks import seeds
from models._classifier import ClassifierConfig, compile_classifier, example, signatures
from models._network import Network, option


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Number of blocks and width of each stage."""

    blocks: tuple[int, ...] = option((2, 2, 2, 2), "residual blocks of each stage")
    filters: tuple[int, ...] = option((64, 128, 256, 512), "filters of each stage; the stem has those of the first")
    stem_stride: int = option(2, "stride of the stem's max-pool; 1 keeps small images whole, at four times the work")


class _Layers:
    """Convolution with batch normalisation, the only pair that a ResNet is made of."""

    def __init__(self, seed: Iterator[int]) -> None:
        self._seed = seed

    def conv(self, x: keras.KerasTensor, filters: int, size: int, name: str, stride: int = 1) -> keras.KerasTensor:
        """Convolution without bias; [b, h, w, c] -> [b, ceil(h / stride), ceil(w / stride), filters]."""
        kernel = keras.initializers.HeNormal(next(self._seed))
        conv = keras.layers.Conv2D(
            filters, size, stride, padding="same", use_bias=False, kernel_initializer=kernel, name=name
        )
        return conv(x)

    def norm(self, x: keras.KerasTensor, name: str, gamma: str = "ones") -> keras.KerasTensor:
        """Batch normalisation whose averages settle within 50 steps (Keras's momentum 0.99 needs 500)."""
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=name)(x)

    def basic_block(self, x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
        """Two convolutions 3×3 and a shortcut, projected by a convolution 1×1 where the shape changes.

        The last scale starts at zero: every block begins as its shortcut.
        """
        shortcut = x
        if stride > 1 or x.shape[-1] != filters:
            shortcut = self.norm(self.conv(x, filters, 1, f"{name}_shortcut", stride), f"{name}_shortcut_norm")
        y = self.norm(self.conv(x, filters, 3, f"{name}_conv1", stride), f"{name}_norm1")
        y = keras.layers.ReLU(name=f"{name}_relu1")(y)
        y = self.norm(self.conv(y, filters, 3, f"{name}_conv2"), f"{name}_norm2", gamma="zeros")
        return keras.layers.ReLU(name=f"{name}_relu2")(keras.layers.Add(name=f"{name}_add")([y, shortcut]))


def build(config: Config) -> keras.Model:
    """ResNet: a stem, stages of residual blocks, global average pool, logits.

    Each stage after the first halves height and width. Unlike the paper: a stem for small images, 3×3 without stride
    and max-pool 2×2, and projections for every change of shape.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  11,182,410 at blocks=(2, 2, 2, 2), one channel and 10 classes
    Source   He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition", arXiv:1512.03385, table 1
    """
    seed = seeds(config.seed)
    layers = _Layers(seed)
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    x = layers.norm(layers.conv(x, config.filters[0], 3, "stem_conv"), "stem_norm")
    x = keras.layers.ReLU(name="stem_relu")(x)
    x = keras.layers.MaxPool2D(2, config.stem_stride, padding="same", name="stem_pool")(x)
    for stage, (blocks, filters) in enumerate(zip(config.blocks, config.filters, strict=True), 1):
        for n in range(1, blocks + 1):
            stride = 2 if n == 1 and stage > 1 else 1
            x = layers.basic_block(x, filters, stride, f"stage{stage}_block{n}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # [b, 512]
    kernel = keras.initializers.GlorotUniform(next(seed))
    logits = keras.layers.Dense(config.num_classes, kernel_initializer=kernel, dtype="float32", name="logits")(x)
    return compile_classifier(keras.Model(image, logits, name="resnet"), config)


NETWORKS = [
    Network(
        name="resnet18",
        task="classify",
        summary="ResNet-18: a deep convolutional network with shortcuts, for small images of single things.",
        config=Config(learning_rate=1e-3, weight_decay=0.05),
        build=build,
        signatures=signatures,
        example=example,
        parameters=11_182_410,
        tiny={"blocks": (1, 1), "filters": (4, 8), "epochs": 1, "batch_size": 16, "learning_rate": 1e-2},
        presets={
            "quick": {"epochs": 1, "batch_size": 64, "train_limit": 20_000, "schedule": "cosine", "warmup": 0.1},
            "full": {
                "epochs": 40,
                "schedule": "cosine",
                "warmup": 0.05,
                "stem_stride": 1,
                "augment": True,
            },
            "cifar100": {
                "data": "cifar100",
                "epochs": 60,
                "schedule": "cosine",
                "warmup": 0.05,
                "weight_decay": 0.5,
                "stem_stride": 1,
                "augment": True,
                "top_k": 5,
            },
        },
        source="He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition, arXiv:1512.03385",
    ),
]
