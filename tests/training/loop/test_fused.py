from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle.training.loop.fused import fuse


def norm_model(**settings: Any) -> keras.Model:
    image = keras.Input((5, 6, 3))
    norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="norm", **settings)
    model = keras.Model(image, norm(image))
    norm.gamma.assign([0.5, 1.0, 2.0])
    norm.beta.assign([0.1, 0.0, -1.0])
    return model


def trained(model: keras.Model, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Outputs in training, gradients for inputs and weights, and the averages after that step."""

    def step(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 3)
        return [y, *tape.gradient(loss, [x, *(weight.value for weight in model.trainable_variables)])]

    found = [tf.cast(value, tf.float32).numpy() for value in tf.function(step)(tf.constant(x))]
    return found + [np.asarray(weight) for weight in model.non_trainable_variables]


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-4), ("mixed_bfloat16", 0.02)])
def test_outputs_gradients_and_averages_are_those_of_keras(dtype: str, rtol: float) -> None:
    x = np.random.default_rng(0).normal(2.0, 3.0, (8, 5, 6, 3)).astype(np.float32)
    model = norm_model(dtype=dtype)
    assert fuse(model) == 1
    for fused, plain in zip(trained(model, x), trained(norm_model(dtype=dtype), x), strict=True):
        np.testing.assert_allclose(fused, plain, rtol, atol=rtol * np.abs(plain).max())


def test_a_training_graph_holds_the_one_operation_and_an_inference_graph_does_not() -> None:
    model = norm_model()
    fuse(model)
    operations = [
        {
            operation.type
            for operation in tf.function(lambda x, training=training: model(x, training=training))
            .get_concrete_function(tf.TensorSpec([None, 5, 6, 3]))
            .graph.get_operations()
        }
        for training in (True, False)
    ]
    assert "FusedBatchNormV3" in operations[0]
    assert "FusedBatchNormV3" not in operations[1]


def test_a_frozen_layer_keeps_its_averages() -> None:
    x = np.ones((2, 5, 6, 3), np.float32)
    model = norm_model()
    fuse(model)
    model.get_layer("norm").trainable = False
    before = [np.array(weight) for weight in model.weights]
    np.testing.assert_array_equal(model(x, training=True), model(x))
    for weight, was in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, was)


def test_layers_of_nested_models_are_fused_once() -> None:
    image = keras.Input((5, 6, 3))
    x = keras.layers.BatchNormalization(axis=1)(norm_model()(image))
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(x))
    model = keras.Model(image, x)
    assert fuse(model) == 1
    assert fuse(model) == 0


def test_a_written_file_is_plain_keras(tmp_path: Path) -> None:
    model = norm_model()
    fuse(model)
    model.save(tmp_path / "model.keras")
    read = keras.models.load_model(tmp_path / "model.keras")
    assert type(read.get_layer("norm")) is keras.layers.BatchNormalization
    x = np.random.default_rng(0).random((2, 5, 6, 3), np.float32)
    np.testing.assert_array_equal(read(x), model(x))
    assert fuse(read) == 1
