"""Transfer learning: a convolutional base with ImageNet weights and a new head for your own classes.

Five stages: add the head, freeze the base, train the head, unfreeze the top of the base, train both at a low rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _efficientnet
from ladle.models._blocks import seeds
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers
from ladle.models._network import Network, Stage, option

LITE = "efficientnet_lite0"
CAFFE = (123.68, 116.779, 103.939)
"""Means of red, green and blue in ImageNet, of pixels 0 to 255. Bases that came from Caffe subtract them."""


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Base and training of the stages."""

    data: str = option("cifar10", "data set (`ladle data` lists them)")
    base: str = option(LITE, f"convolutional base: {LITE}, vgg16, vgg19, resnet50, inception_v3 or xception")
    pretrained: bool = option(True, "start with ImageNet weights in the base; off: random weights")
    size: int = option(128, "side in pixels to which the graph resizes images for the base")
    batch_size: int = option(64, "examples per step")
    head_epochs: int = option(10, "stage 3, head alone: passes over the training examples")
    learning_rate: float = option(1e-3, "stage 3, head alone: step size of the optimizer")
    epochs: int = option(3, "stage 5, head and top of the base: passes over the training examples")
    fine_rate: float = option(1e-4, "stage 5, head and top of the base: step size of the optimizer")
    unfrozen: float = option(0.4, "share of the layers of the base, counted from its output, that stage 4 unfreezes")
    dropout: float = option(0.2, "dropout rate of the features of the base")
    base_width: float = option(1.0, "factor for the filters of EfficientNet-Lite0; only 1 has published weights")
    base_blocks: tuple[int, ...] = option(
        _efficientnet.REPEATS, "blocks of each stage of EfficientNet-Lite0; only the default has published weights"
    )


@keras.saving.register_keras_serializable("ladle")
class BlueFirst(keras.layers.Layer):  # type: ignore[misc]
    """Reorders red, green, blue to blue, green, red, as bases from Caffe expect."""

    def call(self, image: tf.Tensor) -> tf.Tensor:
        return tf.gather(image, [2, 1, 0], axis=-1)


Application = Callable[..., keras.Model]
APPLICATIONS: Mapping[str, tuple[Application, bool]] = {
    "vgg16": (keras.applications.VGG16, True),
    "vgg19": (keras.applications.VGG19, True),
    "resnet50": (keras.applications.ResNet50, True),
    "inception_v3": (keras.applications.InceptionV3, False),
    "xception": (keras.applications.Xception, False),
}
"""Bases in keras.applications, and whether they came from Caffe, which decides how images are scaled."""


def build(config: Config) -> keras.Model:
    """Resizing and scaling for the base, the base, a global average pool, dropout and the logits.

    Batch normalisation in the base stays frozen in all stages: it runs in inference mode, with the averages of
    ImageNet. Grey images become three equal channels.

    Input    image   float32 [b, h, w, c]  in [0, 1]; c is 1 or 3
    Output   logits  float32 [b, num_classes]
    Weights  3,425,834 with EfficientNet-Lite0 and 10 classes; random here, training loads those of ImageNet
    Source   Yosinski et al. 2014, "How transferable are features in deep neural networks?", arXiv:1411.1792; the
             default base: Tan, Le 2019, arXiv:1905.11946

    ValueError unless channels is 1 or 3, or for an unknown base.
    """
    if config.channels not in (1, 3):
        raise ValueError(f"channels is {config.channels}; expected 1 (grey) or 3 (colour)")
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = image if config.channels == 3 else keras.layers.Concatenate(name="colour")([image, image, image])
    x = keras.layers.Resizing(config.size, config.size, name="resize")(x)  # [b, size, size, 3]
    seed = seeds(config.seed)
    base, x = _scaled(config, next(seed), x)
    _unfreeze(base, len(base.layers))
    x = base(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # [b, features]
    features = keras.Input(x.shape[1:], name="features")
    layers = Layers(seed)
    logits = layers.logits(layers.dropout(features, config.dropout, "dropout"), config.num_classes)
    head = keras.Model(features, logits, name="head")
    return compile_classifier(keras.Model(image, head(x), name="transfer"), config)


def _unfreeze(base: keras.Model, count: int) -> None:
    """Make the last `count` layers of a base trainable, except batch normalisation."""
    base.trainable = True
    for i, layer in enumerate(base.layers):
        # A frozen normalisation layer of Keras runs in inference mode. Small batches of another data set would ruin
        # the averages that the weights after it were trained with.
        norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = i >= len(base.layers) - count and not norm


def _scaled(config: Config, seed: int, x: keras.KerasTensor) -> tuple[keras.Model, keras.KerasTensor]:
    """The base, and images in [0, 1] scaled as in its training."""
    if config.base == LITE:
        return _efficientnet.base(seed, config.base_width, config.base_blocks), x
    if config.base not in APPLICATIONS:
        raise ValueError(f'unknown base "{config.base}"; expected one of {LITE}, {", ".join(APPLICATIONS)}')
    application, caffe = APPLICATIONS[config.base]
    if caffe:
        x = keras.layers.Rescaling(255.0, [-mean for mean in CAFFE], name="scale")(x)
        x = BlueFirst(name="blue_first")(x)
    else:
        x = keras.layers.Rescaling(2.0, -1.0, name="scale")(x)
    shape = (config.size, config.size, 3)
    return application(include_top=False, weights=None, input_shape=shape, name=config.base), x


def pretrained(config: Config) -> str:
    """Name of the base whose ImageNet weights the network starts with; empty for random weights."""
    return config.base if config.pretrained else ""


def restore(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Load the published weights of EfficientNet-Lite0; ValueError if they do not fit."""
    _efficientnet.restore(model.get_layer(LITE), tensors)


def stages(config: Config) -> Sequence[Stage]:
    """The five stages of training; each describes what it did when it begins."""

    def compiled(model: keras.Model, rate: float) -> None:
        compile_classifier(model, dataclasses.replace(config, learning_rate=rate))

    def add(model: keras.Model) -> str:
        return f"{_count(model.get_layer('head').weights)} new weights for {config.num_classes} classes"

    def freeze(model: keras.Model) -> str:
        base = model.get_layer(config.base)
        base.trainable = False
        begin = "" if config.pretrained else ", random as they are untrained,"
        return f"{_count(base.weights)} weights of {config.base}{begin} stay as they are"

    def train_head(model: keras.Model) -> str:
        for part in (model, model.get_layer("head")):
            compiled(part, config.learning_rate)
        return f"{_count(model.trainable_weights)} weights, rate {config.learning_rate:g}"

    def unfreeze(model: keras.Model) -> str:
        base = model.get_layer(config.base)
        first = len(base.layers) - round(config.unfrozen * len(base.layers))
        _unfreeze(base, len(base.layers) - first)
        trained = f"{_count(base.trainable_weights)} weights"
        return f"the last {len(base.layers) - first} of {len(base.layers)} layers but their normalisation, {trained}"

    def train_both(model: keras.Model) -> str:
        compiled(model, config.fine_rate)
        return f"{_count(model.trainable_weights)} weights, rate {config.fine_rate:g}"

    def split(model: keras.Model) -> tuple[keras.Model, keras.Model]:
        return keras.Model(model.input, model.get_layer("pool").output), model.get_layer("head")

    return (
        Stage("add the head", add),
        Stage("freeze the base", freeze),
        Stage("train the head", train_head, config.head_epochs, config.learning_rate, split),
        Stage("unfreeze the top of the base", unfreeze),
        Stage("train both at a low rate", train_both, config.epochs, config.fine_rate),
    )


def _count(variables: Sequence[Any]) -> str:
    return f"{sum(int(np.prod(v.shape)) for v in variables):,}"


NETWORKS = [
    Network(
        name="transfer",
        task="classify",
        summary="Transfer learning: a base trained on ImageNet with a new head, for your own classes of images.",
        config=Config(height=32, width=32, channels=3, num_classes=10),
        build=build,
        signatures=signatures,
        example=example,
        parameters=3_425_834,
        # Random weights and few filters: nothing is downloaded.
        tiny={
            "data": "image_folder",
            "pretrained": False,
            "base_width": 0.25,
            "base_blocks": (1, 1),
            "size": 32,
            "head_epochs": 1,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 1e-2,
            "fine_rate": 1e-3,
        },
        presets={
            "quick": {"data": "fashion_mnist", "size": 64, "train_limit": 4_000, "head_epochs": 10, "epochs": 1},
            "full": {"size": 160, "epochs": 5, "augment": True, "schedule": "cosine"},
        },
        source="Yosinski et al. 2014, How transferable are features in deep neural networks?, arXiv:1411.1792",
        pretrained=pretrained,
        restore=restore,
        stages=stages,
        leads="full",  # on photographs: what a base trained on ImageNet is for
    ),
]
