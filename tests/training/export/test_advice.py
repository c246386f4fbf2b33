"""Every operation of TensorFlow is converted, runs on the host, or is of a kind that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from tf2onnx.handler import tf_op

from ladle.serving.servables.host.loops import BLOCKS
from ladle.serving.servables.host.program import BUILDERS
from ladle.training.export.advice import SERVED, obstacle
from ladle.training.export.unsupported import KINDS, kind_of
from ladle.training.onnx.complex_numbers import REPLACED
from ladle.training.onnx.convert import OPSET
from ladle.training.onnx.decompositions import DECOMPOSITIONS
from ladle.training.onnx.operations import CONVERTERS

SPEC = tf.TensorSpec([None, 3], tf.float32, name="x")


def test_every_operation_of_tensorflow_is_converted_or_of_a_kind() -> None:
    known = {*tf_op.create_mapping(OPSET, []), *CONVERTERS, *DECOMPOSITIONS, *REPLACED, *BUILDERS, *BLOCKS}
    others = [name for name in dir(tf.raw_ops) if name[0].isupper() and name not in known]
    assert len(others) > 500
    assert [name for name in others if kind_of(name) is None] == []


def test_no_kind_is_for_nothing() -> None:
    every = [name for name in dir(tf.raw_ops) if name[0].isupper()]
    assert [kind.name for kind in KINDS if not any(kind_of(name) == kind for name in every)] == []


@pytest.mark.parametrize(
    ("operation", "compute", "cure"),
    [
        ("Svd", lambda x: tf.linalg.svd(x, compute_uv=False), "the matrix computed before"),
        ("Qr", lambda x: tf.linalg.qr(x)[0], "the matrix computed before"),
        ("RandomGamma", lambda x: tf.random.gamma([2], x), "the noise as an input"),
        ("Igamma", lambda x: tf.math.igamma(x, x), "a table or a polynomial"),
        ("StatelessRandomBinomial", lambda x: tf.random.stateless_binomial([2, 3], [1, 2], x, 0.5), "the noise"),
        (
            "FractionalAvgPool",
            lambda x: tf.nn.fractional_avg_pool(x[None, :, :, None], [1.0, 1.5, 1.5, 1.0], seed=1)[0],
            "other",
        ),
        ("QuantizeV2", lambda x: tf.quantization.quantize(x, 0.0, 1.0, tf.quint8)[1] + x, "float32"),
        ("Timestamp", lambda x: x + tf.cast(tf.timestamp(), tf.float32), "without it"),
    ],
)
def test_advice_names_operation_layer_and_cure(operation: str, compute: Any, cure: str) -> None:
    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("my_layer"):
            return {"y": compute(x)}

    found = obstacle(f"ONNX has no {operation}", tf.function(function).get_concrete_function(SPEC))
    assert found.operation == operation
    assert found.layer.startswith("my_layer")
    assert cure in found.cure
    assert found.cure.endswith(SERVED)


def test_advice_names_the_first_operation_of_a_reason() -> None:
    @tf.function(input_signature=[SPEC])
    def inner(x: tf.Tensor) -> tf.Tensor:
        with tf.name_scope("my_layer"):
            return tf.linalg.svd(x, compute_uv=False)

    function = tf.function(lambda x: {"y": inner(x)}).get_concrete_function(SPEC)
    assert obstacle("Svd (StatefulPartitionedCall/my_layer/Svd) has no kernel", function).operation == "Svd"


def test_a_tolerance_is_advised_for_a_difference_alone() -> None:
    function = tf.function(lambda x: {"y": x + 1.0}).get_concrete_function(SPEC)
    assert "--tolerance" in obstacle('output "y" differs by 1.3; at most 0.00034 is allowed', function).cure
    reason = "ONNX Runtime cannot load the graph: T of Op is bound to different types"
    assert "--tolerance" not in obstacle(reason, function).cure
