"""Sentiment: a recurrent network reads a review word by word and estimates the probability that it is positive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._blocks import seeds
from ladle.models._claims import accuracy
from ladle.models._network import Assets, Network, option
from ladle.models._network import Config as BaseConfig
from ladle.models._norms import report_norms
from ladle.models._optimizers import OptimizerConfig, optimizer
from ladle.models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class Config(OptimizerConfig, BaseConfig):
    """Vocabulary, text length, layer widths and type of recurrent layer."""

    data: str = option("imdb", "data set (`ladle data` lists them)")
    epochs: int = option(4, "passes over the training examples")
    monitor: str = option(
        "val_accuracy", "metric that selects the best epoch: highest for `accuracy`, lowest for `loss`"
    )
    vocab_size: int = option(10_000, "number of token ids: 3 special tokens and the most frequent words")
    max_length: int = option(80, "tokens per text; longer texts keep their last ones")
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


def signatures(model: keras.Model, config: Config, assets: Assets) -> dict[str, Signature]:
    """Signatures that take token ids, text, tf.Example, or a word.

    serving_default  tokens int32 [b, max_length] -> logits float32 [b, 1], probability float32 [b] of being positive,
                     class_id int64 [b], label string [b]; an id outside the vocabulary counts as unknown
    text             text string [b], UTF-8       -> the same
    classify         inputs string [b], tf.Example with bytes `text` -> classes string, scores float32 [b, 2]
    neighbours       word string [b], UTF-8       -> neighbours string [b, 10], the words whose vectors in the learnt
                     embedding have the largest cosine with that of `word`; similarity float32 [b, 10], that cosine;
                     known bool [b]: false for words outside the vocabulary, which share one vector. Of several
                     words, the last counts

    ValueError unless there are two labels, negative first, and no more words than token ids.
    """
    if len(assets.labels) != 2:
        raise ValueError(f"got {len(assets.labels)} labels; expected two, the negative one first")
    if steps.FIRST_WORD + len(assets.vocabulary) > config.vocab_size:
        raise ValueError(
            f"got {len(assets.vocabulary)} words and {steps.FIRST_WORD} special tokens; expected at most vocab_size "
            f"{config.vocab_size}: give fewer words or raise vocab_size"
        )

    def classify(tokens: tf.Tensor) -> Tensors:
        # An id outside the table would fail on a CPU and read zeros on a GPU: make it an unknown word on both.
        known = (tokens >= 0) & (tokens < config.vocab_size)
        logits = model(tf.where(known, tokens, steps.UNKNOWN), training=False)  # [b, 1]
        probability = tf.sigmoid(logits)
        return {
            "logits": logits,
            "probability": probability[:, 0],  # [b]
            "probabilities": tf.concat([1.0 - probability, probability], axis=-1),  # [b, 2]
            "class_id": tf.cast(logits[:, 0] > 0.0, tf.int64),  # [b]
        }

    def similar(tokens: tf.Tensor) -> Tensors:
        word = tokens[:, -1]  # [b]
        vectors = tf.math.l2_normalize(model.get_layer("embedding").embeddings, axis=1)  # [vocab_size, d]
        words = vectors[steps.FIRST_WORD : steps.FIRST_WORD + len(assets.vocabulary)]
        place = word - steps.FIRST_WORD  # in the vocabulary
        known = (place >= 0) & (place < len(assets.vocabulary))
        own = tf.gather(vectors, tf.where(known, word, steps.UNKNOWN))  # [b, d]
        cosine = tf.matmul(own, words, transpose_b=True)  # [b, words]
        itself = tf.range(len(assets.vocabulary))[tf.newaxis] == place[:, tf.newaxis]
        return {"similarities": tf.where(itself, -1.0, cosine), "known": known}  # -1: a word is not its own neighbour

    inputs = {"tokens": tf.TensorSpec([None, config.max_length], tf.int32, name="tokens")}
    core = Core("model", classify, inputs)
    answer = ("logits", "probability", "class_id", "label")
    label = steps.LookupLabel(assets.labels)
    tokenize = steps.Tokenize(assets.vocabulary, config.max_length)
    parse = steps.ParseExample("text", (), tf.string)
    top = steps.TopClasses(assets.labels)
    embedding = Core("neighbours", similar, inputs)
    word = steps.Tokenize(assets.vocabulary, config.max_length, input="word")
    nearest = steps.NearestWords(assets.vocabulary)
    return {
        "serving_default": Signature(core, answer, after=[label]),
        "text": Signature(core, answer, before=[tokenize], after=[label]),
        "classify": Signature(core, ("classes", "scores"), before=[parse, tokenize], after=[top], method="classify"),
        "neighbours": Signature(embedding, ("neighbours", "similarity", "known"), before=[word], after=[nearest]),
    }


def example(config: Config) -> dict[str, np.ndarray]:
    """tokens int32 [4, max_length]: random words in texts of different lengths."""
    random = np.random.default_rng(config.seed)
    tokens = random.integers(steps.FIRST_WORD, config.vocab_size, (4, config.max_length), dtype=np.int32)
    for row, share in zip(tokens, (0.9, 0.5, 0.2, 0.0), strict=True):
        padding = int(share * config.max_length)
        row[:padding], row[padding] = steps.PAD, steps.START
    return {"tokens": tokens}


TINY: Mapping[str, Any] = {
    "vocab_size": 50,
    "max_length": 12,
    "embedding_dim": 8,
    "units": 8,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 1e-2,
}


def _row(layer: str, summary: str, parameters: int, source: str, least: float) -> Network:
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
        presets={"quick": {"epochs": 2}, "full": {}},
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
    ),
    _row(
        "gru",
        "Two GRU layers",
        1_056_897,
        "Cho et al. 2014, Learning phrase representations using RNN encoder-decoder, arXiv:1406.1078",
        0.82,
    ),
]
