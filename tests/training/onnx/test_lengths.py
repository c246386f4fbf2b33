"""Inputs of other lengths are refused where TensorFlow refuses them, and repeated where it repeats them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle.training.onnx.convert import session, to_onnx
from ladle.training.onnx.parity import Run

SPECS = {"a": tf.TensorSpec([None, 3], tf.float32), "b": tf.TensorSpec([None, 3], tf.float32)}


def check(compute: Any, run: Run, arrays: dict[str, np.ndarray]) -> None:
    """The graph answers what TensorFlow answers, and refuses what it refuses."""
    try:
        expected = compute(**arrays)["out"]
    except (tf.errors.OpError, ValueError):
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            run(arrays)
    else:
        told = str({name: array.shape for name, array in arrays.items()})
        np.testing.assert_allclose(run(arrays)["out"], expected, rtol=1e-5, atol=1e-6, err_msg=told)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: tf.einsum("bi,bi->b", a, b),
        lambda a, b: tf.einsum("b...,bi->bi", a[:, 0], b),
        lambda a, b: tf.gather(a, tf.cast(b > 0, tf.int32), batch_dims=1),
        lambda a, b: tf.concat(tf.dynamic_partition(a, tf.cast(b[:, 0] > 0, tf.int32), 2), 0),
        lambda a, b: tf.add_n([a, b, a]),
        lambda a, b: tf.compat.v1.where(a > 0, a, b),
        lambda a, b: tf.searchsorted(tf.sort(a), b),
        lambda a, b: tf.linalg.cross(a, b),
        lambda a, b: tf.linalg.solve(tf.eye(3, batch_shape=[tf.shape(a)[0]]) * 2.0, b[:, :, None]),
        lambda a, b: tf.linalg.set_diag(tf.reshape(tf.tile(a, [1, 3]), [-1, 3, 3]), b),
        lambda a, b: tf.math.in_top_k(tf.cast(b[:, 0] > 0, tf.int32), a, 1),
        lambda a, b: tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(b[:, 0] > 0, tf.int32), a * 100.0),
        lambda a, b: tf.sets.intersection(tf.cast(a, tf.int32), tf.cast(b, tf.int32)).values,
    ],
    ids=[
        "einsum", "einsum with an ellipsis", "gather", "dynamic partition", "add_n", "where of TensorFlow 1", "search",
        "cross product", "solve", "diagonals", "in top k", "sparse cross entropy", "sets",
    ],
)  # fmt: skip
def test_one_row_beside_many_is_refused(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> None:
    compute = tf.function(lambda a, b: {"out": function(a, b)})
    run = session(to_onnx(compute, SPECS).SerializeToString(), threads=1)
    random = np.random.default_rng(0)
    for rows in ((4, 4), (1, 1), (1, 4), (4, 1), (3, 2)):
        arrays = {name: random.normal(size=(n, 3)).astype(np.float32) for name, n in zip("ab", rows, strict=True)}
        check(compute, run, arrays)


def test_states_and_sequence_of_a_recurrent_layer_get_as_many_rows_as_the_longest() -> None:
    x, h, c = keras.Input((4, 3), name="x"), keras.Input((2,), name="h"), keras.Input((2,), name="c")
    model = keras.Model([x, h, c], keras.layers.LSTM(2)(x, initial_state=[h, c]))
    compute = tf.function(lambda x, h, c: {"out": model([x, h, c])})
    specs = {"x": tf.TensorSpec([None, 4, 3]), "h": tf.TensorSpec([None, 2]), "c": tf.TensorSpec([None, 2])}
    run = session(to_onnx(compute, specs).SerializeToString(), threads=1)
    random = np.random.default_rng(0)
    for rows in itertools.product((1, 5), repeat=3):
        shapes = {"x": (rows[0], 4, 3), "h": (rows[1], 2), "c": (rows[2], 2)}
        arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        np.testing.assert_allclose(run(arrays)["out"], compute(**arrays)["out"], atol=1e-6, err_msg=str(rows))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: tf.linalg.triangular_solve(tf.eye(3), a) + b[0, 0],
        lambda a, b: tf.einsum("bi,i->bi", a, tf.constant([1.0, 2.0, 3.0])) + b[0, 0],
        lambda a, b: tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(b), a),
    ],
    ids=["triangular solve", "einsum with a constant", "cross entropy"],
)
def test_one_column_beside_many_is_as_in_tensorflow(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> None:
    compute = tf.function(lambda a, b: {"out": function(a, b)})
    specs = {name: tf.TensorSpec([None, None], tf.float32) for name in "ab"}
    run = session(to_onnx(compute, specs).SerializeToString(), threads=1)
    random = np.random.default_rng(0)
    for shapes in (((3, 3), (3, 3)), ((3, 1), (3, 3)), ((3, 3), (3, 1)), ((1, 3), (4, 1)), ((2, 3), (2, 3))):
        arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in zip("ab", shapes, strict=True)}
        check(compute, run, arrays)
