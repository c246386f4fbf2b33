"""Shared by regression networks: config, signatures, example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._network import Assets, Config, option
from ladle.models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class RegressionConfig(Config):
    """Data set and number of columns."""

    data: str = option("boston_housing", "data set (`ladle data` lists them)")
    features: int = option(13, "columns per row")


def signatures(model: Any, config: RegressionConfig, assets: Assets) -> dict[str, Signature]:
    """Signatures that return one number for each row.

    serving_default  x float32 [b, features]                           -> y float32 [b]
    regress          inputs string [b], tf.Example with floats `x`     -> outputs float32 [b]
    """

    def predict(x: tf.Tensor) -> Tensors:
        y = tf.reshape(tf.cast(model(x, training=False), tf.float32), [-1])  # [b]
        return {"y": y, "outputs": y}

    core = Core("model", predict, {"x": tf.TensorSpec([None, config.features], tf.float32, name="x")})
    parse = steps.ParseExample("x", (config.features,))
    return {
        "serving_default": Signature(core, ("y",)),
        "regress": Signature(core, ("outputs",), before=[parse], method="regress"),
    }


def example(config: RegressionConfig) -> dict[str, np.ndarray]:
    """x float32 [4, features] ~ N(0, 1)."""
    return {"x": np.random.default_rng(config.seed).normal(size=(4, config.features)).astype(np.float32)}
