from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models


@pytest.fixture(scope="module")
def resnet18() -> keras.Model:
    network = models.get("resnet18")
    return network.build(network.config)


def test_stages_have_two_blocks_of_64_to_512_filters(resnet18: keras.Model) -> None:
    widths = [
        resnet18.get_layer(f"stage{stage}_block{block}_relu2").output.shape[1:]
        for stage in (1, 2, 3, 4)
        for block in (1, 2)
    ]
    assert widths == [(14, 14, 64)] * 2 + [(7, 7, 128)] * 2 + [(4, 4, 256)] * 2 + [(2, 2, 512)] * 2


def test_shortcuts_are_projected_only_where_the_shape_changes(resnet18: keras.Model) -> None:
    projected = {layer.name for layer in resnet18.layers if layer.name.endswith("_shortcut")}
    assert projected == {"stage2_block1_shortcut", "stage3_block1_shortcut", "stage4_block1_shortcut"}


def test_it_is_trained_by_adam_at_a_thousandth(resnet18: keras.Model) -> None:
    assert isinstance(resnet18.optimizer, keras.optimizers.Adam)
    assert float(resnet18.optimizer.learning_rate) == pytest.approx(1e-3)


def test_other_depths_need_only_another_tuple() -> None:
    network = models.get("resnet18")
    model = network.build(network.configured(blocks=(3, 4, 6, 3), channels=3, num_classes=100, stem_stride=1))
    assert sum("_conv" in layer.name for layer in model.layers) == 1 + 32
    assert model.output.shape == (None, 100)


def test_a_block_begins_as_its_shortcut(tiny: Any) -> None:
    model = models.get("resnet18").build(tiny("resnet18"))
    inside = keras.Model(
        model.input, [model.get_layer("stem_pool").output, model.get_layer("stage1_block1_relu2").output]
    )
    before, after = inside(tf.random.stateless_uniform([2, 28, 28, 1], seed=[0, 0]))
    np.testing.assert_array_equal(before, after)


def test_batch_normalisation_differs_in_training_and_inference(tiny: Any, batch: Any, losses: Any) -> None:
    config = tiny("resnet18")
    model = models.get("resnet18").build(config)
    image, label = batch("resnet18", config)
    np.testing.assert_allclose(model(image, training=False)[:2], model(image[:2], training=False), rtol=1e-5, atol=1e-6)
    assert np.abs(model(image, training=True)[:2] - model(image[:2], training=True)).max() > 1e-3
    values = losses(model, (image, label), steps=60)
    assert values[-1] < 0.5 * values[0]
    # Averages have settled: inference sees what training saw.
    answer = keras.losses.sparse_categorical_crossentropy(label, model(image, training=False), from_logits=True)
    assert float(tf.reduce_mean(answer)) < values[0]
