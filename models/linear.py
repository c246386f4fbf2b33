"""Linear and logistic regression, with gradients derived by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _tables as tables
from ladle.models._blocks import Pair, Saved, from_saved
from ladle.models._classifier import ImagesConfig
from ladle.models._classifier import example as image_example
from ladle.models._classifier import signatures as image_signatures
from ladle.models._network import Network, option
from ladle.models._optimizers import clipped
from ladle.models._regression import RegressionConfig, example, signatures


@dataclass(frozen=True)
class LinearConfig(RegressionConfig):
    """Options of linear regression by plain gradient descent."""

    data: str = option("synthetic_line", "data set (`ladle data` lists them)")
    features: int = option(1, "columns per row")
    epochs: int = option(1000, "passes over the training examples")
    learning_rate: float = option(1e-2, "step size")


@dataclass(frozen=True)
class LogisticConfig(ImagesConfig):
    """Options of logistic regression on two classes of images."""

    classes: tuple[str, ...] = option(("T-shirt/top", "Trouser"), "the two labels of the data set to classify")
    num_classes: int = option(2, "number of classes, always 2")
    top_k: int = option(1, "report also the accuracy among this many most probable classes")
    learning_rate: float = option(5e-2, "step size of plain gradient descent")


class _Line(Saved):
    """A model of plain variables w and b, both initially zero."""

    def __init__(self, config: Any, width: int, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.pair = Pair((width,), (), name="pair")
        self.built = True

    def line(self, x: tf.Tensor) -> tf.Tensor:
        """w·x + b: float32 [b, d] -> [b]."""
        return tf.linalg.matvec(tf.cast(x, tf.float32), self.pair.w.value) + self.pair.b.value

    def descend(self, gradients: tuple[tf.Tensor, tf.Tensor]) -> None:
        """Update w and b by gradient descent: w - learning rate · ∂loss/∂w. Replicas average their gradients."""
        count = tf.distribute.get_strategy().num_replicas_in_sync
        if count > 1:
            gradients = tf.distribute.get_replica_context().all_reduce("mean", gradients)
        rate = tf.cast(self.optimizer.learning_rate, tf.float32)
        for variable, gradient in zip((self.pair.w, self.pair.b), clipped(gradients, self.config), strict=True):
            variable.value.assign_sub(rate * gradient)


def squared_error_gradient(x: tf.Tensor, error: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradient of Σ(w·x + b - y)² / N by w and b: (2/N) Σ error·x, (2/N) Σ error; x float32 [n, d], error [n]."""
    n = tf.cast(tf.shape(error)[0], tf.float32)
    return 2.0 / n * tf.linalg.matvec(x, error, transpose_a=True), 2.0 / n * tf.reduce_sum(error)


def cross_entropy_gradient(x: tf.Tensor, p: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradient of -Σ(y log p + (1-y) log(1-p)) / N by w and b, with p = σ(w·x + b): Σ (p - y)·x / N, Σ (p - y) / N.

    x float32 [n, d], p and y float32 [n] -> float32 [d], float32 [].
    """
    n = tf.cast(tf.shape(y)[0], tf.float32)
    return tf.linalg.matvec(x, p - y, transpose_a=True) / n, tf.reduce_sum(p - y) / n


@keras.saving.register_keras_serializable("ladle")
class LinearRegression(_Line):
    """y = w·x + b, fitted by least squares."""

    def __init__(self, config: Any, width: int | None = None, **kwargs: Any) -> None:
        super().__init__(config, config.features if width is None else width, **kwargs)
        self._figures = [keras.metrics.Mean(name="loss")]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._figures

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, features] -> [b]."""
        return self.line(x)

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of gradient descent on (x, y); return the loss before it."""
        x, y = batch
        error = self.line(x) - y
        self.descend(squared_error_gradient(tf.cast(x, tf.float32), error))
        return self._results(error)

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        x, y = batch
        return self._results(self.line(x) - y)

    def _results(self, error: tf.Tensor) -> dict[str, tf.Tensor]:
        self._figures[0].update_state(error**2)
        return {"loss": self._figures[0].result()}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> LinearRegression:
        return build(from_saved(LinearConfig, saved["config"]))


def build(config: LinearConfig) -> LinearRegression:
    """Linear regression y = w·x + b; w and b start at 0. Loss Σ(w·x + b - y)²/N, with a hand-derived gradient.

    Input    x       float32 [b, features]
    Output   y       float32 [b]
    Weights  2 at one column
    Source   Legendre 1805, "Nouvelles méthodes pour la détermination des orbites des comètes"
    """
    model = LinearRegression(config, name="linear_regression")
    # This optimizer takes no step. It holds the learning rate where schedules look for it.
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


@keras.saving.register_keras_serializable("ladle")
class LogisticRegression(_Line):
    """p = σ(w·x + b), fitted by cross-entropy."""

    def __init__(self, config: Any, width: int | None = None, **kwargs: Any) -> None:
        pixels = config.height * config.width * config.channels if width is None else width
        super().__init__(config, pixels, **kwargs)
        self._figures = [keras.metrics.Mean(name="loss"), keras.metrics.Mean(name="accuracy")]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._figures

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, h, w, c] in [0, 1] -> logits [b, 2]; that of the first class is 0."""
        # Softmax over (0, logit) is the sigmoid of the logit, so the signatures of other classifiers fit this one.
        logit = self.line(self._flat(image))
        return tf.stack([tf.zeros_like(logit), logit], axis=1)

    def _flat(self, image: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.cast(image, tf.float32), [tf.shape(image)[0], int(np.prod(image.shape[1:]))])

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of stochastic gradient descent on (image, label); return running means of loss and accuracy."""
        image, label = batch
        x, y = self._flat(image), tf.cast(label, tf.float32)
        logit = self.line(x)
        self.descend(cross_entropy_gradient(x, tf.sigmoid(logit), y))
        return self._results(logit, y)

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        image, label = batch
        return self._results(self.line(self._flat(image)), tf.cast(label, tf.float32))

    def _results(self, logit: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        self._figures[0].update_state(tf.nn.sigmoid_cross_entropy_with_logits(y, logit))
        self._figures[1].update_state(tf.cast((logit > 0) == (y > 0.5), tf.float32))
        return {metric.name: metric.result() for metric in self._figures}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> LogisticRegression:
        return build_logistic(from_saved(LogisticConfig, saved["config"]))


def build_logistic(config: LogisticConfig) -> LogisticRegression:
    """One sigmoid unit for two classes; w and b start at 0. Cross-entropy, with a hand-derived gradient.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, 2]
    Weights  785 at 28×28×1
    Source   Cox 1958, "The regression analysis of binary sequences"

    ValueError unless there are two classes.
    """
    if config.num_classes != 2:
        raise ValueError(f"num_classes is {config.num_classes}; expected 2: name two labels with --classes")
    model = LogisticRegression(config, name="logistic_regression")
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


@dataclass(frozen=True)
class TableConfig(tables.ColumnsConfig):
    """Options of linear and logistic regression on a table."""

    batch_size: int = option(32, "examples per step")
    epochs: int = option(100, "passes over the training examples")
    learning_rate: float = option(5e-2, "step size of plain gradient descent")


@keras.saving.register_keras_serializable("ladle")
class LinearTable(LinearRegression):
    """Linear regression on the standardised columns of a table; errors are in units of the target's deviation."""

    def __init__(self, config: TableConfig, **kwargs: Any) -> None:
        columns = tables.columns_layer(config)
        super().__init__(config, width=columns.width, **kwargs)
        self._columns = columns

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, columns] -> [b]."""
        return self.config.target_mean + self.config.target_deviation * self.line(self._columns(x))

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        return super().train_step(self._standard(batch))

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        return super().test_step(self._standard(batch))

    def _standard(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = batch
        return self._columns(x), (tf.cast(y, tf.float32) - self.config.target_mean) / self.config.target_deviation

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> LinearTable:
        return build_table(from_saved(TableConfig, saved["config"]))


@keras.saving.register_keras_serializable("ladle")
class LogisticTable(LogisticRegression):
    """Logistic regression on the standardised columns of a table."""

    def __init__(self, config: TableConfig, **kwargs: Any) -> None:
        columns = tables.columns_layer(config)
        super().__init__(config, width=columns.width, **kwargs)
        self._columns = columns

    def _flat(self, x: tf.Tensor) -> tf.Tensor:
        return self._columns(x)

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> LogisticTable:
        return build_logistic_table(from_saved(TableConfig, saved["config"]))


def build_table(config: TableConfig) -> LinearTable:
    """Linear regression on a table, as `build`; columns are standardised, and categories one-hot."""
    model = LinearTable(config, name="linear_regression")
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


def build_logistic_table(config: TableConfig) -> LogisticTable:
    """Logistic regression on a table, as `build_logistic`. ValueError unless the target has two classes."""
    if config.num_classes != 2:
        raise ValueError(f"{config.target} has {config.num_classes} classes; expected 2: train mlp")
    model = LogisticTable(config, name="logistic_regression")
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


LINEAR = "Legendre 1805, Nouvelles méthodes pour la détermination des orbites des comètes"
LOGISTIC = "Cox 1958, The regression analysis of binary sequences"

NETWORKS = [
    Network(
        name="linear_regression",
        task="regress",
        summary="Linear regression by gradient descent with a hand-derived gradient.",
        config=LinearConfig(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=2,
        tiny={"epochs": 3, "learning_rate": 0.05},
        presets={"quick": {"epochs": 300}, "full": {"epochs": 500}},  # from there on the rounding of float32 is larger
        source=LINEAR,
        tables={
            "regress": tables.network(
                "linear_regression", LINEAR, classes=False, config=TableConfig(), build=build_table
            )
        },
    ),
    Network(
        name="logistic_regression",
        task="classify",
        summary="Logistic regression on two classes of images with a hand-derived gradient.",
        config=LogisticConfig(),
        build=build_logistic,
        signatures=image_signatures,
        example=image_example,
        parameters=785,
        tiny={"epochs": 1, "batch_size": 16, "classes": ("digit 0", "digit 1")},
        presets={"quick": {"epochs": 5}, "full": {"epochs": 30}},
        source=LOGISTIC,
        tables={
            "classify": tables.network(
                "logistic_regression", LOGISTIC, classes=True, config=TableConfig(), build=build_logistic_table
            )
        },
    ),
]
