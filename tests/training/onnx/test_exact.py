"""Graphs agree with TensorFlow on NaN, infinities, extreme integers and ids outside a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from ladle.training.onnx import convert, ranges

NAN, INF = np.nan, np.inf
FLOATS = np.array(
    [[NAN, 1, 2], [1, NAN, 2], [3, 2, NAN], [NAN] * 3, [INF, 1, NAN], [-INF, NAN, -INF], [INF, INF, 0], [-0.0, 0, 1]],
    np.float32,
)
INT32 = np.array([[2**31 - 1, 2**31 - 2, -(2**31), -(2**31) + 1, 2**24 + 1, 2**24]], np.int32)
INT64 = np.array([[2**62 + 1, 2**62, -(2**63), 2**63 - 1, 2**53 + 1, 2**53]])
SMALL = np.array([[3, 0, 255, 255, 1, 2]], np.uint8)
HALF = np.array([[3, 0, -7, 60000, 1, 2]], np.float16)


def spec(array: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec([None, *array.shape[1:]], array.dtype)


def converted(function: Callable[..., tf.Tensor], **arrays: np.ndarray) -> onnx.ModelProto:
    return convert.to_onnx(lambda **t: {"out": function(**t)}, {name: spec(array) for name, array in arrays.items()})


def run(function: Callable[..., tf.Tensor], **arrays: np.ndarray) -> np.ndarray:
    return convert.session(converted(function, **arrays).SerializeToString())(arrays)["out"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.argmax(x, -1),
        lambda x: tf.argmin(x, 0, output_type=tf.int32),
        lambda x: tf.reduce_max(x, -1),
        lambda x: tf.reduce_min(x, [0, 1], keepdims=True),
        lambda x: tf.where(x > 0, x, 0.0),
        lambda x: tf.compat.v1.where(x[:, 0] > 0, x, -x),
        tf.nn.relu,
        lambda x: tf.maximum(tf.minimum(x, 1.0), -1.0),
    ],
    ids=["argmax", "argmin", "max", "min", "where", "where of rows", "relu", "clip"],
)
def test_values_that_are_not_finite_give_what_tensorflow_gives(function: Any) -> None:
    np.testing.assert_array_equal(run(lambda x: function(x), x=FLOATS), function(FLOATS))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.sort(x, -1),
        lambda x: tf.argsort(x, -1),
        lambda x: tf.math.top_k(x, 3)[0],
        lambda x: tf.math.top_k(x, 3)[1],
        lambda x: tf.argmax(x, -1),
        lambda x: tf.reduce_max(x, -1),
        lambda x: x < x[:, ::-1],
        lambda x: x >= x[:, ::-1],
        lambda x: tf.where(x > 1, x, x[:, ::-1]),
    ],
    ids=["sort", "argsort", "top_k", "top_k ids", "argmax", "max", "less", "greater or equal", "where"],
)
@pytest.mark.parametrize("x", [INT32, INT64, SMALL, HALF], ids=["int32", "int64", "uint8", "float16"])
def test_numbers_are_compared_in_their_own_dtype(function: Any, x: np.ndarray) -> None:
    np.testing.assert_array_equal(run(lambda x: function(x), x=x), function(tf.constant(x)))


def test_the_remainder_of_large_floats_is_exact() -> None:
    x = np.array([1e20, -1e20, 3e38, 7, -7, 7, -7, 1e10, NAN, INF, 0.3, -0.3, 0], np.float32)
    y = np.array([3, 3, 7, 3, 3, -3, -3, -7, 2, 2, 0.1, 0.1, -5], np.float32)
    np.testing.assert_array_equal(run(lambda x, y: x % y, x=x, y=y), tf.constant(x) % y)


@pytest.mark.parametrize("x", [INT32, INT64], ids=["int32", "int64"])
def test_products_of_integers_wrap_around(x: np.ndarray) -> None:
    x = np.concatenate([x, [[2**31 - 1, 2**31 - 1, -7, -1, 2, -300]]]).astype(x.dtype)
    np.testing.assert_array_equal(run(lambda x: tf.reduce_prod(x, 1), x=x), tf.reduce_prod(x, 1))


def test_the_logarithm_of_a_small_sigmoid_is_finite() -> None:
    """ONNX Runtime's Sigmoid is 0 below -18."""
    x = np.array([-80, -30, -18, -16, -5, -0.0, 5, 30], np.float32)
    for function in (lambda x: tf.math.log(tf.sigmoid(x)), lambda x: 1 / tf.reshape(tf.sigmoid(x), [-1])):
        np.testing.assert_allclose(run(function, x=x), function(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_smallest_integer_is_divided_by_minus_one(dtype: Any) -> None:
    """ONNX Runtime's Div ends the process: the quotient is one more than the largest integer."""
    x = np.array([np.iinfo(dtype).min, np.iinfo(dtype).min, 7, -7, 7, 5], dtype)
    y = np.array([-1, 1, -1, 2, -2, np.iinfo(dtype).min], dtype)
    for function in (lambda x, y: x // y, lambda x, y: tf.truncatediv(x, y), lambda x, y: x // dtype(-1)):
        np.testing.assert_array_equal(run(function, x=x, y=y), function(tf.constant(x), tf.constant(y)))


TABLE = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize("ids", [[0, 2], [-1, 0], [3, 0], [-3, 1], [-9, 0], [2**31 - 1, 0], [-(2**31), 1]], ids=str)
@pytest.mark.parametrize(
    "look_up",
    [
        lambda ids: tf.gather(TABLE, ids),
        lambda ids: tf.gather(TABLE.T, ids, axis=1),
        lambda ids: tf.gather_nd(TABLE, tf.reshape(ids, [1, 2])),
        lambda ids: tf.gather(tf.tile(TABLE[None], [tf.shape(ids)[0], 1, 1]), ids[:, None], batch_dims=1),
    ],
    ids=["rows", "columns", "positions", "batches"],
)
def test_ids_outside_a_table_are_refused_as_tensorflow_refuses_them(look_up: Any, ids: list[int]) -> None:
    array = np.array(ids, np.int32)
    graph = convert.session(converted(look_up, ids=array).SerializeToString())
    try:
        expected = look_up(tf.constant(array))
    except tf.errors.InvalidArgumentError:
        with pytest.raises(Exception, match=r"out of data bounds|invalid index"):
            graph({"ids": array})
    else:
        np.testing.assert_array_equal(graph({"ids": array})["out"], expected)


def test_our_own_networks_pay_nothing_for_nan() -> None:
    def classify(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"class_id": tf.argmax(x, -1), "score": tf.reduce_max(x, -1)}

    graphs = [convert.to_onnx(classify, {"x": spec(FLOATS)}, one_batch=own).graph for own in (True, False)]
    assert ["IsNaN" in {node.op_type for node in graph.node} for graph in graphs] == [False, True]


@pytest.mark.parametrize(
    ("function", "is_safe"),
    [
        (lambda x: tf.cast(x, tf.uint8), False),
        (lambda x: tf.cast(x * 255.0, tf.int16), False),
        (lambda x: tf.saturate_cast(x, tf.uint8), True),
        (lambda x: tf.cast(tf.round(tf.clip_by_value(x, 0.0, 1.0) * 255.0), tf.uint8), True),
        (lambda x: tf.cast(tf.sigmoid(x) * 255.0, tf.uint8), True),
        (lambda x: tf.cast(tf.tanh(x) * 127.5 + 127.5, tf.uint8), True),
        (lambda x: tf.cast(tf.tanh(x) * 127.5 + 127.5, tf.int8), False),
        (lambda x: tf.cast(x > 0, tf.uint8), True),
        (lambda x: tf.cast(tf.cast(x, tf.int32), tf.uint8), True),
        (lambda x: tf.cast(x, tf.int64), True),
    ],
    ids=[
        "uint8", "int16", "saturated", "clipped", "sigmoid", "tanh", "tanh to int8", "bool", "by int32", "int64"
    ],
)  # fmt: skip
def test_casts_of_floats_that_may_not_fit_are_found(function: Any, is_safe: bool) -> None:
    reason = ranges.unsafe_cast(converted(function, x=FLOATS))
    assert (reason is None) is is_safe
    assert is_safe or "outside" in str(reason)


@pytest.mark.parametrize(
    ("function", "by_value"),
    [
        (lambda n: n * 2, False),
        (lambda n: tf.reshape(n, [-1, 1]), False),
        (lambda n: tf.range(n[0]), True),
        (lambda n: tf.fill([n[0] + 1], 1.0), True),
        (lambda n: tf.pad(n, [[0, n[0]]]), True),
        (lambda n: tf.while_loop(lambda i: i < n[0], lambda i: [i + 1], [0])[0][None], True),
        (lambda n: tf.while_loop(lambda i, x: i < 3, lambda i, x: [i + 1, x + n], [0, n])[1], False),
        (
            lambda n: tf.while_loop(lambda i, x: x[0] < 3, lambda i, x: [i + 1, x + 1 + 0 * n], [0, 0 * n])[0][None],
            True,
        ),
    ],
    ids=["arithmetic", "shape", "range", "fill", "pad", "loop", "loop of three", "loop by a sum"],
)
def test_sizes_that_are_values_of_inputs_are_found(function: Any, by_value: bool) -> None:
    assert ranges.sizes_from_values(converted(function, n=np.zeros(2, np.int32))) is by_value
