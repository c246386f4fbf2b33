"""Bag of words: which words a review contains, whatever their order, tells most of its sentiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ladle.models._blocks import seeds
from ladle.models._claims import accuracy
from ladle.models._layers import Layers, Penalty
from ladle.models._network import Network, option
from ladle.models._norms import report_norms
from ladle.models._optimizers import optimizer
from ladle.models._sentiment import TextConfig, example, signatures
from ladle.models._steps import PAD


@dataclass(frozen=True)
class Config(TextConfig):
    """Layer widths and regularisation."""

    epochs: int = option(20, "passes over the training examples")
    batch_size: int = option(512, "examples per step")
    max_length: int = option(500, "tokens per text; longer texts keep their last ones")
    units: tuple[int, ...] = option((16, 16), "units of each hidden layer")
    dropout: float = option(0.0, "dropout rate after each hidden layer")
    kernel_l1: float = option(0.0, "L1 regularisation of the kernel of each hidden layer")
    kernel_l2: float = option(0.0, "L2 regularisation of the kernel of each hidden layer")


@keras.saving.register_keras_serializable("ladle")
class WordsPresent(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer on the multi-hot vector of a text's words: int [b, t] -> float32 [b, units], without activation.

    The multi-hot vector has a 1 for each id in the text, however often it occurs, and 0 for padding. The row of a word
    in the kernel, `embeddings` [vocab_size, units], is the word's vector.
    """

    def __init__(self, vocab_size: int, units: int, seed: int = 0, regularizer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size, self.units, self.seed = vocab_size, units, seed
        self.regularizer = keras.regularizers.get(regularizer)

    def build(self, tokens_shape: tuple[int | None, ...]) -> None:
        self.embeddings = self.add_weight(
            shape=(self.vocab_size, self.units),
            initializer=keras.initializers.GlorotUniform(self.seed),
            regularizer=self.regularizer,
            name="embeddings",
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        tokens = tf.cast(tokens, tf.int32)
        rows = tf.broadcast_to(tf.range(tf.shape(tokens)[0])[:, tf.newaxis], tf.shape(tokens))
        places = tf.stack([rows, tokens], axis=-1)  # [b, t, 2]
        # Equal places get equal values, so their order does not matter.
        present = tf.cast(tokens != PAD, self.compute_dtype)
        bag = tf.zeros([tf.shape(tokens)[0], self.vocab_size], self.compute_dtype)
        bag = tf.tensor_scatter_nd_update(bag, places, present)  # [b, vocab_size]
        return bag @ tf.cast(self.embeddings, self.compute_dtype) + tf.cast(self.bias, self.compute_dtype)

    def compute_output_shape(self, tokens_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (tokens_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        own = {"vocab_size": self.vocab_size, "units": self.units, "seed": self.seed}
        return {**super().get_config(), **own, "regularizer": keras.regularizers.serialize(self.regularizer)}


def build(config: Config) -> keras.Model:
    """Multi-hot words 10,000 -> 16 -> 16 -> 1 with ReLU between them: small, and still it over-fits.

    Its validation loss is lowest after a few epochs and rises from then on, while the training loss goes on falling.
    `--units 4,4`, `--kernel-l2 1e-3` and `--dropout 0.5` are the three ways to hold it.

    Input    tokens  int32 [b, max_length]  0 padding, 1 start, 2 unknown, words from 3
    Output   logits  float32 [b, 1]  of being positive
    Weights  160,305 at 10,000 token ids
    Source   Harris 1954, "Distributional structure"; data: Maas et al. 2011
    """
    seed = seeds(config.seed)
    layers = Layers(seed)
    kernel = Penalty(config.kernel_l1, config.kernel_l2)
    tokens = keras.Input((config.max_length,), dtype="int32", name="tokens")
    first, *others = config.units
    x = WordsPresent(config.vocab_size, first, next(seed), kernel.regularizer(), name="embedding")(tokens)
    x = layers.dropout(keras.layers.ReLU(name="embedding_relu")(x), config.dropout, "dropout1")
    for n, units in enumerate(others, 2):
        x = layers.dropout(layers.dense(x, units, f"dense{n}", kernel), config.dropout, f"dropout{n}")
    model = keras.Model(tokens, layers.logits(x, 1), name="sentiment_bow")
    model.compile(
        optimizer=optimizer(config, model.trainable_variables),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
        jit_compile=False,
    )
    report_norms(model, config)
    return model


NETWORKS = [
    Network(
        name="sentiment_bow",
        task="sentiment",
        summary="Dense layers on the set of words of a film review; they classify it as positive or negative.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=160_305,
        tiny={"vocab_size": 50, "max_length": 12, "units": (8, 4), "epochs": 1, "batch_size": 16},
        presets={"quick": {"epochs": 4}, "full": {}},
        aim="accuracy 0.8889 on whole reviews: Maas et al. 2011, table 2, another method and the whole set",
        source="Harris 1954, Distributional structure, Word 10(2-3)",
        claims=(accuracy(0.85, "imdb"),),
    )
]
