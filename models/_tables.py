"""Shared by networks that read rows of a table: config, columns, loss, signatures, example.

A caller sends raw columns by name. The graph standardises the numbers and turns categories into one-hot vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._blocks import seeds
from ladle.models._layers import Layers, Penalty
from ladle.models._network import Assets, Config, Network, fact, option
from ladle.models._optimizers import OptimizerConfig, optimizer
from ladle.models._signatures import Core, Signature, Tensors

ROWS = "rows"
"""The signature that takes rows as numbers: of a column of categories, the number of the category."""


@dataclass(frozen=True)
class ColumnsConfig(Config):
    """What a table's columns hold. All but `target` and `task` are facts of the training data.

    columns          input names, in the order of a row
    category_counts  number of categories of each column; 0: the column holds numbers
    categories       the categories of all columns, one after another
    means            mean of each column in training; 0 for categories
    deviations       standard deviation of each column in training; 1 for categories
    target_mean      mean of the numbers to predict; 0 for classes
    target_deviation their standard deviation; 1 for classes
    """

    data: str = option("table", "data set (`ladle data` lists them)")
    target: str = option("", "column to predict")
    task: str = option("", "classification | regression")
    columns: tuple[str, ...] = fact(())
    category_counts: tuple[int, ...] = fact(())
    categories: tuple[str, ...] = fact(())
    means: tuple[float, ...] = fact(())
    deviations: tuple[float, ...] = fact(())
    target_mean: float = fact(0.0)
    target_deviation: float = fact(1.0)
    num_classes: int = fact(2)

    def categories_of(self, column: int) -> tuple[str, ...]:
        """The categories of a column, by number in a row; empty for a column of numbers."""
        start = sum(self.category_counts[:column])
        return self.categories[start : start + self.category_counts[column]]


@dataclass(frozen=True)
class TableConfig(OptimizerConfig, ColumnsConfig):
    """Options of dense layers on a table."""

    batch_size: int = option(32, "examples per step")
    epochs: int = option(100, "passes over the training examples")
    patience: int = option(30, "stop after this many epochs without a better monitored metric; 0: never stop early")
    units: tuple[int, ...] = option((64, 64), "units of each hidden layer")
    dropout: float = option(0.0, "dropout rate after each hidden layer")
    kernel_l1: float = option(0.0, "L1 regularisation of the kernel of each hidden layer")
    kernel_l2: float = option(1e-3, "L2 regularisation of the kernel of each hidden layer")


@keras.saving.register_keras_serializable("ladle")
class Columns(keras.layers.Layer):  # type: ignore[misc]
    """Raw columns float32 [b, columns] -> features float32 [b, d]: standardised numbers, then one-hot categories.

    A missing number (NaN) counts as the mean of training; an unknown category as none.
    """

    def __init__(
        self, counts: tuple[int, ...], means: tuple[float, ...], deviations: tuple[float, ...], **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.counts, self.means, self.deviations = tuple(counts), tuple(means), tuple(deviations)
        self.numbers = [i for i, count in enumerate(self.counts) if not count]
        self.width = len(self.numbers) + sum(self.counts)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        parts = []
        if self.numbers:
            mean, deviation = (
                np.array([s[i] for i in self.numbers], np.float32) for s in (self.means, self.deviations)
            )
            z = (tf.gather(x, self.numbers, axis=1) - mean) / deviation
            parts.append(tf.where(tf.math.is_nan(z), tf.zeros_like(z), z))
        if any(self.counts):
            # A comparison, as TensorFlow's one_hot and ONNX's OneHot differ for numbers that are out of range.
            column = [i for i, count in enumerate(self.counts) for _ in range(count)]
            category = [float(number) for count in self.counts for number in range(count)]
            parts.append(tf.cast(tf.equal(tf.gather(x, column, axis=1), category), tf.float32))
        return tf.concat(parts, axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        return shape[0], self.width

    def get_config(self) -> dict[str, Any]:
        kept = {"counts": self.counts, "means": self.means, "deviations": self.deviations}
        return {**super().get_config(), **kept}


@keras.saving.register_keras_serializable("ladle")
class ScaledSquaredError(keras.losses.Loss):  # type: ignore[misc]
    """Squared error in units of the target's standard deviation, so that no target needs a learning rate of its own."""

    def __init__(self, deviation: float, name: str = "scaled_squared_error", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.deviation = deviation

    def call(self, y: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
        error = tf.reshape(tf.cast(predicted, tf.float32), [-1]) - tf.reshape(tf.cast(y, tf.float32), [-1])
        return (error / self.deviation) ** 2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "deviation": self.deviation}


def columns_layer(config: ColumnsConfig) -> Columns:
    """The layer that reads the rows of this table."""
    return Columns(config.category_counts, config.means, config.deviations, name="columns")


def build(config: TableConfig) -> keras.Model:
    """Dense layers on the columns of a table, with ReLU between them; for classes or for one number.

    Input    x       float32 [b, columns]
    Output   logits  float32 [b, num_classes], or y float32 [b, 1] in the unit of the target
    Source   Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors"
    """
    layers = Layers(seeds(config.seed))
    x_in = keras.Input((len(config.columns),), name="x")
    x = columns_layer(config)(x_in)
    kernel = Penalty(config.kernel_l1, config.kernel_l2)
    for n, units in enumerate(config.units, 1):
        x = layers.dropout(layers.dense(x, units, f"dense{n}", kernel), config.dropout, f"dropout{n}")
    if config.task == "classification":
        model = keras.Model(x_in, layers.logits(x, config.num_classes), name="table")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        figures = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    else:
        scaled = keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="scaled")(x)
        y = keras.layers.Rescaling(config.target_deviation, config.target_mean, dtype="float32", name="y")(scaled)
        model = keras.Model(x_in, y, name="table")
        loss = ScaledSquaredError(config.target_deviation)
        figures = [keras.metrics.MeanAbsoluteError(name="absolute_error")]
    model.compile(optimizer=optimizer(config, model.trainable_variables), loss=loss, metrics=figures, jit_compile=False)
    return model


def signatures(model: keras.Model, config: ColumnsConfig, assets: Assets) -> dict[str, Signature]:
    """Signatures that take a row's columns by name, as numbers in one tensor, or as tf.Example.

    serving_default   each column by name: float32 [b], or string [b] if it holds categories
    rows              x float32 [b, columns], of categories their numbers
    classify|regress  inputs string [b], tf.Example with a feature for each column

    They return y float32 [b], or logits, probabilities float32 [b, k], class_id int64 [b] and label string [b].
    """
    classes = config.task == "classification"

    def predict(x: tf.Tensor) -> Tensors:
        answer = model(x, training=False)
        if not classes:
            y = tf.reshape(tf.cast(answer, tf.float32), [-1])  # [b]
            return {"y": y, "outputs": y}
        class_id = tf.argmax(answer, axis=-1, output_type=tf.int64)  # [b]
        return {"logits": answer, "probabilities": tf.nn.softmax(answer), "class_id": class_id}

    core = Core("model", predict, {"x": tf.TensorSpec([None, len(config.columns)], tf.float32, name="x")})
    categories = {name: config.categories_of(i) for i, name in enumerate(config.columns)}
    columns = steps.StackColumns(categories, "x")
    parse = [steps.ParseExample(name, (), tf.string if names else tf.float32) for name, names in categories.items()]
    outputs = ("logits", "probabilities", "class_id", "label") if classes else ("y",)
    after = [steps.LookupLabel(assets.labels)] if classes else []
    found = {
        "serving_default": Signature(core, outputs, before=[columns], after=after),
        ROWS: Signature(core, outputs, after=after),
    }
    if classes:
        top = [steps.TopClasses(assets.labels)]
        found["classify"] = Signature(
            core, ("classes", "scores"), before=[*parse, columns], after=top, method="classify"
        )
    else:
        found["regress"] = Signature(core, ("outputs",), before=[*parse, columns], method="regress")
    return found


def example(config: ColumnsConfig) -> dict[str, np.ndarray]:
    """Four rows by column, as serving_default takes them: numbers near the mean, and categories in turn."""
    random = np.random.default_rng(config.seed)
    rows: dict[str, np.ndarray] = {}
    for i, name in enumerate(config.columns):
        if names := config.categories_of(i):
            rows[name] = np.array([names[row % len(names)].encode() for row in range(4)], object)
        else:
            rows[name] = random.normal(config.means[i], config.deviations[i], 4).astype(np.float32)
    return rows


def network(
    name: str, source: str, *, classes: bool, config: ColumnsConfig | None = None, build: Callable[[Any], Any] = build
) -> Network:
    """A network for tables, under the name of the network that it stands in for; by default of dense layers."""
    presets: dict[str, dict[str, Any]] = {"quick": {}, "full": {"epochs": 300}}
    if config is None:
        presets["quick"] = {"epochs": 60, "learning_rate": 3e-3, "schedule": "cosine"}
    return Network(
        name=name,
        task="classify" if classes else "regress",
        takes="table",
        summary=f"Predicts {'a class' if classes else 'a number'} from the columns of a table.",
        config=config or TableConfig(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=0,
        tiny={"epochs": 1},
        presets=presets,
        source=source,
    )
