"""Sparse and ragged tensors give in a graph what TensorFlow gives, with entries and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle.training.onnx import convert

TABLE = np.arange(30, dtype=np.float32).reshape(10, 3)
RAW = tf.raw_ops


def filled(x: tf.Tensor) -> dict[str, tf.Tensor]:
    found = RAW.SparseFillEmptyRows(
        indices=tf.where(x > 0), values=x[x > 0], dense_shape=tf.shape(x, tf.int64), default_value=np.int64(-9)
    )
    return dict(found._asdict())


def reshaped(x: tf.Tensor) -> dict[str, tf.Tensor]:
    sparse = tf.sparse.reshape(tf.sparse.from_dense(x), [-1, 2])
    return {"at": sparse.indices, "values": sparse.values, "shape": sparse.dense_shape}


def reordered(x: tf.Tensor) -> dict[str, tf.Tensor]:
    sparse = tf.sparse.from_dense(x)
    mixed = tf.SparseTensor(sparse.indices[::-1], sparse.values[::-1], sparse.dense_shape)
    return {"at": tf.sparse.reorder(mixed).indices, "values": tf.sparse.reorder(mixed).values}


def ragged(x: tf.Tensor) -> dict[str, tf.Tensor]:
    rows = tf.RaggedTensor.from_tensor(x, padding=0)
    sparse = rows.to_sparse()
    return {
        "dense": rows.to_tensor(-1),
        "cut": rows.to_tensor(-1, shape=[None, 2]),
        "at": sparse.indices,
        "values": sparse.values,
        "shape": sparse.dense_shape,
        "mean": tf.reduce_mean(tf.gather(TABLE, rows), 1),
        "of vectors": tf.gather(TABLE, rows).to_tensor(0.5),
    }


def bags(x: tf.Tensor) -> dict[str, tf.Tensor]:
    sparse = tf.sparse.from_dense(x)
    return {
        kind: tf.nn.safe_embedding_lookup_sparse(tf.constant(TABLE), sparse, combiner=kind)
        for kind in ("mean", "sum", "sqrtn")
    }


def others(x: tf.Tensor) -> dict[str, tf.Tensor]:
    sparse = tf.sparse.from_dense(x)
    part = tf.sparse.slice(sparse, [0, 1], [2, 2])
    return {
        "sum": tf.sparse.reduce_sum(sparse, 1),
        "slice": part.values,
        "at": part.indices,
        "softmax": tf.sparse.softmax(tf.sparse.map_values(tf.cast, sparse, tf.float32)).values,
        "times": (sparse * tf.constant([1, 2, 3, 4], tf.int64)).values,
    }


@pytest.mark.parametrize("function", [filled, reshaped, reordered, ragged, bags, others])
@pytest.mark.parametrize(
    "x",
    [
        [[0, 3, 0, 9], [0, 0, 0, 0], [1, 2, 0, 0]],
        [[5, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        np.zeros((0, 4)),
    ],
    ids=["some", "one", "none", "no rows"],
)
def test_entries_are_found_where_tensorflow_finds_them(function: Any, x: Any) -> None:
    array = np.asarray(x, np.int64)
    session = convert.session(
        convert.to_onnx(tf.function(function), {"x": tf.TensorSpec([None, 4], tf.int64)}).SerializeToString()
    )
    found, expected = session({"x": array}), function(tf.constant(array))
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)
