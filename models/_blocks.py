"""Building blocks of several families: seeds, models that save their config, losses of custom training steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

C = TypeVar("C")


def seeds(seed: int) -> Iterator[int]:
    """Yield independent seeds, one for each layer with random numbers. The same `seed` gives the same sequence."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def from_saved(config: type[C], fields: Mapping[str, Any]) -> C:
    """Rebuild a config from the fields in a model file, where JSON turned tuples into lists."""
    return config(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


class Saved(keras.Model):  # type: ignore[misc]
    """A model that can be rebuilt from its config alone. `build` also compiles it, so no compile config is saved."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    def get_config(self) -> dict[str, Any]:
        return {"config": dataclasses.asdict(self.config)}

    def get_compile_config(self) -> None:
        """Save nothing: `build` compiles the model."""

    def compile_from_config(self, config: Any) -> None:
        """Do nothing: `build` has compiled the model."""


def judged(label: float, score: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy in nats of logits against one label for all of them: float32 [b, 1] -> []."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(score), label), score))


class Pair(keras.layers.Layer):  # type: ignore[misc]
    """Two plain variables, w and b. They are a layer because Keras cannot save a model's own variables to `.h5`."""

    def __init__(self, w: tuple[int, ...], b: tuple[int, ...], initializer: Any = "zeros", **kwargs: Any) -> None:
        """Create w and b with these shapes; `initializer` is for w, b starts at zero."""
        super().__init__(**kwargs)
        self.w = self.add_weight(shape=w, initializer=initializer, name="w", dtype="float32")
        self.b = self.add_weight(shape=b, initializer="zeros", name="b", dtype="float32")
        self.built = True


def scaled_loss(optimizer: keras.optimizers.Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """Scale the mean loss of a batch before a custom `train_step` differentiates it.

    The loss is divided by the number of replicas, as the strategy sums their gradients, and scaled for mixed precision.
    """
    return optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)
