"""House prices: a small regressor of dense layers, with L2 regularisation and k-fold cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ladle.models import _tables as tables
from ladle.models._blocks import seeds
from ladle.models._layers import Layers, Penalty
from ladle.models._network import Network, option
from ladle.models._optimizers import OptimizerConfig, optimizer
from ladle.models._regression import RegressionConfig, example, signatures

SOURCE = "Harrison, Rubinfeld 1978, Hedonic housing prices and the demand for clean air"


@dataclass(frozen=True)
class Config(OptimizerConfig, RegressionConfig):
    """Layer widths and regularisation."""

    batch_size: int = option(16, "examples per step")
    epochs: int = option(300, "passes over the training examples")
    patience: int = option(60, "stop after this many epochs without a better monitored metric; 0: never stop early")
    units: tuple[int, ...] = option((64, 64), "units of each hidden layer")
    kernel_l1: float = option(0.0, "L1 regularisation of the kernel of each hidden layer")
    kernel_l2: float = option(1e-3, "L2 regularisation of the kernel of each hidden layer")
    dropout: float = option(0.0, "dropout rate after each hidden layer")


def build(config: Config) -> keras.Model:
    """Dense layers 13 -> 64 -> 64 -> 1, with squared error and L2 regularisation.

    Columns can have any scale: the first layer normalises each to mean 0 and variance 1 with statistics of the training
    data.

    Input    x       float32 [b, features]
    Output   y       float32 [b, 1]
    Weights  5,147 at 13 columns
    Source   Harrison, Rubinfeld 1978, "Hedonic housing prices and the demand for clean air" (the data)
    """
    layers = Layers(seeds(config.seed))
    x_in = keras.Input((config.features,), name="x")
    # Batch normalisation without its own scale and offset is a standardisation inside the graph: callers send raw
    # columns, and the averages travel with the weights.
    scale = keras.layers.BatchNormalization(momentum=0.9, center=False, scale=False, dtype="float32", name="scale")
    x = scale(x_in)
    kernel = Penalty(config.kernel_l1, config.kernel_l2)
    for n, units in enumerate(config.units, 1):
        x = layers.dropout(layers.dense(x, units, f"dense{n}", kernel), config.dropout, f"dropout{n}")
    y = keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="y")(x)
    model = keras.Model(x_in, y, name="house_prices")
    model.compile(
        optimizer=optimizer(config, model.trainable_variables),
        loss=keras.losses.MeanSquaredError(),
        metrics=[keras.metrics.MeanAbsoluteError(name="absolute_error")],
        jit_compile=False,
    )
    return model


NETWORKS = [
    Network(
        name="house_prices",
        task="regress",
        summary="A small network of dense layers that estimates the price of a house from 13 features.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=5_147,
        tiny={"units": (8, 4), "epochs": 1, "learning_rate": 1e-2},
        presets={
            "quick": {"epochs": 100, "learning_rate": 3e-3, "schedule": "cosine", "folds": 5},
            "full": {"folds": 5},
        },
        source=SOURCE,
        tables={"regress": tables.network("house_prices", SOURCE, classes=False)},
    ),
]
