"""Sentiment: a recurrent network reads a review word by word and estimates the probability that it is positive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ladle.models._blocks import seeds
from ladle.models._claims import accuracy
from ladle.models._network import Network, option
from ladle.models._norms import report_norms
from ladle.models._optimizers import optimizer
from ladle.models._sentiment import TextConfig, example, signatures


@dataclass(frozen=True)
class Config(TextConfig):
    """Layer widths and type of recurrent layer."""

    embedding_dim: int = option(100, "length of a word vector")
    layer: str = option("lstm", "recurrent layer: rnn_cell | rnn | lstm | gru")
    units: int = option(64, "units of each recurrent layer")
    layers: int = option(2, "recurrent layers")
    dropout: float = option(0.5, "dropout rate before each recurrent layer")
    clip_norm: float = option(5.0, "clip the gradient of each weight to this norm; 0: no clipping")


@keras.saving.register_keras_serializable("ladle")
class Unrolled(keras.layers.Layer):  # type: ignore[misc]
    """A SimpleRNNCell unrolled by hand: each step takes the state of the one before."""

    def __init__(self, units: int, return_sequences: bool, initializers: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.return_sequences = units, return_sequences
        self.cell = keras.layers.SimpleRNNCell(units, **initializers)

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        self.cell.build((x_shape[0], x_shape[2]))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """float32 [b, t, d] -> states float32 [b, t, units], or the last state [b, units]."""
        # Zeros made from x have its batch size, which is unknown when the graph is built.
        state = tf.zeros_like(x[:, 0, :1]) * tf.zeros([1, self.units], x.dtype)  # [b, units]
        states = []
        for step in range(x.shape[1]):
            output, [state] = self.cell(x[:, step], [state])
            states.append(output)
        return tf.stack(states, axis=1) if self.return_sequences else states[-1]

    def compute_output_shape(self, x_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*x_shape[:2], self.units) if self.return_sequences else (x_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        cell = self.cell.get_config()
        initializers = {name: cell[name] for name in ("kernel_initializer", "recurrent_initializer")}
        own = {"units": self.units, "return_sequences": self.return_sequences, "initializers": initializers}
        return {**super().get_config(), **own}


def _recurrent(config: Config, seed: Iterator[int], last: bool, name: str) -> keras.Layer:
    """One recurrent layer, [b, t, d] -> [b, t, units], or [b, units] if `last`. ValueError for an unknown layer."""
    initializers = {
        "kernel_initializer": keras.initializers.GlorotUniform(next(seed)),
        "recurrent_initializer": keras.initializers.Orthogonal(seed=next(seed)),
    }
    match config.layer:
        case "rnn_cell":
            return Unrolled(config.units, not last, initializers, name=name)
        case "rnn":
            return keras.layers.SimpleRNN(config.units, return_sequences=not last, name=name, **initializers)
        case "lstm":
            kind = keras.layers.LSTM
        case "gru":
            kind = keras.layers.GRU
        case _:
            raise ValueError(f'unknown layer "{config.layer}"; expected rnn_cell, rnn, lstm or gru')
    # TensorFlow's own loop: a cuDNN kernel cannot be converted to ONNX and would tie the SavedModel to a GPU.
    return kind(config.units, use_cudnn=False, return_sequences=not last, name=name, **initializers)


def build(config: Config) -> keras.Model:
    """An embedding, stacked recurrent layers, and one logit from the last state.

    Padding is in front of the text and is read like a word, so no mask is needed. Dropout comes before each recurrent
    layer, not within its steps.

    Input    tokens  int32 [b, max_length]  0 padding, 1 start, 2 unknown, words from 3
    Output   logits  float32 [b, 1]  of being positive
    Weights  1,075,329 as two LSTM layers, 1,056,897 as GRU, 1,018,881 as SimpleRNN, unrolled or not
    Source   Elman 1990, "Finding structure in time"; Hochreiter, Schmidhuber 1997, "Long short-term memory";
             Cho et al. 2014, arXiv:1406.1078; data: Maas et al. 2011
    """
    seed = seeds(config.seed)
    tokens = keras.Input((config.max_length,), dtype="int32", name="tokens")
    table = keras.initializers.RandomUniform(-0.05, 0.05, seed=next(seed))
    x = keras.layers.Embedding(config.vocab_size, config.embedding_dim, embeddings_initializer=table, name="embedding")(
        tokens
    )  # [b, t, embedding_dim]
    for n in range(1, config.layers + 1):
        x = keras.layers.Dropout(config.dropout, seed=next(seed), name=f"dropout{n}")(x)
        x = _recurrent(config, seed, n == config.layers, f"{config.layer}{n}")(x)  # last: [b, units]
    kernel = keras.initializers.GlorotUniform(next(seed))
    logits = keras.layers.Dense(1, kernel_initializer=kernel, dtype="float32", name="logits")(x)
    model = keras.Model(tokens, logits, name=f"sentiment_{config.layer}")
    model.compile(
        optimizer=optimizer(config, model.trainable_variables),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
        jit_compile=False,
    )
    report_norms(model, config)
    return model


TINY: Mapping[str, Any] = {
    "vocab_size": 50,
    "max_length": 12,
    "embedding_dim": 8,
    "units": 8,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 1e-2,
}


def _row(
    layer: str, summary: str, parameters: int, source: str, least: float, full: Mapping[str, Any] | None = None
) -> Network:
    return Network(
        name=f"sentiment_{layer}",
        task="sentiment",
        summary=f"{summary} that classify film reviews as positive or negative.",
        config=Config(layer=layer),
        build=build,
        signatures=signatures,
        example=example,
        parameters=parameters,
        tiny=TINY,
        presets={"quick": {"epochs": 2}, "full": full or {}},
        aim="none at 80 tokens of this split; accuracy 0.8889 on whole reviews: Maas et al. 2011, table 2, "
        "another method",
        source=source,
        claims=(accuracy(least, "imdb"),),
    )


ELMAN = "Elman 1990, Finding structure in time, Cognitive Science 14(2)"
NETWORKS = [
    _row("rnn_cell", "Two simple recurrent cells, unrolled by hand,", 1_018_881, ELMAN, 0.78),
    _row("rnn", "Two simple recurrent layers", 1_018_881, ELMAN, 0.78),
    _row(
        "lstm",
        "Two LSTM layers",
        1_075_329,
        "Hochreiter, Schmidhuber 1997, Long short-term memory, Neural Computation 9(8)",
        0.82,
        {"schedule": "cosine"},  # at a constant rate the third and fourth epoch make it worse
    ),
    _row(
        "gru",
        "Two GRU layers",
        1_056_897,
        "Cho et al. 2014, Learning phrase representations using RNN encoder-decoder, arXiv:1406.1078",
        0.82,
    ),
]
