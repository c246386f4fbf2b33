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
SHIFTS = {"left": tf.bitwise.left_shift, "right": tf.bitwise.right_shift}
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


def several(function: Callable[[tf.Tensor], dict[str, tf.Tensor]], *arrays: np.ndarray) -> None:
    """One graph of several outputs agrees with TensorFlow."""
    first = arrays[0]
    loose = tf.TensorSpec([None] * first.ndim, first.dtype)
    graph = convert.session(convert.to_onnx(lambda x: function(x), {"x": loose}).SerializeToString(), threads=1)
    for x in arrays:
        got = graph({"x": x})
        for name, expected in function(tf.constant(x)).items():
            np.testing.assert_array_equal(got[name], expected, err_msg=f"{name} of {x}")


@pytest.mark.parametrize("x", [INT32, INT64], ids=["int32", "int64"])
def test_sums_products_and_powers_of_integers_wrap_around(x: np.ndarray) -> None:
    """ONNX Runtime computes them in float64, which neither wraps around nor holds all digits."""
    x = np.concatenate([x, [[2**31 - 1, 2**31 - 1, -7, -1, 2, -300]]]).astype(x.dtype)

    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "product": tf.reduce_prod(x, 1),
            "of all": tf.reduce_prod(x),
            "of known": tf.reduce_prod(tf.ensure_shape(x[:, :3], [None, 3]), 1, keepdims=True),
            "sum": tf.reduce_sum(x, 1),
            "sum of all": tf.reduce_sum(x, keepdims=True),
            "count": tf.math.count_nonzero(x, 0),
            "square": tf.pow(x, 2),
            "power": tf.pow(x, 31),
            "powers": tf.pow(x, tf.range(tf.shape(x)[-1])[::-1] if x.dtype == tf.int32 else tf.abs(x) % 9),
        }

    several(function, x, x[:1], x[:0])


def test_the_largest_of_no_values_is_what_tensorflow_gives() -> None:
    for dtype in (np.float32, np.int8, np.int16, np.int64):
        several(
            lambda x: {"max": tf.reduce_max(x, 1), "min": tf.reduce_min(x, 1), "of all": tf.reduce_max(x)},
            np.array([[3, -1, 2]], dtype),
            np.zeros((2, 0), dtype),
            np.zeros((0, 3), dtype),
        )


def test_the_mean_of_no_values_is_not_a_number() -> None:
    for dtype in (np.float16, np.float32):
        several(
            lambda x: {"mean": tf.reduce_mean(x, 1), "all": tf.reduce_mean(x)},
            np.zeros((2, 0), dtype),
            np.eye(2, dtype=dtype),
        )


def test_a_size_that_is_computed_may_be_0() -> None:
    several(
        lambda x: {
            "to none": tf.reshape(x[:, :0], [tf.size(x) % 2, 3]),
            "same": tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], 1]),
            "rows": tf.reshape(x, [tf.shape(x)[0] * 2, -1]),
        },
        np.ones((3, 4), np.float32),
        np.ones((2, 2), np.float32),
    )


def test_the_logarithm_of_a_large_float64_is_finite() -> None:
    x = np.array([1e200, 1e-200, 2.0, 0.0, -1.0])
    np.testing.assert_allclose(run(lambda x: tf.math.log(x), x=x), tf.math.log(x), rtol=1e-12)


def test_shifts_by_any_count_are_cut_off_at_the_last_bit() -> None:
    counts = (0, 7, 31, 32, 40, -1)
    several(
        lambda x: {f"{n} {kind}": shift(x, n) for n in counts for kind, shift in SHIFTS.items()},
        np.array([[1, -7, 2**30, -(2**31), 255, 0]], np.int32),
    )
    several(
        lambda x: {kind: shift(x, tf.constant(9, tf.uint8)) for kind, shift in SHIFTS.items()},
        np.array([[1, 7, 128, 255, 254, 0]], np.uint8),
    )


def test_small_numbers_keep_their_digits_where_1_is_added() -> None:
    x = np.array([1e-9, -1e-7, 3e-5, -0.01, 0.3, -0.6, 5, 80, 0, INF, -1, NAN], np.float32)
    for function in (tf.math.expm1, tf.math.log1p):
        np.testing.assert_allclose(run(lambda x, f=function: f(x), x=x), function(x), rtol=2e-6)


def test_a_softmax_of_values_that_are_not_finite_gives_what_tensorflow_gives() -> None:
    masked = np.array([[-INF, 1, 2], [-INF, -INF, -INF], [1e38, -1e38, 3], [1e4, -INF, 1e4]], np.float32)
    bad = np.array([[NAN, 1, 2], [1, INF, 2], [INF, INF, -INF], [NAN, NAN, NAN]], np.float32)
    for function in (tf.nn.softmax, tf.nn.log_softmax):
        np.testing.assert_allclose(run(lambda x, f=function: f(x), x=masked), function(masked), rtol=1e-6)
        got = run(lambda x, f=function: f(x), x=bad)
        assert np.isnan(got).all()
        # oneDNN's kernel, which TensorFlow takes on some processors, answers by the place of NaN in a vector.
        expected = function(tf.constant(bad, tf.float64))
        assert np.isnan(expected).all()


def test_the_logarithm_of_a_small_sigmoid_is_finite() -> None:
    """ONNX Runtime's Sigmoid is 0 below -18."""
    x = np.array([-80, -30, -18, -16, -5, -0.0, 5, 30], np.float32)
    for function in (lambda x: tf.math.log(tf.sigmoid(x)), lambda x: 1 / tf.reshape(tf.sigmoid(x), [-1])):
        np.testing.assert_allclose(run(function, x=x), function(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.math.divide_no_nan(tf.tanh(tf.sigmoid(x)), tf.nn.relu(tf.tanh(tf.sigmoid(x)))),
        lambda x: tf.math.log(tf.sigmoid(x) * tf.sigmoid(-x / 9)),
        lambda x: tf.sign(tf.sigmoid(x)),
        lambda x: tf.cast(tf.sigmoid(x) > 0, tf.float32),
        lambda x: tf.cast(tf.math.top_k(tf.sigmoid(x), 8)[1], tf.float32),
        lambda x: tf.math.divide_no_nan(tf.atan(tf.math.erfc(-x / 9)), tf.nn.relu(tf.atan(tf.math.erfc(-x / 9)))),
    ],
    ids=["quotient", "logarithm of a product", "sign", "comparison", "order", "quotient of erfc"],
)
def test_small_values_of_sigmoid_and_erfc_count_behind_other_functions(function: Any) -> None:
    x = np.array([-75, -40, -30, -25, -19, -18.5, -5, 30], np.float32)
    np.testing.assert_allclose(run(lambda x: function(x), x=x), function(x), rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.einsum("...ij,jk->...ik", x, np.arange(6, dtype=np.float32).reshape(3, 2)),
        lambda x: tf.einsum("...ij,...jk->...ik", x, np.arange(6, dtype=np.float32).reshape(3, 2)),
        lambda x: tf.experimental.numpy.take_along_axis(x, tf.argsort(x, 0)[:1], 0),
        lambda x: tf.dynamic_stitch([[2, 0], [1, 2]], [x[:2], -x[:2]]),
    ],
    ids=["ellipsis of one", "ellipsis of no axis", "along the first axis", "stitched"],
)
def test_axes_are_those_of_tensorflow(function: Any) -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(run(lambda x: function(x), x=x), function(tf.constant(x)), rtol=1e-5)


def test_the_gradient_of_a_slice_is_put_back_where_it_was() -> None:
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(tf.square(x[1:, ::-2])) + tf.reduce_sum(x[:, 0] * 3.0)
        return tape.gradient(score, x)

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_allclose(run(gradient, x=x), gradient(tf.constant(x)))


def test_erfc_keeps_its_digits_over_the_whole_range() -> None:
    sizes = np.concatenate([np.logspace(-44, 38, 400), np.linspace(0, 11, 400), [INF, NAN]])
    x = np.concatenate([sizes, -sizes]).astype(np.float32)
    got, expected = run(tf.math.erfc, x=x), tf.math.erfc(x)
    np.testing.assert_allclose(got, expected, rtol=5e-6, atol=1e-38)
    np.testing.assert_array_equal(got > 0, expected > 0)


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


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (16, 9)], ids=str)
def test_dilated_convolutions_of_images_of_any_size_are_padded(size: tuple[int, int]) -> None:
    """ONNX Runtime has no kernel for dilations with automatic padding."""
    kernel = np.random.default_rng(0).standard_normal((3, 2, 2, 4)).astype(np.float32)

    def dilated(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"out": tf.nn.conv2d(x, kernel, 1, "SAME", dilations=[3, 2])}

    image = np.random.default_rng(1).standard_normal((2, *size, 2)).astype(np.float32)
    graph = convert.to_onnx(dilated, {"x": tf.TensorSpec([None, None, None, 2])})
    got = convert.session(graph.SerializeToString(), threads=1)({"x": image})["out"]
    np.testing.assert_allclose(got, dilated(image)["out"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", [tf.nn.max_pool2d, tf.nn.avg_pool2d], ids=["max", "average"])
def test_images_smaller_than_a_window_are_refused(pool: Any) -> None:
    """TensorFlow's pool gives an image without pixels, ONNX Runtime's one pixel."""

    def pooled(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"out": tf.reduce_mean(pool(pool(x, 2, 2, "VALID"), 3, 1, "VALID"), [1, 2])}

    graph = convert.to_onnx(pooled, {"x": tf.TensorSpec([None, None, None, 2])})
    run = convert.session(graph.SerializeToString(), threads=1)
    image = np.random.default_rng(0).standard_normal((2, 9, 9, 2)).astype(np.float32)
    for height, width in ((6, 6), (9, 7)):
        x = image[:, :height, :width]
        np.testing.assert_allclose(run({"x": x})["out"], pooled(x)["out"], rtol=1e-5, atol=1e-6)
    for height, width in ((5, 9), (9, 1), (1, 1)):
        with pytest.raises(Exception, match="Non-zero status code"):
            run({"x": image[:, :height, :width]})


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
