"""Checks of a signature become outputs of its graph, and refuse what TensorFlow refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from onnxruntime.capi.onnxruntime_pybind11_state import Fail as OrtFail
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument as OrtInvalidArgument

from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.saved_model import parse_signature, read_card, read_signature_defs
from ladle.training.export.conversion import convert
from ladle.training.onnx import convert as conversion
from ladle.training.onnx.rewrites import checks

NAN, INF = np.nan, np.inf
X, N = tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None], tf.int32, name="x")
MATRIX, IMAGE = (tf.TensorSpec(shape, tf.float32, name="x") for shape in ([None, 2, 2], [None, None, None, 3]))


def below(x: tf.Tensor) -> tf.Tensor:
    tf.debugging.assert_less(x, 150.0, message="too large")
    return x * 2.0


def asserted(x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x > -3.0), ["x is", x])]):
        return tf.identity(x)


def called(x: tf.Tensor) -> tf.Tensor:
    return tf.function(below)(x) + 1.0


def sparse_product(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """A sparse matrix of shape [2, 3], with a one at each row and column, times a dense one."""
    places = tf.cast(tf.stack([rows, columns], 1), tf.int64)
    return tf.sparse.sparse_dense_matmul(
        tf.SparseTensor(places, tf.ones_like(rows, tf.float32), [2, 3]), tf.ones([3, 2])
    )


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((2, height, width, 3), np.float32)


ONES, ID = np.ones((1, 2, 2), np.float32), np.eye(2, dtype=np.float32)[None]
CASES: dict[str, tuple[Callable[..., Any], tf.TensorSpec, list[np.ndarray]]] = {
    "assert_less": (below, X, [floats(1, 149), floats(1, 150), floats(NAN), floats()]),
    "Assert": (asserted, X, [floats(1), floats(-3), floats(-2, NAN)]),
    "in a function": (called, X, [floats(1), floats(200)]),
    "segments in order": (
        lambda x: tf.math.segment_max(tf.cast(x, tf.float32), x),
        N,
        [integers(0, 1, 1, 3), integers(1, 0), integers(-1, 0), integers(2)],
    ),
    "drawn": (
        lambda x: tf.random.stateless_normal([x[0], 2], [1, 2]),
        N,
        [integers(3), integers(-1)],
    ),
    "cropped": (
        lambda x: tf.image.crop_and_resize(
            tf.ones([2, 4, 4, 1]), tf.tile([[0.0, 0.0, 1.0, 1.0]], [tf.size(x), 1]), x, [2, 2]
        ),
        N,
        [integers(0, 1), integers(2), integers(-1)],
    ),
    "check_numerics": (
        lambda x: tf.debugging.check_numerics(x, "bad") + 1,
        X,
        [floats(1), floats(1, NAN), floats(-INF)],
    ),
    "ensure_shape": (lambda x: tf.ensure_shape(x, [3]) * 2, X, [floats(1, 2, 3), floats(1, 2), floats()]),
    "flip": (lambda x: tf.image.flip_left_right(x), IMAGE, [image(3, 4)]),
    "resize with pad": (lambda x: tf.image.resize_with_pad(x, 8, 8), IMAGE, [image(3, 4), image(9, 2)]),
    "confusion": (
        lambda x: tf.math.confusion_matrix(x, x, 3),
        N,
        [integers(0, 2), integers(3), integers(-1), integers()],
    ),
    "bincount": (
        lambda x: tf.math.bincount(x, minlength=4, maxlength=4),
        N,
        [integers(0, 3, 3), integers(4, 9), integers(-1, 2)],
    ),
    "partition": (
        lambda x: tf.concat(tf.dynamic_partition(x, x, 2), 0),
        N,
        [integers(0, 1, 0), integers(2), integers(-1, 0)],
    ),
    "scatter": (
        lambda x: tf.scatter_nd(x[:, None], tf.ones_like(x), [4]),
        N,
        [integers(0, 3, 3), integers(4), integers(-1)],
    ),
    "update": (
        lambda x: tf.tensor_scatter_nd_update(tf.zeros([4], tf.int32), x[:, None], tf.ones_like(x)),
        N,
        [integers(0, 3), integers(4), integers(-1)],
    ),
    "sorted segments": (
        lambda x: tf.math.segment_sum(tf.ones_like(x), x),
        N,
        [integers(0, 0, 2), integers(2, 1), integers(-1, 0), integers()],
    ),
    "sparse segments": (
        lambda x: tf.sparse.segment_sum(tf.eye(3), tf.zeros_like(x), x, num_segments=3),
        N,
        [integers(0, 0, 2), integers(2, 1), integers(-1, 0), integers(0, 3)],
    ),
    "power": (lambda x: tf.pow(3, x), N, [integers(0, 2, 31), integers(2, -1), integers()]),
    "broadcast": (lambda x: tf.broadcast_to(x, [2, 3]), N, [integers(1, 2, 3), integers(7), integers(1, 2)]),
    "broadcast to fewer": (lambda x: tf.broadcast_to(x, [1]), N, [integers(7), integers(1, 2)]),
    "sparse to dense": (
        lambda x: tf.sparse.to_dense(tf.SparseTensor(tf.cast(x, tf.int64)[:, None], tf.ones_like(x), [4])),
        N,
        [integers(0, 3), integers(3, 0), integers(1, 1), integers(4), integers(-1), integers()],
    ),
    "sparse to dense in any order": (
        lambda x: tf.sparse.to_dense(
            tf.SparseTensor(tf.cast(x, tf.int64)[:, None], tf.ones_like(x), [4]), validate_indices=False
        ),
        N,
        [integers(0, 3), integers(3, 0), integers(1, 1), integers(4), integers(-1)],
    ),
    "sparse rows": (lambda x: sparse_product(x, tf.zeros_like(x)), N, [integers(0, 1), integers(2), integers(-1)]),
    "sparse columns": (lambda x: sparse_product(tf.zeros_like(x), x), N, [integers(0, 2), integers(3), integers(-1)]),
    "labels of classes": (
        lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(x, tf.ones([tf.shape(x)[0], 3])),
        N,
        [integers(0, 2), integers(3, 0), integers(-1)],
    ),
    "boxes of images": (
        lambda x: tf.image.crop_and_resize(tf.ones([2, 3, 3, 1]), tf.ones([2, 4]), x, [2, 2]),
        N,
        [integers(0, 1), integers(0, 2), integers(0, -1), integers(0), integers(0, 1, 1)],
    ),
    "inverse": (tf.linalg.inv, MATRIX, [ID * 2, ONES, ID * 0]),
    "eigenvalues": (tf.linalg.eigvalsh, MATRIX, [ID * 2, ONES, ID * 0, ID * NAN]),
}


def outcome(run: Callable[[], Any]) -> np.ndarray | None:
    """The output; None if it was refused."""
    try:
        return np.asarray(run())
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.OutOfRangeError,
        ValueError,
        InvalidArgument,
        OrtInvalidArgument,
        OrtFail,
    ):
        return None


@pytest.mark.parametrize(("function", "spec", "inputs"), CASES.values(), ids=CASES)
def test_a_graph_refuses_what_tensorflow_refuses(function: Any, spec: Any, inputs: list[np.ndarray]) -> None:
    signature = tf.function(lambda *, x: {"y": function(x)}).get_concrete_function(x=spec)
    lifted, demands = checks.lifted(signature)
    specs = signature.structured_input_signature[1]
    graph = conversion.session(conversion.to_onnx(lifted.compute, specs).SerializeToString(), threads=1)
    run = checks.demanding(graph, demands)
    for x in inputs:
        expected = outcome(lambda x=x: signature(x=tf.constant(x))["y"])
        got = outcome(lambda x=x: run({"x": x})["y"])
        assert (expected is None) == (got is None), (x, demands)
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_check_in_a_loop_is_no_output() -> None:
    def function(*, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.map_fn(lambda row: tf.debugging.check_numerics(row, "bad"), x)}

    with pytest.raises(checks.NestedCheckError):
        checks.lifted(tf.function(function).get_concrete_function(x=X))


class Checked(tf.Module):
    """A signature with a check, and one that counts its calls in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = tf.Variable(0, name="calls")
        self.scale = tf.Variable(3.0, name="scale")

    @tf.function(input_signature=[X])
    def small(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.debugging.assert_less(x, 150.0, message="too large")
        return {"y": x * self.scale, "twice": x * 2.0}

    @tf.function(input_signature=[X])
    def counted(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.calls.assign_add(1)
        return {"y": x * self.scale}


def test_a_server_keeps_the_checks_and_leaves_out_what_nobody_reads(tmp_path: Path) -> None:
    module = Checked()
    tf.saved_model.save(
        module, str(tmp_path / "1"), signatures={"serving_default": module.small, "counted": module.counted}
    )
    result = convert(tmp_path / "1")
    assert result.reasons == {}
    assert sorted(result.graphs) == ["counted", "serving_default"]
    definitions = read_signature_defs(tmp_path / "1")
    signatures = {name: parse_signature(name, definitions[name]) for name in result.graphs}
    card = read_card(tmp_path / "1")
    assert card is not None
    engine = OnnxEngine(tmp_path / "1", card, signatures)
    for outputs in (("y", "twice"), ("twice",)):
        assert engine.run("serving_default", {"x": floats(1, 2)}, outputs)["twice"].tolist() == [2, 4]
        with pytest.raises(InvalidArgument, match=r"assertion failed: \[too large\]"):
            engine.run("serving_default", {"x": floats(1, 200)}, outputs)
    assert engine.run("counted", {"x": floats(1, 200)}, ("y",))["y"].tolist() == [3, 600]
