"""LeNet: alternating convolutions and pooling, then dense layers (LeCun et al. 1998)."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ladle.models._blocks import seeds
from ladle.models._claims import accuracy, fewer_weights_than_dense
from ladle.models._classifier import ClassifierConfig, compile_classifier, example, signatures
from ladle.models._network import Network, option


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Widths of the layers; the last of the five has num_classes units."""

    filters: tuple[int, ...] = option((6, 16), "filters of each 5×5 convolution")
    units: tuple[int, ...] = option((120, 84), "units of each dense layer before the last")
    dropout: float = option(0.0, "dropout rate before each hidden dense layer")


def build(config: Config) -> keras.Model:
    """LeNet-5: two convolutions, each with a max-pool, then two dense layers and the logits.

    Differences from the paper: ReLU instead of tanh, max-pool instead of trained averages, every filter sees all
    feature maps, and softmax instead of radial basis units.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  61,706 at 28×28×1 and 10 classes
    Source   LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", figure 2
    """
    seed = seeds(config.seed)
    image = keras.Input((config.height, config.width, config.channels), name="image")
    # In the graph, so that every caller sends [0, 1] and training and serving cannot scale differently.
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(image)  # [-1, 1]
    for n, filters in enumerate(config.filters, 1):
        x = keras.layers.Conv2D(
            filters,
            5,
            padding="same" if n == 1 else "valid",  # the paper pads its 28×28 digits to 32×32 instead
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(next(seed)),
            name=f"conv{n}",
        )(x)
        x = keras.layers.MaxPool2D(name=f"pool{n}")(x)  # height and width halved
    x = keras.layers.Flatten(name="flatten")(x)  # [b, 5·5·16] at 28×28
    for n, units in enumerate(config.units, 1):
        if config.dropout:
            x = keras.layers.Dropout(config.dropout, seed=next(seed), name=f"dropout{n}")(x)
        kernel = keras.initializers.HeNormal(next(seed))
        x = keras.layers.Dense(units, activation="relu", kernel_initializer=kernel, name=f"dense{n}")(x)
    kernel = keras.initializers.GlorotUniform(next(seed))
    logits = keras.layers.Dense(config.num_classes, kernel_initializer=kernel, dtype="float32", name="logits")(x)
    return compile_classifier(keras.Model(image, logits, name="lenet5"), config)


NETWORKS = [
    Network(
        name="lenet5",
        task="classify",
        summary="LeNet-5: a small convolutional network for small images of one object.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=61_706,
        tiny={"filters": (2, 4), "units": (16, 12), "epochs": 1, "batch_size": 16},
        presets={
            "quick": {"epochs": 5, "learning_rate": 2e-3, "schedule": "cosine"},
            "full": {
                "epochs": 30,
                "batch_size": 64,
                "learning_rate": 2e-3,
                "schedule": "cosine",
                "optimizer": "adamw",
                "weight_decay": 0.01,
                "dropout": 0.3,
            },
            "mnist": {
                "data": "mnist",
                "epochs": 40,
                "learning_rate": 2e-3,
                "schedule": "cosine",
                "dropout": 0.2,
                "augment": True,
            },
        },
        aim="accuracy 0.9905 on MNIST (--preset mnist): LeCun et al. 1998, section III, without distortions; none on "
        "Fashion-MNIST",
        source="LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition",
        claims=(fewer_weights_than_dense((256, 256, 256)), accuracy(0.992, "mnist", "mnist")),
        feature_extractor=True,
    ),
]
