"""What families share that is neither a network nor a signature: seeds, configs read back, the loss of an own step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

C = TypeVar("C")


def seeds(seed: int) -> Iterator[int]:
    """Independent seeds without end, the same ones for the same `seed`: one for each layer that draws numbers."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def from_saved(config: type[C], fields: Mapping[str, Any]) -> C:
    """The config whose fields a model file holds; JSON turned tuples into lists."""
    return config(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


class Saved(keras.Model):  # type: ignore[misc]
    """A model that its config alone builds again: `build` compiles it, so a file need not say how."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    def get_config(self) -> dict[str, Any]:
        return {"config": dataclasses.asdict(self.config)}

    def get_compile_config(self) -> None:
        """Nothing to save: `build` compiles."""

    def compile_from_config(self, config: Any) -> None:
        """Nothing to do: `build` compiled."""


def judged(label: float, score: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy, in nats, of scores (logits) against one label for all: float32 [b, 1] -> []."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(score), label), score))


class Pair(keras.layers.Layer):  # type: ignore[misc]
    """Two bare variables, w and b. A layer alone because Keras cannot write variables of a model itself to `.h5`."""

    def __init__(self, w: tuple[int, ...], b: tuple[int, ...], initializer: Any = "zeros", **kwargs: Any) -> None:
        """Of these shapes; w begins as the initializer says, b at zero."""
        super().__init__(**kwargs)
        self.w = self.add_weight(shape=w, initializer=initializer, name="w", dtype="float32")
        self.b = self.add_weight(shape=b, initializer="zeros", name="b", dtype="float32")
        self.built = True


def scaled_loss(optimizer: keras.optimizers.Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """The mean loss of a batch as an own `train_step` differentiates it.

    Divided by the replicas of the strategy, which adds their gradients up, and scaled for mixed precision.
    """
    return optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)
