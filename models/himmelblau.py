"""Himmelblau's function: gradient descent inside the graph finds one of its four minima."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models._blocks import Saved, from_saved
from ladle.models._claims import reaches_minima
from ladle.models._network import Assets, Config, Network, option
from ladle.models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class HimmelblauConfig(Config):
    """Start points, number of steps and step size."""

    data: str = option("synthetic_starts", "data set (`ladle data` lists them)")
    epochs: int = option(1, "passes over the start points; nothing is trained")
    features: int = option(2, "coordinates of a point")
    learning_rate: float = option(0.01, "step size of the descent")
    steps: int = option(200, "steps of the descent")
    starts: tuple[float, ...] = option(
        (1.0, 0.0, -4.0, 0.0, 4.0, 0.0), "start points x,y,x,y,... of the descents in the report"
    )


def himmelblau(point: tf.Tensor) -> tf.Tensor:
    """f(x, y) = (x² + y - 11)² + (x + y² - 7)²: float32 [..., 2] -> [...]."""
    x, y = point[..., 0], point[..., 1]
    return (x**2 + y - 11.0) ** 2 + (x + y**2 - 7.0) ** 2


def slope(point: tf.Tensor) -> tf.Tensor:
    """The gradient of `himmelblau`, derived by hand: float32 [..., 2] -> [..., 2]."""
    x, y = point[..., 0], point[..., 1]
    a, b = x**2 + y - 11.0, x + y**2 - 7.0
    return tf.stack([4.0 * x * a + 2.0 * b, 2.0 * a + 4.0 * y * b], axis=-1)


@keras.saving.register_keras_serializable("ladle")
class Descent(Saved):
    """Runs the descent. Its only weight is the step size, which is not trained."""

    def __init__(self, config: HimmelblauConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        constant = keras.initializers.Constant(config.learning_rate)
        self.rate = self.add_weight(shape=(), initializer=constant, trainable=False, name="rate", dtype="float32")
        self._figures = [keras.metrics.Mean(name="loss")]
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._figures

    def call(self, start: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Start points float32 [b, 2] -> points of the descent float32 [b, steps + 1, 2], from the start on."""
        rate, steps = self.rate.value, self.config.steps
        places = tf.range(steps + 1)[:, tf.newaxis]  # [steps + 1, 1]

        def step(n: tf.Tensor, point: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            point = point - rate * slope(point)
            return n + 1, point, tf.where(places == n, point[:, tf.newaxis], path)

        # One tensor, updated by `where`: ONNX has no TensorArray.
        path = tf.repeat(start[:, tf.newaxis], steps + 1, axis=1)  # [b, steps + 1, 2]
        return tf.while_loop(lambda n, *_: n <= steps, step, (tf.constant(1), start, path))[2]

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Train nothing; return the mean value of the function at the end of the descents."""
        self._figures[0].update_state(himmelblau(self(batch[0])[:, -1]))
        return {"loss": self._figures[0].result()}

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.train_step(batch)

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> Descent:
        return build(from_saved(HimmelblauConfig, saved["config"]))


def build(config: HimmelblauConfig) -> Descent:
    """Gradient descent on f(x, y) = (x² + y - 11)² + (x + y² - 7)² inside the graph: 200 steps of size 0.01.

    The four minima, where f is 0, are (3, 2), (-2.805118, 3.131312), (-3.779310, -3.283186) and (3.584428, -1.848126).
    From (1, 0), (-4, 0) and (4, 0) the descent reaches three of them.

    Input    start   float32 [b, 2]
    Output   path    float32 [b, steps + 1, 2]
    Weights  1: the step size
    Source   Himmelblau 1972, "Applied nonlinear programming"
    """
    model = Descent(config, name="himmelblau")
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


def signatures(model: Descent, config: HimmelblauConfig, assets: Assets) -> dict[str, Signature]:
    """Signatures for the descent and for the function itself, to draw its surface.

    serving_default  x float32 [b, 2], start points -> value float32 [b] at the end, minimum float32 [b, 2],
                     path float32 [b, steps + 1, 2]
    value            x float32 [b, 2] -> value float32 [b], f at each point
    """
    points = {"x": tf.TensorSpec([None, 2], tf.float32, name="x")}

    def descend(x: tf.Tensor) -> Tensors:
        path = model(x, training=False)
        return {"value": himmelblau(path[:, -1]), "minimum": path[:, -1], "path": path}

    def value(x: tf.Tensor) -> Tensors:
        return {"value": himmelblau(x)}

    return {
        "serving_default": Signature(Core("model", descend, points), ("value", "minimum", "path")),
        "value": Signature(Core("value", value, points), ("value",)),
    }


def example(config: HimmelblauConfig) -> dict[str, np.ndarray]:
    """x float32 [3, 2]: the starts of the config, which reach three minima."""
    return {"x": np.array(config.starts, np.float32).reshape(-1, 2)}


NETWORKS = [
    Network(
        name="himmelblau",
        task="regress",
        summary="Gradient descent on Himmelblau's function: from a start point to one of its four minima.",
        config=HimmelblauConfig(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=1,
        tiny={"steps": 50},
        presets={"quick": {}, "full": {}},
        source="Himmelblau 1972, Applied nonlinear programming",
        claims=(reaches_minima(3),),
        trained=False,
    ),
]
