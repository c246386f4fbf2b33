"""Multi-layer perceptrons: stacked dense layers, from Keras and from hand-written layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _tables as tables
from ladle.models._blocks import Saved, from_saved, seeds
from ladle.models._claims import accuracy
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._layers import Layers, Penalty
from ladle.models._network import Network, option

SOURCE = "Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors, Nature 323"


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Layer widths and regularisation."""

    units: tuple[int, ...] = option((256, 128, 64, 32), "units of each hidden layer")
    dropout: float = option(0.0, "dropout rate after each hidden layer")
    kernel_l1: float = option(0.0, "L1 regularisation of the kernel of each layer")
    kernel_l2: float = option(0.0, "L2 regularisation of the kernel of each layer")
    penalty_l1: float = option(0.0, "factor in the loss of Σ|w| over all kernels and biases")
    penalty_l2: float = option(0.0, "factor in the loss of ½·Σw² over all kernels and biases")


def build(config: Config) -> keras.Model:
    """Dense layers 784 -> 256 -> 128 -> 64 -> 32 -> 10 with ReLU between them.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  244,522 at 28×28×1 and 10 classes
    Source   Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors"
    """
    layers = Layers(seeds(config.seed))
    every = Penalty(config.penalty_l1, config.penalty_l2 / 2)
    held = (Penalty(config.kernel_l1 + every.l1, config.kernel_l2 + every.l2), every)  # kernels, biases
    image = keras.Input((config.height, config.width, config.channels), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)
    x = keras.layers.Flatten(name="flatten")(x)  # [b, h·w·c]
    for n, units in enumerate(config.units, 1):
        x = layers.dropout(layers.dense(x, units, f"dense{n}", *held), config.dropout, f"dropout{n}")
    return compile_classifier(keras.Model(image, layers.logits(x, config.num_classes, *held), name="mlp"), config)


@keras.saving.register_keras_serializable("ladle")
class HandDense(keras.layers.Layer):  # type: ignore[misc]
    """A hand-written dense layer, x @ kernel + bias: float32 [b, d] -> [b, units]."""

    def __init__(self, units: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.seed = units, seed

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            shape=(x_shape[-1], self.units), initializer=keras.initializers.HeNormal(self.seed), name="kernel"
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x @ self.kernel + self.bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "seed": self.seed}


@keras.saving.register_keras_serializable("ladle")
class HandModel(Saved):
    """A subclassed model: `call` runs the layers itself."""

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        seed = seeds(config.seed)
        widths = (*config.units, config.num_classes)
        self.hidden = [HandDense(units, next(seed), name=f"dense{n}") for n, units in enumerate(widths[:-1], 1)]
        self.last = HandDense(widths[-1], next(seed), dtype="float32", name="logits")

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, h, w, c] in [0, 1] -> logits [b, num_classes]."""
        x = tf.reshape(2.0 * image - 1.0, [tf.shape(image)[0], int(np.prod(image.shape[1:]))])
        for layer in self.hidden:
            x = tf.nn.relu(layer(x))
        return self.last(x)

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> HandModel:
        return build_custom(from_saved(Config, saved["config"]))


def build_custom(config: Config) -> HandModel:
    """Hand-written dense layers (`add_weight`, x @ kernel + bias) in a subclassed model.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  830,250 at 32×32×3 and 10 classes
    Source   Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors"
    """
    model = HandModel(config, name="custom_dense")
    model(tf.zeros([1, config.height, config.width, config.channels]))  # layers create their weights at the first call
    compiled: HandModel = compile_classifier(model, config)
    return compiled


TINY = {"units": (16, 12), "epochs": 1, "batch_size": 16, "learning_rate": 1e-2}

NETWORKS = [
    Network(
        name="mlp",
        task="classify",
        summary="A multi-layer perceptron: five dense layers, for small images of one object.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=244_522,
        tiny=TINY,
        presets={
            "quick": {"epochs": 6, "learning_rate": 2e-3, "schedule": "cosine"},
            "full": {"epochs": 40, "learning_rate": 1e-3, "schedule": "cosine", "dropout": 0.1},
            "l2": {"epochs": 6, "penalty_l2": 1e-4},
            "kernel_l2": {"epochs": 6, "kernel_l2": 1e-3},
            "dropout": {"epochs": 6, "dropout": 0.5},
        },
        aim="accuracy 0.871 on Fashion-MNIST: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747, table 3, one hidden "
        "layer of 100",
        source=SOURCE,
        claims=(accuracy(0.87, "fashion_mnist"),),
        tables={
            "classify": tables.network("mlp", SOURCE, classes=True),
            "regress": tables.network("mlp", SOURCE, classes=False),
        },
    ),
    Network(
        name="custom_dense",
        task="classify",
        summary="A multi-layer perceptron of hand-written dense layers, for small colour images.",
        config=Config(data="cifar10", height=32, width=32, channels=3),
        build=build_custom,
        signatures=signatures,
        example=example,
        parameters=830_250,
        tiny=TINY,
        presets={
            "quick": {"data": "fashion_mnist", "epochs": 6, "learning_rate": 2e-3, "schedule": "cosine"},
            "full": {"epochs": 30, "schedule": "cosine"},
        },
        source=SOURCE,
    ),
]
