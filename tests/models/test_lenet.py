from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models


@pytest.fixture(scope="module")
def lenet5() -> keras.Model:
    network = models.get("lenet5")
    return network.build(network.config)


def test_layers_are_those_of_the_paper(lenet5: keras.Model) -> None:
    kernels = {layer.name: tuple(layer.kernel.shape) for layer in lenet5.layers if hasattr(layer, "kernel")}
    assert kernels == {
        "conv1": (5, 5, 1, 6),
        "conv2": (5, 5, 6, 16),
        "dense1": (400, 120),
        "dense2": (120, 84),
        "logits": (84, 10),
    }


def test_loss_falls_on_one_batch(tiny: Any, batch: Any, losses: Any) -> None:
    config = tiny("lenet5")
    values = losses(models.get("lenet5").build(config), batch("lenet5", config))
    assert values[-1] < 0.8 * values[0]


def test_signatures_answer_images_bytes_and_examples_alike(lenet5: keras.Model) -> None:
    network = models.get("lenet5")
    labels = tuple("abcdefghij")
    served = network.signatures(lenet5, network.config, models.Assets(labels))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    image = tf.constant(pixels, tf.float32) / 255
    answer = served["serving_default"](image=image)
    assert {k: (v.dtype, v.shape.as_list()) for k, v in answer.items()} == {
        "logits": (tf.float32, [3, 10]),
        "probabilities": (tf.float32, [3, 10]),
        "class_id": (tf.int64, [3]),
        "label": (tf.string, [3]),
    }
    assert [labels[i] for i in answer["class_id"]] == [x.decode() for x in answer["label"].numpy()]
    np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"], -1), 1, atol=1e-6)

    encoded = tf.stack([tf.io.encode_png(p) for p in pixels])
    by_bytes = served["serving_bytes"](image_bytes=encoded)
    np.testing.assert_allclose(by_bytes["logits"], answer["logits"], atol=1e-5)

    floats = [tf.train.Feature(float_list=tf.train.FloatList(value=i.numpy().ravel())) for i in image]
    examples = [tf.train.Example(features=tf.train.Features(feature={"image": f})) for f in floats]
    by_example = served["classify"](inputs=tf.constant([e.SerializeToString() for e in examples]))
    np.testing.assert_allclose(by_example["scores"], answer["probabilities"], atol=1e-6)
    assert by_example["classes"].numpy()[2].tolist() == [x.encode() for x in labels]
    assert served["classify"].method == "classify"


def test_signatures_need_a_label_for_each_class(lenet5: keras.Model) -> None:
    network = models.get("lenet5")
    with pytest.raises(ValueError, match="got 2 labels; expected 10"):
        network.signatures(lenet5, network.config, models.Assets(("a", "b")))


def test_dropout_acts_in_training_alone(tiny: Any) -> None:
    model = models.get("lenet5").build(tiny("lenet5", dropout=0.5))
    image = tf.random.stateless_uniform([2, 28, 28, 1], seed=[0, 0])
    np.testing.assert_array_equal(model(image, training=False), model(image, training=False))
    assert np.abs(model(image, training=True) - model(image, training=False)).max() > 0


def test_weight_decay_shrinks_kernels_and_spares_biases(tiny: Any) -> None:
    model = models.get("lenet5").build(tiny("lenet5", weight_decay=0.5, learning_rate=0.1))
    layer = model.get_layer("dense1")
    layer.bias.assign(tf.ones_like(layer.bias))
    kernel = layer.kernel.numpy()
    model.optimizer.apply([tf.zeros_like(v) for v in model.trainable_variables])
    np.testing.assert_allclose(layer.kernel, kernel * (1 - 0.1 * 0.5), rtol=1e-5)
    np.testing.assert_array_equal(layer.bias, 1)
