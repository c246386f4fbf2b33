"""EfficientNet-Lite0 with its published weights: classifies photographs into 1000 classes, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _efficientnet
from ladle.models._blocks import seeds
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers
from ladle.models._network import Network, option

NAME = "efficientnet_lite0"


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Size of the photographs and source of the weights."""

    data: str = option("photographs", "data set (`ladle data` lists them)")
    epochs: int = option(1, "passes over the photographs; nothing is learned from them")
    pretrained: bool = option(True, "use the weights learned on ImageNet; off: random weights")
    base_width: float = option(1.0, "factor for all filters; only 1 has published weights")
    base_blocks: tuple[int, ...] = option(
        _efficientnet.REPEATS, "blocks of each stage; only the default has published weights"
    )


@keras.saving.register_keras_serializable("ladle")
class Published(keras.Model):  # type: ignore[misc]
    """A model that is only evaluated: a training step measures and changes nothing."""

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        figures: dict[str, tf.Tensor] = self.test_step(batch)
        return figures


def build(config: Config) -> keras.Model:
    """The base of `models._efficientnet`, a global average pool and the logits. All weights are frozen.

    Input    image   float32 [b, h, w, 3]  in [0, 1]; the published weights were trained at 224 pixels
    Output   logits  float32 [b, num_classes]
    Weights  4,694,024 with 1000 classes; random here, training loads those of ImageNet
    Source   Tan, Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks",
             arXiv:1905.11946, and the EfficientNet-Lite release of its authors (2020)

    ValueError unless there are three channels.
    """
    if config.channels != 3:
        raise ValueError(f"channels is {config.channels}; expected 3 (colour)")
    image = keras.Input((config.height, config.width, config.channels), name="image")
    seed = seeds(config.seed)
    x = _efficientnet.base(next(seed), config.base_width, config.base_blocks)(image, training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # [b, 1280]
    model = Published(image, Layers(seed).logits(x, config.num_classes), name=NAME)
    model.trainable = False
    return compile_classifier(model, config)


def restore(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Load the published weights; ValueError if they do not fit."""
    _efficientnet.restore(model.get_layer(NAME), tensors)
    for variable, part in zip(model.get_layer("logits").variables, ("weight", "bias"), strict=True):
        _efficientnet.assign(variable, tensors, f"_fc.{part}")


NETWORKS = [
    Network(
        name=NAME,
        task="classify",
        summary="EfficientNet-Lite0 with ImageNet weights: names the object in a photograph, out of 1000 classes.",
        config=Config(height=224, width=224, channels=3, num_classes=1000, top_k=5),
        build=build,
        signatures=signatures,
        example=example,
        parameters=4_694_024,
        # Random weights and few filters: nothing is downloaded.
        tiny={
            "pretrained": False,
            "base_width": 0.25,
            "base_blocks": (1, 1),
            "height": 32,
            "width": 32,
            "channels": 3,
            "num_classes": 10,
        },
        presets={"quick": {}, "full": {}},
        source="Tan, Le 2019, EfficientNet, arXiv:1905.11946",
        pretrained=lambda config: NAME if config.pretrained else "",
        restore=restore,
    ),
]
