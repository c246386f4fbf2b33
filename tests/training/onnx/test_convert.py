"""Functions become graphs that ONNX Runtime runs, or say why not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from tf2onnx.graph import Node

from ladle.training.onnx import convert
from ladle.training.onnx.simplify import simplify


def spec(*shape: int | None, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


def value(name: str, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def run(model: onnx.ModelProto, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    return convert.session(model.SerializeToString())(arrays)


def test_inputs_and_outputs_keep_their_names_whatever_they_are() -> None:
    names = ["my-input:0", "scores/all"]
    model = convert.to_onnx(lambda **t: {names[1]: 2.0 * t[names[0]]}, {names[0]: spec(None, 3)})
    assert [model.graph.input[0].name, model.graph.output[0].name] == names
    np.testing.assert_array_equal(run(model, **{names[0]: np.ones((2, 3), np.float32)})[names[1]], np.full((2, 3), 2))


def test_free_axes_have_names() -> None:
    model = convert.to_onnx(lambda image: {"out": image + 1.0}, {"image": spec(None, None, 4)})
    dimensions = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dimensions == ["batch", "image_1", 4]


INTEGERS = np.array([-(2**31), -86_401, -7, -1, 0, 1, 7, 86_401, 2**31 - 1])


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64], ids=["int32", "int64"])
@pytest.mark.parametrize("divisor", [3, -3, 1, 86_400], ids=str)
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "input"])
def test_integers_are_divided_as_tensorflow_divides_them(dtype: tf.DType, divisor: int, constant: bool) -> None:
    def divide(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        by = tf.constant(divisor, dtype) if constant else y
        return {"quotient": x // by, "remainder": x % by, "unused": y + 1}

    model = convert.to_onnx(divide, {"x": spec(None, dtype=dtype), "y": spec(None, dtype=dtype)})
    x = INTEGERS.astype(dtype.as_numpy_dtype)
    found = run(model, x=x, y=np.full_like(x, divisor))
    np.testing.assert_array_equal(found["quotient"], x // x.dtype.type(divisor))
    np.testing.assert_array_equal(found["remainder"], x % x.dtype.type(divisor))


@pytest.mark.parametrize(
    "function",
    [
        tf.math.erfc,
        tf.math.expm1,
        lambda x: tf.math.log1p(tf.abs(x)),
        lambda x: tf.nn.gelu(x, approximate=False),
        lambda x: tf.cast(tf.raw_ops.TruncateMod(x=tf.cast(x, tf.int32), y=3), tf.float32),
    ],
    ids=["erfc", "expm1", "log1p", "gelu", "truncate mod"],
)
def test_operations_that_tf2onnx_lacks_are_converted(function: Any) -> None:
    model = convert.to_onnx(lambda x: {"y": function(x)}, {"x": spec(None)})
    x = np.array([-8, -4, -1, -1e-3, 0, 1e-3, 1, 4, 8], np.float32)
    np.testing.assert_allclose(run(model, x=x)["y"], function(x), rtol=1e-5, atol=1e-6)


def test_images_are_padded_to_a_multiple_at_every_size() -> None:
    def pad(image: tf.Tensor) -> dict[str, tf.Tensor]:
        height, width = tf.shape(image)[1], tf.shape(image)[2]
        return {"padded": tf.pad(image, [[0, 0], [0, -height % 8], [0, -width % 8], [0, 0]])}

    model = convert.to_onnx(pad, {"image": spec(None, None, None, 3)})
    for height, width in ((33, 40), (8, 1), (64, 63)):
        image = np.ones((2, height, width, 3), np.float32)
        np.testing.assert_array_equal(run(model, image=image)["padded"], pad(image)["padded"])


@pytest.mark.parametrize("axis", [-1, 0, 1], ids=str)
@pytest.mark.parametrize("dtype", [tf.float32, tf.int32, tf.int64], ids=["float32", "int32", "int64"])
def test_one_hot_of_an_id_outside_the_depth_is_all_zeros(axis: int, dtype: tf.DType) -> None:
    ids = np.array([[-5, -1, 0], [2, 3, 400]], np.int32)
    model = convert.to_onnx(
        lambda ids: {"y": tf.one_hot(ids, 3, axis=axis, dtype=dtype)}, {"ids": spec(None, 3, dtype=tf.int32)}
    )
    found = run(model, ids=ids)["y"]
    np.testing.assert_array_equal(found, tf.one_hot(ids, 3, axis=axis, dtype=dtype))


def test_axes_share_a_name_only_if_they_are_certainly_equal() -> None:
    def score(query: tf.Tensor, documents: tf.Tensor) -> dict[str, tf.Tensor]:
        def tower(x: tf.Tensor) -> tf.Tensor:
            for size in (4, 8, 8):
                x = tf.tanh(tf.matmul(x, tf.fill([size, 8], 0.1)))
            return x

        return {"scores": tf.matmul(tower(query), tower(documents), transpose_b=True), "cosine": tower(query)}

    model = convert.to_onnx(score, {"query": spec(None, 4), "documents": spec(None, 4)})
    named = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input}
    assert named == {"query": "query_0", "documents": "documents_0"}
    named = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.output}
    assert named == {"scores": "query_0", "cosine": "query_0"}
    random = np.random.default_rng(0)
    for queries, documents in ((1, 5), (2, 3), (5, 1)):  # one name for both made ONNX Runtime reuse a short buffer
        given = {
            "query": random.random((queries, 4), np.float32),
            "documents": random.random((documents, 4), np.float32),
        }
        np.testing.assert_allclose(run(model, **given)["scores"], score(**given)["scores"], atol=1e-5)


def test_an_output_of_unknown_length_has_an_axis_of_its_own() -> None:
    model = convert.to_onnx(lambda x: {"positive": tf.boolean_mask(x, x > 0), "y": x * 2.0}, {"x": spec(None)})
    named = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.output}
    assert named == {"positive": "positive_0", "y": "batch"}


@pytest.mark.parametrize(
    ("function", "inputs", "words"),
    [
        (lambda s: {"n": tf.strings.length(s)}, {"s": spec(None, dtype=tf.string)}, 'input "s" is string'),
        (lambda x: {"s": tf.strings.as_string(x)}, {"x": spec(None)}, 'output "s" is string'),
        (lambda x: {"x": x + 1.0}, {"x": spec(None)}, '"x" names both an input and an output'),
        (lambda x: {"y": tf.linalg.sqrtm(x)}, {"x": spec(None, 2, 2)}, "ONNX has no "),
    ],
    ids=["string in", "string out", "one name twice", "operation"],
)
def test_an_error_names_what_onnx_cannot_express(function: Any, inputs: Any, words: str) -> None:
    with pytest.raises(convert.NotConvertibleError, match=words) as caught:
        convert.to_onnx(function, inputs)
    assert "\n" not in str(caught.value)


def test_a_pass_of_tf2onnx_that_fails_is_skipped() -> None:
    """Its transpose optimizer fails on a scalar that is added to a convolution."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs) + 3.0)
    converted = convert.to_onnx(lambda x: {"y": model(x, training=False)}, {"x": spec(None, 8, 8, 3)})
    x = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_allclose(run(converted, x=x)["y"], model(x), atol=1e-5)


def test_weights_are_written_once_and_not_after_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    update = Node.update_proto

    def counted(node: Any, *arguments: Any) -> None:
        written.extend([node.name] if node.is_const() else [])
        update(node, *arguments)

    monkeypatch.setattr(Node, "update_proto", counted)
    weights = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 16)
    x = np.ones((2, 3), np.float32)
    model = convert.to_onnx(lambda x: {"y": tf.transpose(x @ weights) * 2.0}, {"x": spec(None, 3)})
    np.testing.assert_allclose(run(model, x=x)["y"], (x @ weights).T * 2, rtol=1e-6)
    assert written
    assert max(Counter(written).values()) == 1
    assert Node.update_proto is counted


def test_a_convolution_in_groups_is_converted() -> None:
    """Keras compiles it with XLA on the CPU, in a function of its own."""
    inputs = keras.Input((None, None, 4))
    layer = keras.layers.Conv2D(8, 3, groups=2, strides=2, padding="same", activation="relu")
    model = keras.Model(inputs, layer(inputs))
    converted = convert.to_onnx(lambda x: {"y": model(x, training=False)}, {"x": spec(None, None, None, 4)})
    x = np.random.default_rng(0).random((2, 9, 8, 4), np.float32)
    np.testing.assert_allclose(run(converted, x=x)["y"], model(x), atol=1e-5)


@pytest.mark.parametrize("columns", [2, 300], ids=["small", "large"])
def test_constants_from_outside_the_function_become_part_of_the_graph(columns: int) -> None:
    outside = tf.constant(np.random.default_rng(0).random((3, columns), np.float32))
    model = convert.to_onnx(lambda x: {"y": tf.matmul(x, outside)}, {"x": spec(None, 3)})
    assert [value.name for value in model.graph.input] == ["x"]
    x = np.random.default_rng(1).random((4, 3), np.float32)
    np.testing.assert_allclose(run(model, x=x)["y"], x @ outside.numpy(), rtol=1e-5)


def test_tensorflow_errors_are_cut_to_their_cause() -> None:
    function = tf.function(lambda x: tf.reshape(x, [-1, 7]), input_signature=[spec(None)])
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        function(tf.ones([3]))
    assert convert.first_line(caught.value).startswith("Input to reshape is a tensor with 3 values")


def test_reshapes_to_a_free_batch_become_constant() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["expected"], axis=0),
        helper.make_node("Reshape", ["x", "expected"], ["y"]),
    ]
    constants = {"zero": [0], "one": [1], "rest": [6]}
    tensors = [numpy_helper.from_array(np.array(v, np.int64), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", "batch", 2, 3)], [value("y", "batch", 6)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    simplify(model)
    assert operations(model) == ["Reshape"]
    assert len(model.graph.initializer) == 1
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    np.testing.assert_array_equal(run(model, x=x)["y"], x.reshape(4, 6))


def test_a_simplification_that_fails_is_skipped_and_the_others_run() -> None:
    nodes = [
        helper.make_node("Reshape", ["x"], ["y"], domain="custom"),  # not ONNX's: it has no second input
        helper.make_node("Relu", ["x"], ["unused"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", "batch", 6)], [value("y", "batch", 6)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("custom", 1)])
    simplify(model)
    assert operations(model) == ["Reshape"]


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "read_elsewhere"])
def test_scaling_by_scalars_moves_behind_a_reshape(shared: bool) -> None:
    nodes = [
        helper.make_node("Mul", ["two", "x"], ["a"]),
        helper.make_node("Sub", ["one", "a"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["y"]),
        helper.make_node("Relu", ["a" if shared else "y"], ["z"]),
    ]
    constants = {"two": np.float32(2), "one": np.float32(1), "shape": np.array([-1, 1, 2, 3])}
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    outputs = [value("y", "batch", 1, 2, 3), value("z", "batch", 2, 3, 1) if shared else value("z", "batch", 1, 2, 3)]
    graph = helper.make_graph(nodes, "g", [value("x", "batch", 2, 3, 1)], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 1)).astype(np.float32)
    expected = run(model, x=x)
    simplify(model)
    onnx.checker.check_model(model, full_check=True)
    moved = ["Mul", "Reshape", "Sub", "Relu"] if shared else ["Reshape", "Mul", "Sub", "Relu"]
    assert operations(model) == moved
    for name, found in run(model, x=x).items():
        np.testing.assert_array_equal(found, expected[name])


def test_zero_states_are_left_out_and_others_kept() -> None:
    def model(state: float) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Shape", ["x"], ["shape"], start=1, end=2),
            helper.make_node("Concat", ["one", "shape", "units"], ["expected"], axis=0),
            helper.make_node("Expand", ["state", "expected"], ["first"]),
            helper.make_node("RNN", ["x", "w", "r", "", "", "first"], ["", "y"], hidden_size=2),
        ]
        random = np.random.default_rng(0)
        constants = {
            "one": np.array([1]),
            "units": np.array([2]),
            "state": np.full((1, 1, 1), state, np.float32),
            "w": random.standard_normal((1, 2, 3)).astype(np.float32),
            "r": random.standard_normal((1, 2, 2)).astype(np.float32),
        }
        tensors = [numpy_helper.from_array(v, name) for name, v in constants.items()]
        graph = helper.make_graph(nodes, "g", [value("x", 5, "batch", 3)], [value("y", 1, "batch", 2)], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    x = np.random.default_rng(1).standard_normal((5, 4, 3)).astype(np.float32)
    for state, left in ((0.0, 1), (0.5, 4)):
        expected = run(model(state), x=x)["y"]
        simplified = model(state)
        simplify(simplified)
        assert len(operations(simplified)) == left
        np.testing.assert_array_equal(run(simplified, x=x)["y"], expected)


class Leaking(keras.layers.SimpleRNNCell):
    """A cell with a SimpleRNN's operations and weights, and some more."""

    def call(self, sequence: Any, states: Any, training: bool = False) -> Any:
        output, new = super().call(sequence, states, training=training)
        return output - 0.1 * states[0], [new[0] - 0.1 * states[0]]


@pytest.mark.parametrize(
    ("layer", "operation"),
    [
        (lambda: keras.layers.LSTM(8, return_sequences=True), "LSTM"),
        (lambda: keras.layers.GRU(8, return_sequences=True), "GRU"),
        (lambda: keras.layers.GRU(8, use_bias=False), "GRU"),
        (lambda: keras.layers.GRU(8, activation="relu", go_backwards=True), "GRU"),
        (lambda: keras.layers.SimpleRNN(8), "RNN"),
        (lambda: keras.layers.SimpleRNN(8, activation="relu", return_sequences=True), "RNN"),
        (lambda: keras.layers.GRU(8, reset_after=False), "Loop"),
        (lambda: keras.layers.RNN(Leaking(8)), "Loop"),
    ],
    ids=["lstm", "gru", "without bias", "relu and backwards", "rnn", "rnn with relu", "reset before", "own cell"],
)
def test_recurrent_layers_are_native_where_onnx_has_them(layer: Any, operation: str) -> None:
    inputs = keras.Input((12, 5))
    model, random = keras.Model(inputs, layer()(inputs)), np.random.default_rng(0)
    model.set_weights([0.3 * random.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    converted = convert.to_onnx(lambda x: {"y": model(x, training=False)}, {"x": spec(None, 12, 5)})
    assert {"LSTM", "GRU", "RNN", "Loop"} & set(operations(converted)) == {operation}
    x = random.standard_normal((4, 12, 5)).astype(np.float32)
    np.testing.assert_allclose(run(converted, x=x)["y"], model(x), atol=1e-5)


def test_tensors_that_a_loop_body_reads_are_kept() -> None:
    @tf.function
    def power(x: tf.Tensor) -> dict[str, tf.Tensor]:
        scaled, total = x * 3.0, tf.zeros_like(x)
        for _ in tf.range(tf.shape(x)[0]):
            total += scaled
        return {"y": total}

    model = convert.to_onnx(power, {"x": spec(None)})
    assert "Loop" in operations(model)
    np.testing.assert_allclose(run(model, x=np.array([1, 2], np.float32))["y"], [6, 12])


def test_an_initial_state_of_one_row_is_that_of_every_row() -> None:
    source, target = keras.Input((4, 2), name="source"), keras.Input((3, 2), name="target")
    _, h, c = keras.layers.LSTM(3, return_state=True)(source)
    model = keras.Model([source, target], keras.layers.LSTM(3)(target, initial_state=[h, c]))
    specs = {name: tf.TensorSpec([None, n, 2], tf.float32) for name, n in (("source", 4), ("target", 3))}

    def answer(source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": model([source, target])}

    run = convert.session(convert.to_onnx(answer, specs).SerializeToString())
    random = np.random.default_rng(0)
    for rows in ((1, 5), (5, 1), (2, 2)):
        arrays = {
            name: random.random((n, *specs[name].shape[1:])).astype(np.float32)
            for name, n in zip(specs, rows, strict=True)
        }
        np.testing.assert_allclose(run(arrays)["y"], answer(**arrays)["y"], atol=1e-5)
