"""Lists of tensors that loops read, or fill out of order, are in a graph what they are in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle.training.onnx.convert import frozen_signature, session, to_onnx
from ladle.training.onnx.rewrites import dense_lists

WIDTH = 6


def recurrence(x: tf.Tensor) -> tf.Tensor:
    """Each place from the two before it."""
    rows = tf.TensorArray(tf.float32, WIDTH, clear_after_read=False).write(0, x[:, 0]).write(1, x[:, 1])
    for n in tf.range(2, WIDTH):
        rows = rows.write(n, rows.read(n - 1) + 0.5 * rows.read(n - 2) * x[:, n])
    return rows.stack()


def out_of_order(x: tf.Tensor) -> tf.Tensor:
    rows = tf.TensorArray(tf.float32, WIDTH)
    for n in tf.range(WIDTH):
        rows = rows.write((n * 5) % WIDTH, x[:, n])
    return rows.stack()


def some_places(x: tf.Tensor) -> tf.Tensor:
    """What is not written is zero."""
    rows = tf.TensorArray(tf.float32, WIDTH, element_shape=[None])
    for n in tf.range(1, WIDTH, 2):
        rows = rows.write(n, x[:, n])
    return rows.stack()


def of_steps(x: tf.Tensor) -> tf.TensorArray:
    rows = tf.TensorArray(tf.float32, 4)
    for n in tf.range(4):
        rows = rows.write(n, x * tf.cast(n, tf.float32))
    return rows


def joined(x: tf.Tensor) -> tf.Tensor:
    return of_steps(x).concat()


def gathered(x: tf.Tensor) -> tf.Tensor:
    return of_steps(x).gather([3, 1])


def size_of_list(x: tf.Tensor) -> tf.Tensor:
    columns = tf.TensorArray(tf.float32, 0, dynamic_size=True).unstack(tf.transpose(x))
    total = tf.zeros_like(x[:, 0])
    for n in tf.range(columns.size()):
        total = total * 0.5 + columns.read(n)
    return total


def growing(x: tf.Tensor) -> tf.Tensor:
    rows = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[None])
    for n in tf.range(WIDTH):
        rows = rows.write(n, x[:, n])
    return rows.stack()


def chosen(x: tf.Tensor) -> tf.Tensor:
    """Columns are appended in a branch."""
    columns = tf.TensorArray(tf.float32, 0, dynamic_size=True, clear_after_read=False, element_shape=[None])
    for n in tf.range(WIDTH):
        if tf.reduce_sum(x[:, n]) >= 0:
            columns = columns.write(columns.size(), x[:, n])
    return columns.stack()


@pytest.mark.parametrize(
    "function", [recurrence, out_of_order, some_places, joined, gathered, size_of_list, growing, chosen]
)
def test_a_list_holds_what_was_written_where_it_was_written(function: Callable[[tf.Tensor], tf.Tensor]) -> None:
    compute = tf.function(lambda x: {"out": function(x)})
    model = to_onnx(compute, {"x": tf.TensorSpec([None, WIDTH], tf.float32)})
    run = session(model.SerializeToString(), threads=1)
    for rows in (3, 1, 0):
        x = np.random.default_rng(rows).normal(size=(rows, WIDTH)).astype(np.float32)
        np.testing.assert_allclose(run({"x": x})["out"], compute(x)["out"], rtol=1e-5, err_msg=f"{rows} rows")


@pytest.mark.parametrize(
    "layer", [keras.layers.LSTM(3), keras.layers.GRU(3, return_sequences=True)], ids=["last", "all"]
)
def test_a_recurrent_layer_keeps_its_loop(layer: keras.Layer) -> None:
    model = keras.Sequential([keras.Input((6,), dtype="int32"), keras.layers.Embedding(9, 4, mask_zero=True), layer])
    frozen, *_ = frozen_signature(lambda ids: {"out": model(ids)}, {"ids": tf.TensorSpec([None, 6], tf.int32)})
    assert not dense_lists.are_needed(frozen)
