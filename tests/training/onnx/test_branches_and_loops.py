"""Branches by number and loops over elements give in a graph what TensorFlow gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.saved_model import INIT_OP, parse_signature, read_card, read_signature_defs
from ladle.training.export.conversion import convert
from ladle.training.onnx.convert import NotConvertibleError, session, to_onnx

X = np.arange(12, dtype=np.float32).reshape(4, 3) - 5.5


class Heads(tf.Module):
    """Branches with variables, of other sizes, in branches and in loops."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(np.arange(9, dtype=np.float32).reshape(3, 3) / 9)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x"), tf.TensorSpec([], tf.int32, "n")])
    def signature(self, x: tf.Tensor, n: tf.Tensor) -> dict[str, tf.Tensor]:
        inner = [lambda: x - 1.0, lambda: x * 3.0, lambda: tf.nn.relu(x)]
        chosen = tf.switch_case(n, [lambda: x + 1.0, lambda: x @ self.kernel, lambda: tf.switch_case(n - 1, inner)])
        rows = tf.switch_case(n, {0: lambda: x, 1: lambda: x[:1]}, default=lambda: tf.concat([x, x], 0))
        total = x[:, 0]
        for i in tf.range(4):
            total = tf.switch_case(i, [lambda t=total: t + 1.0, lambda t=total: t * 2.0, lambda t=total: -t])
        return {"chosen": chosen, "rows": rows, "total": total}


def test_branches_are_chosen_by_number(tmp_path: Path) -> None:
    module = Heads()
    tf.saved_model.save(module, str(tmp_path), signatures=module.signature)
    assert convert(tmp_path).reasons == {}
    card = read_card(tmp_path)
    assert card is not None
    defined = {name: parse_signature(name, d) for name, d in read_signature_defs(tmp_path).items() if name != INIT_OP}
    engine = OnnxEngine(tmp_path, card, defined)
    for n in (0, 1, 2, 3, -1, 2**31 - 1):
        expected = module.signature(X, n)
        found = engine.run("serving_default", {"x": X, "n": np.array(n, np.int32)}, tuple(expected))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=f"{name} of {n}")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.scan(lambda a, b: 0.5 * a + b, x),
        lambda x: tf.scan(lambda a, b: 0.5 * a + b, x, tf.zeros_like(x[0]), reverse=True),
        lambda x: tf.scan(lambda a, b: 0.5 * a + b, x, reverse=True),
        lambda x: tf.transpose(tf.scan(lambda a, b: 0.5 * a + b, tf.transpose(x), tf.zeros_like(x[:, 0]))),
        lambda x: tf.foldl(lambda a, b: 0.5 * a + b, x),
        lambda x: tf.foldr(lambda a, b: 0.5 * a + b, x),
        lambda x: tf.map_fn(lambda row: tf.scan(lambda a, b: a - b, row), x),
    ],
    ids=["first element", "reverse", "reverse from the last", "columns", "fold", "fold reverse", "scan in map"],
)
@pytest.mark.parametrize("rows", [4, 1])
def test_a_scan_starts_and_ends_where_tensorflow_does(function: Any, rows: int) -> None:
    x = X[:rows]
    run = session(
        to_onnx(tf.function(lambda x: {"y": function(x)}), {"x": tf.TensorSpec([None, 3])}).SerializeToString()
    )
    np.testing.assert_allclose(run({"x": x})["y"], function(tf.constant(x)), rtol=1e-6)


@pytest.mark.parametrize("has_start", [True, False])
def test_a_scan_over_columns_without_rows_keeps_their_number(has_start: bool) -> None:
    def scanned(x: tf.Tensor) -> tf.Tensor:
        start = tf.zeros_like(x[:, 0]) if has_start else None
        return tf.transpose(tf.scan(lambda a, b: 0.5 * a + b, tf.transpose(x), start))

    run = session(
        to_onnx(tf.function(lambda x: {"y": scanned(x)}), {"x": tf.TensorSpec([None, 3])}).SerializeToString()
    )
    assert run({"x": X[:0]})["y"].shape == (0, 3)


def best_boxes(x: tf.Tensor) -> tf.Tensor:
    """Boxes of each image, by a loop over images."""

    def of_one(row: tf.Tensor) -> tf.Tensor:
        boxes, scores = row[:, :4], row[:, 4]
        return tf.gather(boxes, tf.image.non_max_suppression_padded(boxes, scores, 3, pad_to_max_output_size=True)[0])

    return tf.map_fn(of_one, tf.sigmoid(x))


def solved(x: tf.Tensor) -> tf.Tensor:
    """An inverse in a branch."""
    matrix = tf.eye(5) + 0.1 * tf.matmul(x, x, transpose_b=True)
    return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.linalg.inv(matrix), lambda: matrix)


@pytest.mark.parametrize("function", [best_boxes, solved])
@pytest.mark.parametrize("rows", [3, 1])
def test_operations_in_bodies_are_those_of_a_graph(function: Any, rows: int) -> None:
    compute = tf.function(lambda x: {"y": function(x)})
    run = session(to_onnx(compute, {"x": tf.TensorSpec([None, 5, 5])}).SerializeToString(), threads=1)
    for seed in (0, 1, 2):
        x = np.random.default_rng(seed).normal(size=(rows, 5, 5)).astype(np.float32)
        np.testing.assert_allclose(run({"x": x})["y"], compute(x)["y"], rtol=1e-4, atol=1e-6)


def test_boxes_whose_scores_are_lowered_stay_on_tensorflow() -> None:
    def kept(x: tf.Tensor, sigma: float) -> dict[str, tf.Tensor]:
        at, scores = tf.image.non_max_suppression_with_scores(x[:, :4], x[:, 4], 3, soft_nms_sigma=sigma)
        return {"at": at, "scores": scores}

    specs = {"x": tf.TensorSpec([None, 5])}
    with pytest.raises(NotConvertibleError, match="NonMaxSuppressionV5 lowers the scores"):
        to_onnx(tf.function(lambda x: kept(x, 0.5)), specs)
    run = session(to_onnx(tf.function(lambda x: kept(x, 0.0)), specs).SerializeToString(), threads=1)
    x = np.random.default_rng(0).random((20, 5), np.float32)
    for name, expected in kept(tf.constant(x), 0.0).items():
        np.testing.assert_allclose(run({"x": x})[name], expected, rtol=1e-6)
