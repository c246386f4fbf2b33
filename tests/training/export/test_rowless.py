"""Inputs without rows beside inputs with rows are refused where TensorFlow refuses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.saved_model import parse_signature, read_card, read_signature_defs
from ladle.training.export.conversion import convert

X = tf.TensorSpec([None, 3], tf.float32)


class Pairs(tf.Module):
    @tf.function(input_signature=[X, X])
    def joined(self, left: tf.Tensor, right: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"out": tf.concat([left, right], 1)}

    @tf.function(input_signature=[X, X])
    def stacked(self, left: tf.Tensor, right: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"out": tf.stack([left, right], 1)}

    @tf.function(input_signature=[X, X])
    def compared(self, left: tf.Tensor, right: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"out": tf.matmul(left, right, transpose_b=True)}


def test_rows_beside_none_are_refused_as_by_tensorflow(tmp_path: Path) -> None:
    pairs = Pairs()
    functions = {"joined": pairs.joined, "stacked": pairs.stacked, "compared": pairs.compared}
    tf.saved_model.save(pairs, str(tmp_path / "1"), signatures=functions)
    assert convert(tmp_path / "1").reasons == {}
    definitions, card = read_signature_defs(tmp_path / "1"), read_card(tmp_path / "1")
    assert card is not None
    signatures = {name: parse_signature(name, definitions[name]) for name in functions}
    engine = OnnxEngine(tmp_path / "1", card, signatures)
    for name, function in functions.items():
        for rows in ((2, 2), (0, 2), (2, 0), (0, 0), (1, 0), (0, 1)):
            arrays = {side: np.ones((n, 3), np.float32) for side, n in zip(("left", "right"), rows, strict=True)}
            try:
                expected = function(**arrays)["out"]
            except (tf.errors.OpError, ValueError):
                with pytest.raises(InvalidArgument, match="different numbers of rows"):
                    engine.run(name, arrays, ("out",))
            else:
                np.testing.assert_array_equal(engine.run(name, arrays, ("out",))["out"], expected)
