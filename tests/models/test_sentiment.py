from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models._steps import UNKNOWN

WORDS = ("the", "a", "good", "bad")
LABELS = ("negative", "positive")


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    """A tiny model that has learnt good from bad, and its signatures."""
    network = models.get("sentiment_lstm")
    config = network.configured(**{**network.tiny, "vocab_size": 7, "dropout": 0.0})
    model = network.build(config)
    served = network.signatures(model, config, models.Assets(LABELS, WORDS))
    tokens = served["text"].before[0]({"text": tf.constant(["a good", "the bad", "good", "bad"])})["tokens"]
    step = tf.function(model.train_step)
    for _ in range(60):
        step((tokens, tf.constant([1.0, 0.0, 1.0, 0.0])))
    return config, served


def test_it_has_the_shape_and_recipe_that_are_fixed() -> None:
    network = models.get("sentiment_lstm")
    config, model = network.config, network.build(network.config)
    assert (config.vocab_size, config.max_length, config.embedding_dim, config.units) == (10_000, 80, 100, 64)
    assert (config.layers, config.dropout, config.epochs, config.learning_rate) == (2, 0.5, 4, 1e-3)
    assert [type(layer).__name__ for layer in model.layers if "lstm" in layer.name] == ["LSTM", "LSTM"]
    assert model.optimizer.clipnorm == 5.0
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert model.output_shape == (None, 1)


def test_loss_falls_on_one_batch(tiny: Any, batch: Any, losses: Any) -> None:
    config = tiny("sentiment_lstm", dropout=0.0)
    values = losses(models.get("sentiment_lstm").build(config), batch("sentiment_lstm", config), steps=60)
    assert values[-1] < 0.8 * values[0]


def test_text_tokens_and_examples_are_answered_alike(trained: tuple[Any, Any]) -> None:
    _, served = trained
    texts = [b"A GOOD!", b"the bad<br />", b"good"]
    answer = served["text"](text=tf.constant(texts))
    assert {k: (v.dtype, v.shape.as_list()) for k, v in answer.items()} == {
        "logits": (tf.float32, [3, 1]),
        "probability": (tf.float32, [3]),
        "class_id": (tf.int64, [3]),
        "label": (tf.string, [3]),
    }
    assert answer["label"].numpy().tolist() == [b"positive", b"negative", b"positive"]
    assert answer["class_id"].numpy().tolist() == [1, 0, 1]
    np.testing.assert_allclose(answer["probability"], tf.sigmoid(answer["logits"][:, 0]), atol=1e-6)

    tokens = served["text"].before[0]({"text": tf.constant(texts)})["tokens"]
    np.testing.assert_array_equal(served["serving_default"](tokens=tokens)["logits"], answer["logits"])

    features = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])) for text in texts]
    examples = [tf.train.Example(features=tf.train.Features(feature={"text": f})) for f in features]
    by_example = served["classify"](inputs=tf.constant([e.SerializeToString() for e in examples]))
    np.testing.assert_allclose(by_example["scores"][:, 1], answer["probability"], atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(by_example["scores"], -1), 1, atol=1e-6)
    assert by_example["classes"].numpy()[0].tolist() == [b"negative", b"positive"]


def test_words_of_one_meaning_are_neighbours(trained: tuple[Any, Any]) -> None:
    """Cosines are those of the embedding; "good" and "bad" were learnt to be opposites."""
    _, served = trained
    answer = served["neighbours"](word=tf.constant(["good", "A GOOD!", "xyzzy", ""]))
    assert answer["neighbours"].shape == (4, len(WORDS))
    assert answer["known"].numpy().tolist() == [True, True, False, False]
    near, cosines = answer["neighbours"].numpy()[0].tolist(), answer["similarity"].numpy()[0]
    assert near[-1] == b"good"  # a word is not its own neighbour
    assert (np.diff(cosines) <= 0).all()
    assert cosines[near.index(b"bad")] < 0
    assert answer["neighbours"].numpy()[1].tolist() == near


def test_a_token_beyond_the_vocabulary_is_an_unknown_word(trained: tuple[Any, Any]) -> None:
    config, served = trained
    strange = np.zeros((3, config.max_length), np.int32)
    strange[:, -1] = [config.vocab_size, -1, UNKNOWN]
    logits = served["serving_default"](tokens=tf.constant(strange))["logits"].numpy()
    assert logits[0] == logits[1] == logits[2]


@pytest.mark.parametrize(
    ("assets", "message"),
    [
        (models.Assets(("positive",), WORDS), "expected two"),
        (models.Assets(LABELS, tuple(map(str, range(48)))), "expected at most vocab_size 50"),
    ],
    ids=["labels", "words"],
)
def test_labels_and_words_that_do_not_fit_are_refused(tiny: Any, assets: models.Assets, message: str) -> None:
    network, config = models.get("sentiment_lstm"), tiny("sentiment_lstm")
    with pytest.raises(ValueError, match=message):
        network.signatures(network.build(config), config, assets)


def test_dropout_acts_in_training_alone(tiny: Any, batch: Any) -> None:
    config = tiny("sentiment_lstm")
    model = models.get("sentiment_lstm").build(config)
    tokens, _ = batch("sentiment_lstm", config)
    np.testing.assert_array_equal(model(tokens, training=False), model(tokens, training=False))
    assert np.abs(model(tokens, training=True) - model(tokens, training=True)).max() > 0
