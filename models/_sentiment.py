"""Shared by the sentiment networks: config, signatures, example."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._network import Assets, Config, option
from ladle.models._optimizers import OptimizerConfig
from ladle.models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class TextConfig(OptimizerConfig, Config):
    """Vocabulary and length of a text."""

    data: str = option("imdb", "data set (`ladle data` lists them)")
    epochs: int = option(4, "passes over the training examples")
    monitor: str = option(
        "val_accuracy", "metric that selects the best epoch: highest for `accuracy`, lowest for `loss`"
    )
    vocab_size: int = option(10_000, "number of token ids: 3 special tokens and the most frequent words")
    max_length: int = option(80, "tokens per text; longer texts keep their last ones")


def signatures(model: keras.Model, config: TextConfig, assets: Assets) -> dict[str, Signature]:
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


def example(config: TextConfig) -> dict[str, np.ndarray]:
    """tokens int32 [4, max_length]: random words in texts of different lengths."""
    random = np.random.default_rng(config.seed)
    tokens = random.integers(steps.FIRST_WORD, config.vocab_size, (4, config.max_length), dtype=np.int32)
    for row, share in zip(tokens, (0.9, 0.5, 0.2, 0.0), strict=True):
        padding = int(share * config.max_length)
        row[:padding], row[padding] = steps.PAD, steps.START
    return {"tokens": tokens}
