from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models.mlp import HandDense


def test_a_hand_written_dense_layer_is_a_product_and_a_sum() -> None:
    layer = HandDense(3, seed=1)
    x = tf.random.stateless_normal([5, 4], seed=[0, 0])
    np.testing.assert_allclose(layer(x), x @ layer.kernel.value + layer.bias.value, atol=1e-6)
    assert layer.kernel.shape == (4, 3)


@pytest.mark.parametrize("option", ["kernel_l2", "penalty_l2"])
def test_l2_makes_weights_smaller(option: str, tiny: Any, batch: Any, losses: Any) -> None:
    sizes = []
    for weight in (0.0, 0.05):
        model = models.get("mlp").build(tiny("mlp", **{option: weight}))
        losses(model, batch("mlp", tiny("mlp")), steps=60)
        sizes.append(sum(float(tf.reduce_sum(w**2)) for w in model.get_weights() if w.ndim == 2))
    assert sizes[1] < 0.8 * sizes[0]


def test_l1_makes_most_weights_vanish(tiny: Any, batch: Any, losses: Any) -> None:
    small = []
    for weight in (0.0, 0.05):
        model = models.get("mlp").build(tiny("mlp", kernel_l1=weight))
        losses(model, batch("mlp", tiny("mlp")), steps=40)
        kernels = np.concatenate([w.ravel() for w in model.get_weights() if w.ndim == 2])
        small.append(float(np.mean(np.abs(kernels) < 2e-2)))
    assert small[0] < 0.3
    assert small[1] > 0.6


def test_the_penalty_applies_to_biases_too(tiny: Any) -> None:
    model = models.get("mlp").build(tiny("mlp", penalty_l1=0.5, penalty_l2=0.2))
    expected = sum(0.5 * np.abs(w).sum() + 0.1 * np.square(w).sum() for w in model.get_weights())
    np.testing.assert_allclose(sum(map(float, model.losses)), expected, rtol=1e-5)


def test_tensor_mlp_learns_one_hot_vectors_by_squared_error(tiny: Any, batch: Any) -> None:
    model = models.get("tensor_mlp").build(tiny("tensor_mlp"))
    image, label = batch("tensor_mlp", tiny("tensor_mlp"))
    told = model.test_step((image, label))["loss"]
    np.testing.assert_allclose(told, np.mean((np.eye(10)[label] - model(image)) ** 2), rtol=1e-5)


def test_tensor_mlp_clips_the_joint_norm_of_its_gradients(tiny: Any, batch: Any) -> None:
    model = models.get("tensor_mlp").build(tiny("tensor_mlp", clip_global_norm=1e-3, learning_rate=1.0))
    before = [w.copy() for w in model.get_weights()]
    model.train_step(batch("tensor_mlp", tiny("tensor_mlp")))
    moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(model.get_weights(), before, strict=True)))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-2)
