from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle import models
from ladle.models._steps import PAD
from ladle.models.bag_of_words import WordsPresent


def test_order_repetition_and_padding_do_not_count() -> None:
    layer = WordsPresent(10, 3, seed=1)
    once = layer(tf.constant([[PAD, PAD, PAD, 4, 7]]))
    again = layer(tf.constant([[PAD, 7, 4, 4, 7]]))
    np.testing.assert_allclose(once, again, atol=1e-7)
    rows = layer.embeddings.numpy()
    np.testing.assert_allclose(once[0], rows[4] + rows[7], atol=1e-6)
    assert layer(tf.zeros([2, 5], tf.int32)).numpy().tolist() == [[0.0] * 3] * 2  # no words: the bias


def test_it_has_the_widths_of_the_over_fitting_chapter_and_can_be_held(tiny: Any) -> None:
    network = models.get("sentiment_bow")
    assert network.config.units == (16, 16)
    config = tiny("sentiment_bow", dropout=0.5, kernel_l2=1e-3)
    model = network.build(config)
    assert [type(layer).__name__ for layer in model.layers].count("Dropout") == 2
    penalties = tf.reduce_sum(model.losses)
    wanted = 1e-3 * sum(tf.reduce_sum(model.get_layer(n).weights[0] ** 2) for n in ("embedding", "dense2"))
    np.testing.assert_allclose(penalties, wanted, rtol=1e-5)


def test_a_saved_model_keeps_its_words(tiny: Any, tmp_path: Any) -> None:
    model = models.get("sentiment_bow").build(tiny("sentiment_bow", kernel_l2=1e-3))
    model.save(tmp_path / "bow.keras")
    back = keras.models.load_model(tmp_path / "bow.keras")
    tokens = np.random.default_rng(0).integers(0, 50, (3, 12), np.int32)
    np.testing.assert_allclose(model(tokens), back(tokens), atol=1e-6)
