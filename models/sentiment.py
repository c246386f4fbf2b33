"""Sentiment: a recurrent network reads a review word by word and says how likely it is to be praise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import _steps as steps
from models._blocks import seeds
from models._network import Assets, Network, option
from models._network import Config as BaseConfig
from models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class Config(BaseConfig):
    """Vocabulary, length of the texts, widths, and which recurrent layer."""

    data: str = option("imdb", "data set (`ladle data` lists them)")
    epochs: int = option(4, "passes over the training examples")
    monitor: str = option("val_accuracy", "figure that picks the best epoch; `accuracy` rises, `loss` falls")
    vocab_size: int = option(10_000, "token ids: 3 special ones and the most frequent words")
    max_length: int = option(80, "tokens of a text that are read, the last ones")
    embedding_dim: int = option(100, "numbers that stand for a word")
    layer: str = option("lstm", "recurrent layer: lstm")
    units: int = option(64, "units of each recurrent layer")
    layers: int = option(2, "recurrent layers")
    dropout: float = option(0.5, "share of each recurrent layer's inputs that training drops")
    clip_norm: float = option(5.0, "longest gradient of a weight; longer ones are scaled down")


def _lstm(config: Config, seed: Iterator[int], last: bool, name: str) -> keras.Layer:
    # TensorFlow's own loop: a cuDNN kernel could not be converted, and would tie a SavedModel to a GPU.
    return keras.layers.LSTM(config.units, use_cudnn=False, return_sequences=not last, name=name, **_initializers(seed))


def _initializers(seed: Iterator[int]) -> dict[str, Any]:
    return {
        "kernel_initializer": keras.initializers.GlorotUniform(next(seed)),
        "recurrent_initializer": keras.initializers.Orthogonal(seed=next(seed)),
    }


_LAYERS: dict[str, Callable[[Config, Iterator[int], bool, str], keras.Layer]] = {"lstm": _lstm}


def build(config: Config) -> keras.Model:
    """Embedding, recurrent layers on top of each other, one logit from the last state.

    Padding is read as a word of its own, in front of the text, so that no mask is needed. Dropout comes before each
    recurrent layer, not within its steps.

    Input    tokens  int32 [b, max_length]  0 padding, 1 start, 2 unknown, words from 3
    Output   logits  float32 [b, 1]  of being positive
    Weights  1,075,329 as two LSTM layers
    Source   Hochreiter, Schmidhuber 1997, "Long short-term memory"; data: Maas et al. 2011
    """
    seed = seeds(config.seed)
    tokens = keras.Input((config.max_length,), dtype="int32", name="tokens")
    table = keras.initializers.RandomUniform(-0.05, 0.05, seed=next(seed))
    x = keras.layers.Embedding(config.vocab_size, config.embedding_dim, embeddings_initializer=table, name="embedding")(
        tokens
    )  # [b, t, embedding_dim]
    for n in range(1, config.layers + 1):
        x = keras.layers.Dropout(config.dropout, seed=next(seed), name=f"dropout{n}")(x)
        x = _LAYERS[config.layer](config, seed, n == config.layers, f"{config.layer}{n}")(x)  # last: [b, units]
    kernel = keras.initializers.GlorotUniform(next(seed))
    logits = keras.layers.Dense(1, kernel_initializer=kernel, dtype="float32", name="logits")(x)
    model = keras.Model(tokens, logits, name=f"sentiment_{config.layer}")
    optimizer = keras.optimizers.Adam(config.learning_rate, clipnorm=config.clip_norm or None)
    optimizer.build(model.trainable_variables)  # so that a checkpoint finds its variables
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
        jit_compile=False,
    )
    return model


def signatures(model: keras.Model, config: Config, assets: Assets) -> dict[str, Signature]:
    """Token ids, text, and tf.Example.

    serving_default  tokens int32 [b, max_length] -> logits float32 [b, 1], probability float32 [b] of being positive,
                     class_id int64 [b], label string [b]; an id that the vocabulary has not is an unknown word
    text             text string [b], UTF-8       -> the same
    classify         inputs string [b], tf.Example with bytes `text` -> classes string, scores float32 [b, 2]

    ValueError unless there are two labels, negative first, and no more words than token ids.
    """
    if len(assets.labels) != 2:
        raise ValueError(f"{len(assets.labels)} labels for a sentiment; give two, the negative one first")
    if steps.FIRST_WORD + len(assets.vocabulary) > config.vocab_size:
        raise ValueError(
            f"{len(assets.vocabulary)} words and {steps.FIRST_WORD} special tokens exceed vocab_size "
            f"{config.vocab_size}; give fewer words"
        )

    def classify(tokens: tf.Tensor) -> Tensors:
        known = (tokens >= 0) & (tokens < config.vocab_size)
        logits = model(tf.where(known, tokens, steps.UNKNOWN), training=False)  # [b, 1]
        probability = tf.sigmoid(logits)
        return {
            "logits": logits,
            "probability": probability[:, 0],  # [b]
            "probabilities": tf.concat([1.0 - probability, probability], axis=-1),  # [b, 2]
            "class_id": tf.cast(logits[:, 0] > 0.0, tf.int64),  # [b]
        }

    core = Core("model", classify, {"tokens": tf.TensorSpec([None, config.max_length], tf.int32, name="tokens")})
    answer = ("logits", "probability", "class_id", "label")
    label = steps.LookupLabel(assets.labels)
    tokenize = steps.Tokenize(assets.vocabulary, config.max_length)
    parse = steps.ParseExample("text", (), tf.string)
    top = steps.TopClasses(assets.labels)
    return {
        "serving_default": Signature(core, answer, after=[label]),
        "text": Signature(core, answer, before=[tokenize], after=[label]),
        "classify": Signature(core, ("classes", "scores"), before=[parse, tokenize], after=[top], method="classify"),
    }


def example(config: Config) -> dict[str, np.ndarray]:
    """tokens int32 [4, max_length]: random words, the first texts shorter."""
    random = np.random.default_rng(config.seed)
    tokens = random.integers(steps.FIRST_WORD, config.vocab_size, (4, config.max_length), dtype=np.int32)
    for row, share in zip(tokens, (0.9, 0.5, 0.2, 0.0), strict=True):
        padding = int(share * config.max_length)
        row[:padding], row[padding] = steps.PAD, steps.START
    return {"tokens": tokens}


NETWORKS = [
    Network(
        name="sentiment_lstm",
        task="sentiment",
        summary="Two LSTM layers that tell a film review's praise from blame.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=1_075_329,
        tiny={
            "vocab_size": 50,
            "max_length": 12,
            "embedding_dim": 8,
            "units": 8,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 1e-2,
        },
        presets={"quick": {"epochs": 2}, "full": {}},
        source="Hochreiter, Schmidhuber 1997, Long short-term memory, Neural Computation 9(8)",
    ),
]
