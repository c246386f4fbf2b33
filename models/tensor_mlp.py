"""A multi-layer perceptron of plain tensors: x @ w + b, squared error, and a hand-written training step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models._blocks import Pair, Saved, from_saved, seeds
from ladle.models._claims import accuracy
from ladle.models._classifier import ImagesConfig, example, signatures
from ladle.models._network import Network, option
from ladle.models._norms import norms, update
from ladle.models._optimizers import clipped


@dataclass(frozen=True)
class Config(ImagesConfig):
    """Layer widths, initial weights and gradient clipping."""

    data: str = option("mnist", "data set (`ladle data` lists them)")
    units: tuple[int, ...] = option((256, 128), "units of each hidden layer")
    initial_deviation: float = option(0.1, "standard deviation of the initial weights (truncated normal)")
    clip_global_norm: float = option(15.0, "clip the gradients of all weights to this joint norm; 0: no clipping")


@keras.saving.register_keras_serializable("ladle")
class TensorMLP(Saved):
    """Weights and biases are plain variables; the training step is written by hand."""

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        seed = seeds(config.seed)
        widths = (config.height * config.width * config.channels, *config.units, config.num_classes)
        self.pairs = []
        for n, shape in enumerate(itertools.pairwise(widths), 1):
            draw = keras.initializers.TruncatedNormal(stddev=config.initial_deviation, seed=next(seed))
            self.pairs.append(Pair(shape, shape[1:], draw, name=f"pair{n}"))
        self._figures = [keras.metrics.Mean(name="loss"), keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        self._norms = norms(config)
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self._figures, *self._norms]

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, h, w, c] in [0, 1] -> outputs [b, num_classes], trained towards one-hot vectors."""
        x = tf.reshape(tf.cast(image, tf.float32), [tf.shape(image)[0], int(np.prod(image.shape[1:]))])
        *hidden, last = self.pairs
        for pair in hidden:
            x = tf.nn.relu(x @ pair.w + pair.b)
        return x @ last.w + last.b

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of plain gradient descent on (image, label); return running means of loss and accuracy."""
        image, label = batch
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        weights = [variable.value for pair in self.pairs for variable in (pair.w, pair.b)]  # tf.Variables
        with tf.GradientTape() as tape:
            logits = self(image, training=True)
            loss = self._squared_error(label, logits)
            share = loss / replicas  # the gradients of all replicas are summed below
        whole = tape.gradient(share, weights)
        gradients = clipped(whole, self.config)
        told = update(self._norms, whole, gradients)
        if replicas > 1:
            gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
        rate = tf.cast(self.optimizer.learning_rate, tf.float32)
        for variable, gradient in zip(weights, gradients, strict=True):
            variable.assign_sub(rate * gradient)
        return {**self._results(label, logits, loss), **told}

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the same metrics without a training step."""
        image, label = batch
        logits = self(image, training=False)
        return self._results(label, logits, self._squared_error(label, logits))

    def _squared_error(self, label: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean((tf.one_hot(label, self.config.num_classes) - logits) ** 2)

    def _results(self, label: tf.Tensor, logits: tf.Tensor, loss: tf.Tensor) -> dict[str, tf.Tensor]:
        self._figures[0].update_state(loss, sample_weight=tf.shape(label)[0])
        self._figures[1].update_state(label, logits)
        return {metric.name: metric.result() for metric in self._figures}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> TensorMLP:
        return build(from_saved(Config, saved["config"]))


def build(config: Config) -> TensorMLP:
    """784 -> 256 -> 128 -> 10 as plain tensors: relu(x @ w + b), mean squared error against one-hot labels.

    Trained by plain gradient descent, with gradients clipped to a global norm of 15.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes]
    Weights  235,146 at 28×28×1 and 10 classes
    Source   Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors"
    """
    model = TensorMLP(config, name="tensor_mlp")
    # This optimizer takes no step. It holds the learning rate where schedules look for it.
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


NETWORKS = [
    Network(
        name="tensor_mlp",
        task="classify",
        summary="A multi-layer perceptron of plain tensors with a hand-written training step.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=235_146,
        tiny={"units": (16, 12), "epochs": 1, "batch_size": 16, "learning_rate": 1e-2},
        presets={
            "quick": {"data": "fashion_mnist", "epochs": 20, "batch_size": 32},
            # At the teaching rate of 1e-3 a hundred epochs reach 0.77; clipping keeps this one from diverging.
            "full": {"epochs": 30, "batch_size": 32, "learning_rate": 0.5},
        },
        aim="accuracy 0.9695 on MNIST: LeCun et al. 1998, section III, 300 and 100 hidden units, squared error",
        source="Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors, Nature 323",
        claims=(accuracy(0.60, "fashion_mnist"),),
    ),
]
